//! Attends to a run: sends the message, waits, asks for approvals, reacts to signals.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use openhands::{ApprovalEvent, Conversation, RunOutcome, RunStatus, conversation::PendingAction};

use super::{
    output::Output,
    rules::{Rule, approve_all},
};
use crate::{
    exit::{Exit, Failure},
    signals::{Signal, Signals, stopped},
    talk::{
        answer::{answer, ids},
        input::{Answer, Input},
    },
};

/// Time in which an interrupted run must end.
const SETTLE: Duration = Duration::from_secs(10);
/// The question to a person, after the actions.
const QUESTION: &str = "Approve? y, or n, or the reason for a rejection: ";

pub(super) struct Attention<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) output: &'a Output,
    /// Rules that approve without a question.
    pub(super) rules: &'a [Rule],
    pub(super) max_cost: Option<f64>,
    pub(super) deadline: Option<Instant>,
}

/// How the run ended for this program.
pub(super) enum End {
    Outcome(RunOutcome, Exit),
    /// The user did not want to wait.
    Left(Signal),
}

/// The end of a wait.
enum Waited<T> {
    Done(T),
    Left(Signal),
}

impl Attention<'_> {
    /// Sends the message, and runs the agent until nothing more happens without the user.
    pub(super) async fn until_the_end(
        &self,
        message: Option<String>,
        input: &mut Input,
        signals: &mut Signals,
    ) -> Result<End, Failure> {
        let mut stopping = None;
        if let Some(message) = message {
            self.conversation.send(message).await?;
        }
        loop {
            let mut run = self.conversation.run();
            if let Some(dollars) = self.max_cost {
                run = run.max_total_cost(dollars);
            }
            if let Some(deadline) = self.deadline {
                run = run.timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let outcome = match self.watched(run, &mut stopping, signals).await {
                Waited::Done(outcome) => outcome?,
                Waited::Left(signal) => return Ok(End::Left(signal)),
            };
            let exit = match (outcome.status(), stopping) {
                (RunStatus::Paused, Some(Signal::Terminate)) => Exit::Terminated,
                (RunStatus::StillRunning, _) => return self.interrupted(outcome).await,
                (RunStatus::WaitingForConfirmation, None) => {
                    match self.asked(input, signals).await? {
                        Asked::Answered => continue,
                        Asked::Nobody => Exit::Waiting,
                        Asked::Stopped(signal) => stopped(signal),
                    }
                }
                _ => Exit::of(&outcome),
            };
            return Ok(End::Outcome(outcome, exit));
        }
    }

    /// Stops a run whose time is over.
    async fn interrupted(&self, outcome: RunOutcome) -> Result<End, Failure> {
        self.conversation.interrupt().await?;
        // The outcome says that the time was over, even if the run has ended by now.
        let _ = self.conversation.join().timeout(SETTLE).await?;
        Ok(End::Outcome(outcome, Exit::Time))
    }

    /// Waits for the work, and reacts to signals: the first one stops the agent, another one
    /// leaves.
    async fn watched<T>(
        &self,
        work: impl Future<Output = T>,
        stopping: &mut Option<Signal>,
        signals: &mut Signals,
    ) -> Waited<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Waited::Done(done),
                signal = signals.next() => match (signal, *stopping) {
                    (signal, Some(_)) => return Waited::Left(signal),
                    (signal, None) => {
                        *stopping = Some(signal);
                        self.stop(signal);
                    }
                },
            }
        }
    }

    /// Stops the agent, in the background: a second signal must not wait for that.
    fn stop(&self, signal: Signal) {
        let (conversation, output) = (self.conversation.clone(), self.output.clone());
        tokio::spawn(async move {
            let stopped = match signal {
                Signal::Interrupt => {
                    output.note("pausing after the current step; press Ctrl-C again to leave");
                    conversation.pause().await
                }
                Signal::Terminate => conversation.interrupt().await,
            };
            if let Err(error) = stopped {
                output.note(&error.to_string());
            }
        });
    }

    /// Asks for an answer to the waiting actions.
    async fn asked(&self, input: &mut Input, signals: &mut Signals) -> Result<Asked, Failure> {
        let mut changes = self.conversation.approvals().events();
        let (mut open, mut named): (Vec<PendingAction>, Vec<String>) = Default::default();
        loop {
            let change = tokio::select! {
                biased;
                // Nothing runs that would have to be paused.
                signal = signals.next() => return Ok(Asked::Stopped(signal)),
                change = changes.next() => change,
                line = input.next(&named), if !named.is_empty() => match line {
                    None => return Ok(Asked::Nobody),
                    Some(Err(message)) => {
                        self.output.input_rejected(&message);
                        continue;
                    }
                    Some(Ok(given)) => {
                        if let Some(faster) = answer(self.conversation, &open, given).await? {
                            self.output.input_rejected(&faster);
                        }
                        self.output.approval_closed(&named);
                        return Ok(Asked::Answered);
                    }
                },
            };
            match change {
                Some(ApprovalEvent::Requested(actions)) if approve_all(self.rules, &actions) => {
                    let given = Answer::approval(&actions);
                    match answer(self.conversation, &actions, given).await? {
                        Some(faster) => self.output.input_rejected(&faster),
                        None => self.output.approved_by_rule(&ids(&actions)),
                    }
                    return Ok(Asked::Answered);
                }
                Some(ApprovalEvent::Requested(_)) if matches!(input, Input::Nobody) => {
                    return Ok(Asked::Nobody);
                }
                Some(ApprovalEvent::Requested(actions)) => {
                    input.forget();
                    self.output.approval_requested(&actions, QUESTION);
                    named = ids(&actions);
                    open = actions;
                }
                // Answered by another program.
                Some(ApprovalEvent::Withdrawn(_)) => {
                    self.output.approval_withdrawn(&named);
                    return Ok(Asked::Answered);
                }
                Some(_) => {}
                None => return Ok(Asked::Nobody),
            }
        }
    }
}

/// How a request for approval ended.
enum Asked {
    /// Here, or by another program.
    Answered,
    /// There is no source of answers, or no more of them.
    Nobody,
    Stopped(Signal),
}
