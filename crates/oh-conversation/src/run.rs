//! Running the agent until it is really done.
//!
//! The status `finished` is only a hint: a Stop hook or a late message takes it back. What ends a
//! run is the full-state snapshot that the server sends once the run's slot is free; where that
//! was missed, a fresh snapshot after a reconnect, or a status that REST repeats while nothing
//! happens any more.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{ExecutionStatus, Payload, calls, event::ConversationErrorEvent};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{Conversation, Error, ErrorKind, Result};

/// How long nothing must happen after a hint before REST is asked.
const QUIET: Duration = Duration::from_millis(1500);
/// How often REST must repeat a status that ends a run.
const REPEATED: u32 = 2;

/// A run. Await it for its [`RunOutcome`].
///
/// Dropping the future leaves the run at work. A run that somebody else started is joined.
#[must_use = "a run does not begin until it is awaited"]
pub struct Run<'a> {
    conversation: &'a Conversation,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
}

/// How a run ended, or that it did not within the time given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The agent is done.
    Finished(RunReport),
    /// Someone paused or interrupted it; a run continues it.
    Paused(RunReport),
    /// An action awaits approval.
    WaitingForConfirmation(RunReport),
    /// The stuck detector ended it.
    Stuck(RunReport),
    /// It failed, with the error event where there is one. Another run may succeed.
    Error(RunReport, Option<ConversationErrorEvent>),
    /// The time given is over. The run goes on; run again to join it.
    StillRunning(RunReport),
}

/// What a run used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunReport {
    cost: f64,
    events: usize,
    took: Duration,
    started: bool,
}

impl RunReport {
    /// What it cost, in US dollars, as far as the server has told.
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// How many events it brought.
    pub fn events(&self) -> usize {
        self.events
    }

    /// How long it was waited for.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Whether this call started it; if not, it joined one under way.
    pub fn started(&self) -> bool {
        self.started
    }
}

impl RunOutcome {
    /// What the run used.
    pub fn report(&self) -> &RunReport {
        match self {
            Self::Finished(report)
            | Self::Paused(report)
            | Self::WaitingForConfirmation(report)
            | Self::Stuck(report)
            | Self::Error(report, _)
            | Self::StillRunning(report) => report,
        }
    }

    /// Whether the agent is done.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_))
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(_) => f.write_str("finished"),
            Self::Paused(_) => f.write_str("paused"),
            Self::WaitingForConfirmation(_) => f.write_str("waiting for confirmation"),
            Self::Stuck(_) => f.write_str("stuck"),
            Self::Error(_, Some(error)) => write!(f, "error {}: {}", error.code, error.detail),
            Self::Error(_, None) => f.write_str("error"),
            Self::StillRunning(_) => f.write_str("still running"),
        }
    }
}

/// What was so when the run was asked for.
struct Before {
    events: usize,
    cost: f64,
    snapshots: u64,
    connection: u64,
    begun: Instant,
    started: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(conversation: &'a Conversation) -> Self {
        Self {
            conversation,
            timeout: None,
            idle_timeout: None,
        }
    }

    /// Ends the wait after this long. The run goes on.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Ends the wait when no event has come for this long. The run goes on.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    async fn wait(self) -> Result<RunOutcome> {
        let conversation = self.conversation;
        let mut before = {
            let held = conversation.mirror().read();
            Before {
                events: held.events.len(),
                cost: held.state.stats().combined().accumulated_cost,
                snapshots: held.snapshot.as_ref().map_or(0, |snapshot| snapshot.number),
                connection: held.connection,
                begun: Instant::now(),
                started: true,
            }
        };
        match conversation
            .client()
            .call(&calls::conversations::Run::new(conversation.id()))
            .await
        {
            Ok(()) => {}
            Err(error) if error.kind() == oh_transport::ErrorKind::Conflict => {
                before.started = false;
            }
            Err(error) => return Err(Error::transport(conversation.id(), "run", error)),
        }
        let ending = self.ending(&before);
        let status = match self.timeout {
            Some(limit) => timeout(limit, ending).await.unwrap_or(Ok(None))?,
            None => ending.await?,
        };
        Ok(outcome(conversation, &before, status))
    }

    /// The status the run ended with; none when it was silent for too long.
    async fn ending(&self, before: &Before) -> Result<Option<ExecutionStatus>> {
        let conversation = self.conversation;
        let mut changes = conversation.changes();
        let mut last_events = 0;
        let mut last_activity = Instant::now();
        let mut answers: Option<(ExecutionStatus, u32)> = None;
        let mut next_ask = Instant::now() + QUIET;
        loop {
            changes.borrow_and_update();
            {
                let held = conversation.mirror().read();
                if let Some(error) = &held.ended {
                    return Err(error.clone());
                }
                if held.events.len() != last_events {
                    last_events = held.events.len();
                    last_activity = Instant::now();
                    answers = None;
                    next_ask = last_activity + QUIET;
                }
                if let Some(status) = final_status(&held, before) {
                    return Ok(Some(status));
                }
            }
            let idle_end = self.idle_timeout.map(|limit| last_activity + limit);
            if idle_end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
            let wake = idle_end.map_or(next_ask, |end| end.min(next_ask));
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Err(Error::new(ErrorKind::Closed, conversation.id(), "closed"));
                    }
                }
                () = sleep_until(wake) => {
                    if Instant::now() < next_ask {
                        continue;
                    }
                    next_ask = Instant::now() + QUIET;
                    // A hook may be freezing the server, or a restart be under way: no answer
                    // decides nothing.
                    let get = calls::conversations::Get::new(conversation.id());
                    let asked = conversation.client().call(&get).timeout(Duration::from_secs(10));
                    let Ok(info) = asked.await else { continue };
                    let status = info.execution_status();
                    let times = match answers.take() {
                        Some((same, times)) if same == status => times + 1,
                        _ => 1,
                    };
                    if ends(&status) && times > REPEATED {
                        return Ok(Some(status));
                    }
                    answers = Some((status, times));
                }
            }
        }
    }
}

/// Whether a status can end a run.
fn ends(status: &ExecutionStatus) -> bool {
    !status.is_running()
}

/// The status that a snapshot since the run's beginning gives it, if one ends it.
fn final_status(held: &crate::mirror::Held, before: &Before) -> Option<ExecutionStatus> {
    let snapshot = held.snapshot.as_ref()?;
    // The snapshot every new subscriber gets may be older than the run, unless the subscription
    // itself is younger.
    let fresh = !snapshot.first || snapshot.connection > before.connection;
    let since = snapshot.number > before.snapshots && fresh && ends(&snapshot.status);
    // A pause is told at once, while its step goes on; REST tells when that is over.
    let settled = snapshot.status != ExecutionStatus::Paused;
    (since && settled && held.link == crate::Link::Live).then(|| snapshot.status.clone())
}

fn outcome(
    conversation: &Conversation,
    before: &Before,
    status: Option<ExecutionStatus>,
) -> RunOutcome {
    let held = conversation.mirror().read();
    let report = RunReport {
        cost: (held.state.stats().combined().accumulated_cost - before.cost).max(0.0),
        events: held.events.len().saturating_sub(before.events),
        took: before.begun.elapsed(),
        started: before.started,
    };
    match status {
        None => RunOutcome::StillRunning(report),
        Some(ExecutionStatus::Paused) => RunOutcome::Paused(report),
        Some(ExecutionStatus::WaitingForConfirmation) => RunOutcome::WaitingForConfirmation(report),
        Some(ExecutionStatus::Stuck) => RunOutcome::Stuck(report),
        Some(ExecutionStatus::Error) => {
            let new = &held.events[before.events.min(held.events.len())..];
            let error = new.iter().rev().find_map(|event| match event.payload() {
                Payload::ConversationError(error) => Some(error.clone()),
                _ => None,
            });
            RunOutcome::Error(report, error)
        }
        Some(_) => RunOutcome::Finished(report),
    }
}

impl<'a> IntoFuture for Run<'a> {
    type Output = Result<RunOutcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
