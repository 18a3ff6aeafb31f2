//! How a run ended, and what it used.

use std::{fmt, time::Duration};

use oh_protocol::event::ConversationErrorEvent;

use crate::{Error, ErrorKind, Result, Usage};

/// How a run ended, or that it did not within the time given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunStatus {
    /// The agent is done.
    Finished,
    /// Someone paused or interrupted the run; another run continues it.
    Paused,
    /// An action waits for approval: see [`Conversation::approvals`](crate::Conversation::approvals).
    WaitingForConfirmation,
    /// The stuck detector ended the run.
    Stuck,
    /// The run failed: see [`RunOutcome::error`]. Another run may succeed.
    Error,
    /// The run ended without the agent being done, such as after a rejection.
    Idle,
    /// The time limit of the wait is over. The run goes on; run again to join it.
    StillRunning,
    /// The run was interrupted because it reached `max_cost` or `max_tokens`.
    BudgetReached,
    /// The server says that a run is under way, yet none is, or accepts the request and does
    /// nothing. Only a restart of the server, or a fork, helps.
    Wedged,
    /// Someone deleted the conversation meanwhile.
    Gone,
    /// The server has ended for good, as its supervisor reports, or could not be reached for as
    /// long as [`unreachable_after`](crate::Attach::unreachable_after) allows.
    ServerGone,
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Paused => "paused",
            Self::WaitingForConfirmation => "waiting for confirmation",
            Self::Stuck => "stuck",
            Self::Error => "error",
            Self::Idle => "idle",
            Self::StillRunning => "still running",
            Self::BudgetReached => "budget reached: the run was interrupted",
            Self::Wedged => "wedged: the server accepts no run and has none",
            Self::Gone => "gone: the conversation was deleted",
            Self::ServerGone => "the server is gone",
        })
    }
}

/// The outcome of a run: how it ended, what it used, and what failed.
#[derive(Debug, Clone)]
#[must_use = "a run that ended may not have finished: see `status` or `ensure_finished`"]
pub struct RunOutcome {
    pub(crate) status: RunStatus,
    pub(crate) report: RunReport,
    pub(crate) error: Option<ConversationErrorEvent>,
    pub(crate) reason: Option<Error>,
}

/// What a run used.
#[derive(Debug, Clone)]
pub struct RunReport {
    pub(crate) usage: Usage,
    pub(crate) events: usize,
    pub(crate) duration: Duration,
    pub(crate) started: bool,
    pub(crate) image_unseen: bool,
}

impl RunReport {
    /// The cost in US dollars. `None` if the server has reported no usage: unknown is not free.
    pub fn cost(&self) -> Option<f64> {
        self.usage.cost()
    }

    /// The number of tokens that models read and wrote.
    pub fn tokens(&self) -> u64 {
        let (read, written) = (self.usage.prompt_tokens(), self.usage.completion_tokens());
        read.saturating_add(written)
    }

    /// The usage, in all and by usage id, as far as the server has reported it.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The number of events that the run brought.
    pub fn events(&self) -> usize {
        self.events
    }

    /// How long the run was waited for.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether this call started the run; if not, it joined one that was under way, or sent
    /// nothing.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the agent ended the run without asking its model, which cannot see the image of the
    /// last message. The server calls that finished.
    pub fn image_unseen(&self) -> bool {
        self.image_unseen
    }
}

impl RunOutcome {
    /// How the run ended.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// What the run used.
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// The event that describes the failure, where the status is [`RunStatus::Error`] and the log
    /// has such an event.
    pub fn error(&self) -> Option<&ConversationErrorEvent> {
        self.error.as_ref()
    }

    /// Why the server cannot be reached, where the status is [`RunStatus::ServerGone`].
    pub fn reason(&self) -> Option<&Error> {
        self.reason.as_ref()
    }

    /// The number of events that the run brought: [`RunReport::events`].
    pub fn events(&self) -> usize {
        self.report.events
    }

    /// The cost in US dollars: [`RunReport::cost`].
    pub fn cost(&self) -> Option<f64> {
        self.report.cost()
    }

    /// Whether the agent is done.
    pub fn is_finished(&self) -> bool {
        self.status == RunStatus::Finished
    }

    /// Returns the outcome if the agent is done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinished`] with the outcome in words, if the run ended in any other way.
    pub fn ensure_finished(self) -> Result<Self> {
        if self.is_finished() {
            return Ok(self);
        }
        let what = format!("the run did not finish: {self}");
        let error = Error::without_conversation(ErrorKind::NotFinished, what);
        Err(match self.reason {
            Some(reason) => error.with_source(reason),
            None => error,
        })
    }

    /// The end of a run that went on after an earlier end.
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        let (report, earlier) = (&mut self.report, &earlier.report);
        report.usage = report.usage.and(&earlier.usage);
        report.events += earlier.events;
        report.duration += earlier.duration;
        report.started = earlier.started;
        report.image_unseen |= earlier.image_unseen;
        self
    }

    /// The same, but not at its end.
    pub(crate) fn still_running(mut self) -> Self {
        self.status = RunStatus::StillRunning;
        self
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        match (&self.error, &self.reason) {
            (Some(error), _) => write!(f, " {}: {}", error.code, error.detail),
            (None, Some(reason)) => write!(f, ": {reason}"),
            (None, None) => Ok(()),
        }
    }
}
