//! `oh goal`.

use clap::Args;
use openhands::{
    Conversation, Cursor, RunOutcome,
    conversation::{Goal, GoalProgress, NumberedEvents},
    protocol::state::{GoalState, GoalStatus},
};

use crate::{
    exit::{Exit, Failure, Outcome},
    records::Record,
    refresh,
    run::output::Output,
    server::At,
    signals::{Signal, Signals, stopped},
    target::Target,
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: At,
    /// The id of the run, or its beginning.
    id: String,
    /// The objective. After each round, the agent's model judges whether it has been reached.
    objective: String,
    /// The largest number of rounds.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_iterations: u32,
    /// Print one JSON object a line, as `oh run` does, with the rounds.
    #[arg(long)]
    json: bool,
}

/// Lets the agent work until an objective is reached.
pub(crate) async fn goal(options: Options) -> Outcome {
    let output = Output::new(options.json);
    let mut signals = Signals::new()?;
    let begun = async {
        let target = Target::find(&options.id, &options.at).await?;
        let conversation = target.attach().await?;
        let events = conversation.subscribe(Cursor::Now).numbered();
        let goal = conversation.goals().start(&options.objective);
        let goal = goal.max_iterations(options.max_iterations).await?;
        Ok::<_, Failure>((target, conversation, events, goal))
    };
    let (target, conversation, events, goal) = tokio::select! {
        begun = begun => begun?,
        // Dropping the start ends what it has started.
        signal = signals.next() => return Ok(stopped(signal)),
    };
    let mut record = match &target.record {
        Some(record) => record.clone(),
        None => Record::new(target.id, &options.objective),
    };
    if options.json {
        record.server_version = target.server.version();
        let path = target.path.as_ref().map(|path| path.to_string_lossy());
        output.started(&record, path.as_deref());
    }
    let watching = output.watch(&conversation);
    let mut pursuit = Pursuit {
        conversation: &conversation,
        progress: goal.progress(),
        goal,
        events,
        output: &output,
        stopping: None,
        judged: 0,
    };
    let end = pursuit.until_the_end(&mut signals).await;
    let stopping = pursuit.stopping;
    drop(watching);
    let last = conversation
        .join()
        .timeout(std::time::Duration::ZERO)
        .await
        .ok();
    let exit = end.map(|end| exit_of(end.as_ref(), stopping, last.as_ref(), &output));
    refresh::summarize(&mut record, &conversation, last.as_ref());
    let stored = refresh::store(&target, &record, &conversation, None).await;
    conversation.close().await?;
    if let Ok(exit) = exit {
        record.exit_code = Some(exit.code());
        output.ended(&record, None);
    }
    tokio::select! {
        ended = target.end() => ended?,
        // Dropping the server ends it at once.
        _ = signals.next() => {}
    }
    stored?;
    exit
}

struct Pursuit<'a> {
    conversation: &'a Conversation,
    goal: Goal,
    progress: GoalProgress,
    events: NumberedEvents,
    output: &'a Output,
    stopping: Option<Signal>,
    /// The last round whose judgment was shown.
    judged: u64,
}

impl Pursuit<'_> {
    /// Shows events and progress until the goal has ended. `None` if the user has left.
    async fn until_the_end(
        &mut self,
        signals: &mut Signals,
    ) -> Result<Option<GoalStatus>, Failure> {
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => match self.stopping.replace(signal) {
                    Some(_) => return Ok(None),
                    None => self.stop(),
                },
                Some(event) = self.events.next() => {
                    let (seq, event) = event?;
                    self.output.event(seq, &event);
                }
                status = self.progress.next() => match status {
                    Some(status) => {
                        let status = status?;
                        self.show(&status);
                        if !status.active {
                            return Ok(Some(status));
                        }
                    }
                    None => return Err(self.conversation.link().ended().await.into()),
                },
            }
        }
    }

    /// Shows the judgment about a round, once.
    fn show(&mut self, status: &GoalStatus) {
        if let Some(verdict) = &status.verdict
            && self.judged < status.iteration
        {
            self.judged = status.iteration;
            let (round, rounds) = (status.iteration, status.max_iterations);
            let missing = verdict.missing.as_ref();
            self.output
                .goal_round(round, rounds, verdict.score, missing);
        }
    }

    /// Stops the goal and the agent, in the background: a second signal must not wait for that.
    fn stop(&self) {
        let (goal, conversation) = (self.goal.clone(), self.conversation.clone());
        let output = self.output.clone();
        output.note("stopping the goal; press Ctrl-C again to leave");
        tokio::spawn(async move {
            let stopped = async {
                goal.stop().await?;
                conversation.interrupt().await
            };
            if let Err(error) = stopped.await {
                output.note(&error.to_string());
            }
        });
    }
}

/// Returns the exit code, and shows how the goal has ended.
fn exit_of(
    end: Option<&GoalStatus>,
    stopping: Option<Signal>,
    last: Option<&RunOutcome>,
    output: &Output,
) -> Exit {
    let Some(end) = end else {
        return stopping.map_or(Exit::Interrupted, stopped);
    };
    output.goal_ended(&end.status.to_string(), end.iteration);
    match (&end.status, stopping, last) {
        (GoalState::Complete, ..) => Exit::Finished,
        (_, Some(signal), _) => stopped(signal),
        (GoalState::Capped, ..) => Exit::Budget,
        (_, None, Some(last)) if !last.is_finished() => Exit::of(last),
        _ => Exit::Agent,
    }
}
