//! The outcome of a run, and its usage.

use std::{fmt, time::Duration};

use oh_protocol::{ConversationId, event::ConversationErrorEvent, printable, redact};
use oh_transport::automation::{self, FailedRun};

use crate::{Error, ErrorKind, Result, Usage};

/// How a run ended, or [`StillRunning`](Self::StillRunning) after a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunStatus {
    /// The agent has finished.
    Finished,
    /// The run was paused or interrupted; another run continues it.
    Paused,
    /// An action waits for approval: see
    /// [`Conversation::approvals`](crate::Conversation::approvals).
    WaitingForConfirmation,
    /// The stuck detector ended the run.
    Stuck,
    /// The run failed: see [`RunOutcome::error`]. Another run may succeed.
    Error,
    /// The run ended although the agent has not finished, for example after a rejection.
    Idle,
    /// The timeout of the wait has passed. The run continues; run again to join it.
    StillRunning,
    /// The run was interrupted because it reached `max_cost`, `max_total_cost` or `max_tokens`, or
    /// was not started because the conversation had already reached `max_total_cost`.
    BudgetReached,
    /// The server reports a run in progress although there is none, or accepts the request and does
    /// nothing. Restart the server, or fork the conversation.
    Wedged,
    /// The conversation was deleted in the meantime.
    Gone,
    /// The server has ended permanently, as reported by its supervisor, or was unreachable for
    /// longer than [`unreachable_after`](crate::Attach::unreachable_after).
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
            Self::BudgetReached => "budget reached",
            Self::Wedged => "wedged: the server rejects new runs although none is active",
            Self::Gone => "gone: the conversation was deleted",
            Self::ServerGone => "the server is gone",
        })
    }
}

/// The outcome of a run: how it ended, its usage, and its error.
///
/// ```no_run
/// # async fn work(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
/// use oh_conversation::RunStatus;
/// use std::time::Duration;
///
/// let run = conversation.run().max_cost(0.50).timeout(Duration::from_secs(600)).await?;
/// println!("{} events in {:?}", run.events(), run.report().duration());
/// match run.status() {
///     RunStatus::Finished => println!("cost: {:?} US dollars", run.cost()),
///     RunStatus::WaitingForConfirmation => println!("{:?}", conversation.approvals().pending()),
///     RunStatus::StillRunning => conversation.interrupt().await?,
///     // Every other status becomes an error, with the reason.
///     _ => println!("{}", run.ensure_finished()?),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a run that ended may not have finished: see `status` or `ensure_finished`"]
pub struct RunOutcome {
    pub(crate) status: RunStatus,
    pub(crate) report: RunReport,
    pub(crate) error: Option<ConversationErrorEvent>,
    pub(crate) reason: Option<Error>,
}

/// The usage of a run.
#[derive(Debug, Clone)]
pub struct RunReport {
    pub(crate) usage: Usage,
    pub(crate) events: usize,
    pub(crate) duration: Duration,
    pub(crate) started: bool,
    pub(crate) image_unseen: bool,
}

impl RunReport {
    /// Returns the cost in US dollars. `None` if the server has reported no usage: an unknown cost
    /// is not zero.
    pub fn cost(&self) -> Option<f64> {
        self.usage.cost()
    }

    /// Returns the number of prompt and completion tokens.
    pub fn tokens(&self) -> u64 {
        let (read, written) = (self.usage.prompt_tokens(), self.usage.completion_tokens());
        read.saturating_add(written)
    }

    /// Returns the usage, in total and by usage id, as far as the server has reported it.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns the number of events during the run.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Returns how long this call waited, including the time for the handlers of client tools.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns whether this call started the run. If not, it joined a run in progress, or sent
    /// nothing.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Returns whether the agent ended the run without calling its model, because the model cannot
    /// see the image in the last message. The server reports such a run as finished.
    pub fn image_unseen(&self) -> bool {
        self.image_unseen
    }
}

impl RunOutcome {
    /// Returns how the run ended.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// Returns the usage of the run.
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// Returns the event that describes the failure, if the status is [`RunStatus::Error`] and the
    /// log has such an event.
    pub fn error(&self) -> Option<&ConversationErrorEvent> {
        self.error.as_ref()
    }

    /// Returns why the server is unreachable, if the status is [`RunStatus::ServerGone`] and the
    /// reason is known.
    pub fn reason(&self) -> Option<&Error> {
        self.reason.as_ref()
    }

    /// Returns the number of events during the run: [`RunReport::events`].
    pub fn events(&self) -> usize {
        self.report.events
    }

    /// Returns the cost in US dollars: [`RunReport::cost`].
    pub fn cost(&self) -> Option<f64> {
        self.report.cost()
    }

    /// Returns whether the agent has finished.
    pub fn is_finished(&self) -> bool {
        self.status == RunStatus::Finished
    }

    /// Records how the run has ended, for the report to an automation environment.
    pub(crate) fn record(&self, id: ConversationId) {
        let failed = matches!(
            self.status,
            RunStatus::Error
                | RunStatus::Stuck
                | RunStatus::Wedged
                | RunStatus::Gone
                | RunStatus::ServerGone
        );
        let failed = failed.then(|| match &self.error {
            Some(error) => FailedRun::new(&*error.code, redact::text(&error.detail)),
            None => FailedRun::new("RunNotFinished", self.to_string()),
        });
        automation::ran(id, failed);
    }

    /// Returns the report if the agent has finished. The report need not be used:
    /// `conversation.run().await?.ensure_finished()?;` compiles without a warning.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFinished`] with the outcome as text, if the run ended in any other
    /// way.
    pub fn ensure_finished(self) -> Result<RunReport> {
        if self.is_finished() {
            return Ok(self.report);
        }
        let what = format!("the run did not finish: {}", Ending(&self));
        let error = Error::without_conversation(ErrorKind::NotFinished, what);
        Err(match self.reason {
            Some(reason) => error.with_source(reason),
            None => error,
        })
    }
}

/// Shows the status and the error, as in "error LLMAuthenticationError: invalid key".
struct Ending<'a>(&'a RunOutcome);

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.status.fmt(f)?;
        match (&self.0.error, &self.0.reason) {
            (Some(error), _) => {
                let detail = redact::text(&printable(&error.detail)).replace(['\n', '\t'], " ");
                write!(f, " {}: {detail}", printable(&error.code))
            }
            (None, Some(reason)) => write!(f, ": {reason}"),
            (None, None) => Ok(()),
        }
    }
}

/// Shows the outcome on one line: `finished (12 events, $0.0421, 3456 tokens, 12.3s)`. The error,
/// if any, is after the status.
impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", Ending(self), self.report)
    }
}

/// Shows the report on one line: `12 events, $0.0421, 3456 tokens, 12.3s`. Without a reported
/// usage, the cost is `cost unknown`.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events, ", self.events)?;
        match self.cost() {
            Some(cost) => write!(f, "${cost:.4}")?,
            None => f.write_str("cost unknown")?,
        }
        write!(f, ", {} tokens, {:.1?}", self.tokens(), self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: RunStatus, error: Option<ConversationErrorEvent>) -> RunOutcome {
        let report = RunReport {
            usage: Usage::default(),
            events: 12,
            duration: Duration::from_millis(12_340),
            started: true,
            image_unseen: false,
        };
        RunOutcome {
            status,
            report,
            error,
            reason: None,
        }
    }

    #[test]
    fn display_is_one_line_with_status_error_and_report() {
        let report = "(12 events, cost unknown, 0 tokens, 12.3s)";
        let finished = outcome(RunStatus::Finished, None);
        assert_eq!(finished.to_string(), format!("finished {report}"));
        let error =
            serde_json::from_value(serde_json::json!({"code": "LLMError", "detail": "no\nkey"}));
        let failed = outcome(RunStatus::Error, Some(error.unwrap()));
        assert_eq!(
            failed.to_string(),
            format!("error LLMError: no key {report}")
        );
        let error = failed.ensure_finished().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the run did not finish: error LLMError: no key"
        );
    }
}
