//! Decides when to check with REST whether a run is over. Contains no I/O.

use std::time::Duration;

use oh_protocol::ExecutionStatus;
use tokio::time::Instant;

use super::decide::Signals;

/// The silence after which the status is requested with REST, and the delay between these requests.
pub(super) const QUIET: Duration = Duration::from_millis(1500);
/// The silence required when a snapshot has already reported a possible end.
const SOON: Duration = Duration::from_millis(200);
/// The longest delay for a run that has not started, or while the link is down.
const RARELY: Duration = Duration::from_secs(10);
/// The first and the longest silence on a healthy link before the newest event is requested.
const PATROL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

/// The schedule of REST requests during a run.
pub(super) struct Pace {
    last: Instant,
    /// The number of REST requests since the last event.
    times: u32,
}

pub(super) enum Ask {
    /// Requests the newest event only.
    Newest,
    /// Requests the state, which may show that the run is over.
    End,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            times: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(super) fn asked(&mut self) {
        self.last = Instant::now();
        self.times += 1;
    }

    pub(super) fn next(&self, signals: &Signals, up: bool) -> (Instant, Ask) {
        let running = signals.hint.as_ref().map(ExecutionStatus::is_running);
        // Without any hint, nothing shows that a run that has begun continues.
        let stopped = !running.unwrap_or(!signals.begun);
        let growing =
            |first: Duration, cap: Duration| first.saturating_mul(1 << self.times.min(10)).min(cap);
        let (delay, ask) = match signals.snapshot {
            Some(_) if self.times < 50 => (SOON, Ask::End),
            _ if stopped => (QUIET, Ask::End),
            Some(_) => (QUIET, Ask::End),
            // The run may have had nothing to do, or may start slowly.
            None if !signals.begun => (growing(QUIET, RARELY), Ask::End),
            None if !up => (growing(QUIET, RARELY), Ask::End),
            // A healthy link delivers everything.
            None => (growing(PATROL.0, PATROL.1), Ask::Newest),
        };
        (self.last + delay, ask)
    }
}
