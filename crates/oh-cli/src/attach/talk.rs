//! The conversation with an agent while its events are shown.

use std::{collections::VecDeque, time::Duration};

use openhands::{
    ApprovalEvent, Conversation, Cursor, Event, ExecutionStatus, Payload, RunOutcome, RunStatus,
    conversation::{self, ErrorKind, NumberedEvents, PendingAction},
    protocol::event::StateChange,
};
use tokio::task::JoinSet;

use crate::{
    exit::{Exit, Failure},
    refresh::error_of,
    run::output::Output,
    signals::{Signal, Signals},
    talk::{
        answer::{answer, ids},
        command::{Command, HELP},
        input::{Answer, Input},
    },
};

/// Time in which the events that have arrived must be shown.
const SHOWING: Duration = Duration::from_secs(5);
const QUESTION: &str = "Answer with /approve or /reject [REASON].\n";

/// Why the talk has ended.
pub(super) enum Left {
    /// The user has left.
    Quit,
    Signal(Signal),
    /// The run has ended, and nobody can type.
    Ended,
    /// The reader of the output is gone.
    Closed,
    /// The connection has ended.
    Lost(Failure),
}

/// A step of the work; steps are done one after another.
enum Act {
    Message(String),
    Answer(Vec<PendingAction>, Answer),
}

/// The result of an act.
enum Done {
    /// The agent works. `run`: it has to be started first.
    Working {
        run: bool,
    },
    /// The agent stops.
    Stopping,
    /// Another program was faster.
    TooLate(String),
    Failed(String),
}

pub(super) struct Talk<'a> {
    conversation: &'a Conversation,
    output: &'a Output,
    events: NumberedEvents,
    /// Whether somebody may type.
    typing: bool,
    /// The `seq` of the last event that was shown.
    shown: Option<u64>,
    /// The actions that wait for an answer, as they were shown.
    open: Vec<PendingAction>,
    /// The ids of the actions that this program has answered last.
    answered: Vec<String>,
    queue: VecDeque<Act>,
    /// At most one message or answer.
    acting: JoinSet<Done>,
    /// Requests to stop the agent, which wait for nothing.
    stopping: JoinSet<Done>,
    watch: Watch,
    /// The end of the last run.
    pub(super) last: Option<RunOutcome>,
}

/// The wait for the end of a run.
#[derive(Default)]
struct Watch {
    waiting: JoinSet<conversation::Result<RunOutcome>>,
    /// The last event before the wait.
    from: Option<u64>,
    /// Whether the log shows an end since the wait began, and then another run.
    ended: bool,
    begun_again: bool,
}

impl Watch {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn begin(&mut self, conversation: &Conversation, run: bool, from: Option<u64>) {
        let wait = match run {
            true => conversation.run(),
            false => conversation.join(),
        };
        self.waiting.abort_all();
        self.waiting = JoinSet::new();
        self.waiting.spawn(wait);
        (self.from, self.ended, self.begun_again) = (from, false, false);
    }

    fn see(&mut self, seq: u64, running: bool) {
        if self.from.is_none_or(|from| seq > from) {
            match running {
                true => self.begun_again = self.ended,
                false => (self.ended, self.begun_again) = (true, false),
            }
        }
    }
}

impl<'a> Talk<'a> {
    /// Begins with the newest `tail` events.
    pub(super) fn new(conversation: &'a Conversation, output: &'a Output, tail: usize) -> Self {
        let events = conversation.events();
        let mut held = events.numbered();
        let cursor = match held.nth(held.len().saturating_sub(tail)) {
            Some((0, _)) => Cursor::Start,
            Some((seq, _)) => Cursor::After(seq - 1),
            None => newest(conversation).map_or(Cursor::Start, Cursor::After),
        };
        Self {
            conversation,
            output,
            events: conversation.subscribe(cursor).numbered(),
            typing: true,
            shown: None,
            open: Vec::new(),
            answered: Vec::new(),
            queue: VecDeque::new(),
            acting: JoinSet::new(),
            stopping: JoinSet::new(),
            watch: Watch::default(),
            last: None,
        }
    }

    /// Shows the events, and does what is typed, until the user leaves or the run has ended and
    /// nobody can type.
    pub(super) async fn until_left(&mut self, input: &mut Input, signals: &mut Signals) -> Left {
        let mut approvals = self.conversation.approvals().events();
        self.typing = !matches!(input, Input::Nobody);
        let newest = newest(self.conversation);
        self.watch.begin(self.conversation, false, newest);
        loop {
            if self.output.is_closed() {
                return Left::Closed;
            }
            if !self.typing && self.is_over() {
                return Left::Ended;
            }
            self.act_next();
            tokio::select! {
                biased;
                signal = signals.next() => return Left::Signal(signal),
                event = self.events.next() => match event {
                    Some(Ok((seq, event))) => self.show(seq, &event),
                    Some(Err(error)) => return Left::Lost(error.into()),
                    None => return Left::Lost(self.ended().await),
                },
                Some(change) = approvals.next() => {
                    self.catch_up().await;
                    self.approvals_changed(change, input);
                }
                Some(done) = self.acting.join_next() => self.did(done),
                Some(done) = self.stopping.join_next() => self.did(done),
                Some(outcome) = self.watch.waiting.join_next() => match outcome {
                    Ok(Ok(outcome)) => self.run_ended(outcome).await,
                    Ok(Err(error)) => return Left::Lost(error.into()),
                    Err(error) => return Left::Lost(Exit::Internal.because(error.to_string())),
                },
                line = input.line(), if self.typing => match line {
                    Some(line) => {
                        if let Some(left) = self.typed(&line, input) {
                            return left;
                        }
                    }
                    None if matches!(input, Input::Person(_)) => return Left::Quit,
                    None => self.typing = false,
                },
            }
        }
    }

    /// Returns whether the agent does nothing more, and nothing is left to do.
    fn is_over(&self) -> bool {
        self.last.is_some()
            && self.watch.is_idle()
            && self.queue.is_empty()
            && self.acting.is_empty()
            && self.stopping.is_empty()
    }

    fn show(&mut self, seq: u64, event: &Event) {
        self.shown = Some(seq);
        self.output.event(seq, event);
        if let Some(status) = status_in(event) {
            let running = status.is_running();
            self.watch.see(seq, running);
            let new = self.watch.from.is_none_or(|from| seq > from);
            if new && running && self.watch.is_idle() {
                self.watch.begin(self.conversation, false, Some(seq));
            }
        }
    }

    /// Shows all events that have arrived.
    async fn catch_up(&mut self) {
        let target = newest(self.conversation);
        let showing = async {
            while self.shown < target
                && let Some(Ok((seq, event))) = self.events.next().await
            {
                self.show(seq, &event);
            }
        };
        // An event whose place is not yet known is shown later.
        let _ = tokio::time::timeout(SHOWING, showing).await;
    }

    async fn run_ended(&mut self, outcome: RunOutcome) {
        self.catch_up().await;
        let from = self.shown.max(self.watch.from);
        let again = self.watch.begun_again;
        // What was shown until now belongs to this run.
        self.watch.from = from;
        let waits = outcome.status() == RunStatus::WaitingForConfirmation;
        if again {
            self.watch.begin(self.conversation, false, from);
        }
        // Waiting actions are shown as such.
        if !waits {
            let error = error_of(&outcome);
            let (status, exit) = (outcome.status().to_string(), Exit::of(&outcome));
            self.output
                .run_ended(&status, exit.code(), error.as_deref());
        }
        self.last = Some(outcome);
    }

    fn approvals_changed(&mut self, change: ApprovalEvent, input: &mut Input) {
        match change {
            ApprovalEvent::Requested(actions) => {
                // An answer that was typed before the question does nothing.
                while let Some(line) = input.early() {
                    match Command::is_answer(&line) {
                        true => {
                            let early = "typed before the actions were shown: nothing was done";
                            self.output.input_rejected(early);
                        }
                        false => drop(self.typed(&line, input)),
                    }
                }
                let question = if self.typing { QUESTION } else { "" };
                self.output.approval_requested(&actions, question);
                self.open = actions;
            }
            ApprovalEvent::Withdrawn(_) => self.close_approval(),
            _ => {}
        }
    }

    fn close_approval(&mut self) {
        let ids = ids(&self.open);
        if ids.is_empty() {
            return;
        }
        match self.answered == ids {
            true => self.output.approval_closed(&ids),
            false => self.output.approval_withdrawn(&ids),
        }
        self.open.clear();
    }

    /// Does what a line says.
    fn typed(&mut self, line: &str, input: &Input) -> Option<Left> {
        let named = ids(&self.open);
        let command = match input {
            Input::Program(_) => Command::of_program(line, &named),
            Input::Person(_) | Input::Nobody => Command::of_person(line, &named),
        };
        match command {
            Err(message) => self.output.input_rejected(&message),
            Ok(Command::Message(text)) => self.queue.push_back(Act::Message(text)),
            Ok(Command::Answer(answer)) => {
                self.answered = named;
                self.queue.push_back(Act::Answer(self.open.clone(), answer));
            }
            Ok(Command::Run) => {
                if self.watch.is_idle() {
                    self.watch.begin(self.conversation, true, self.shown);
                }
            }
            Ok(Command::Pause) => self.stop(self.conversation.pause()),
            Ok(Command::Interrupt) => self.stop(self.conversation.interrupt()),
            Ok(Command::Help) => self.output.note(HELP),
            Ok(Command::Quit) => return Some(Left::Quit),
            Ok(Command::Nothing) => {}
        }
        None
    }

    /// Stops the agent, at once: nothing that is under way delays that.
    fn stop(&mut self, stopping: conversation::Request<()>) {
        self.stopping.spawn(async move {
            match stopping.await {
                Ok(()) => Done::Stopping,
                Err(error) => Done::Failed(error.to_string()),
            }
        });
    }

    /// Begins with the next thing to do, if nothing is under way.
    fn act_next(&mut self) {
        if !self.acting.is_empty() {
            return;
        }
        let Some(act) = self.queue.pop_front() else {
            return;
        };
        let conversation = self.conversation.clone();
        self.acting.spawn(async move {
            match act {
                Act::Message(text) => match conversation.send(text).and_run().await {
                    Ok(()) => Done::Working { run: false },
                    Err(error) if error.kind() == ErrorKind::PendingConfirmation => {
                        let first = "an action waits for approval: answer that first; the message \
                                     was not sent";
                        Done::Failed(first.to_owned())
                    }
                    Err(error) => Done::Failed(error.to_string()),
                },
                Act::Answer(actions, given) => {
                    let approves = given.approve;
                    match answer(&conversation, &actions, given).await {
                        // The agent gets the reason of a rejection in its next run.
                        Ok(None) => Done::Working { run: !approves },
                        Ok(Some(faster)) => Done::TooLate(faster),
                        Err(failure) => Done::Failed(failure.message),
                    }
                }
            }
        });
    }

    fn did(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Working { run }) => {
                if run || self.watch.is_idle() {
                    self.watch.begin(self.conversation, run, self.shown);
                }
            }
            Ok(Done::Stopping) => {}
            Ok(Done::TooLate(message) | Done::Failed(message)) => {
                self.output.input_rejected(&message);
            }
            Err(error) => self.output.input_rejected(&error.to_string()),
        }
    }

    /// Returns why the connection has ended.
    async fn ended(&self) -> Failure {
        self.conversation.link().ended().await.into()
    }
}

fn newest(conversation: &Conversation) -> Option<u64> {
    let events = conversation.events();
    let newest = events.numbered().next_back();
    newest.map(|(seq, _)| seq)
}

fn status_in(event: &Event) -> Option<ExecutionStatus> {
    if event.kind() != "ConversationStateUpdateEvent" {
        return None;
    }
    match event.decode() {
        Payload::ConversationStateUpdate(update) => match update.change {
            StateChange::ExecutionStatus(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}
