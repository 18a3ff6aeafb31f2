//! The time limits of a link.

use std::time::Duration;

/// The time limits of a link. Each has a setter on [`Attach`] and on the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The first and the longest delay before a reconnect.
    pub(crate) backoff: (Duration, Duration),
    /// How long a socket may be silent before the link is checked.
    pub(crate) silence: Duration,
    /// How long another server may hold the conversation's lease.
    pub(crate) lease: Duration,
    /// For how long the server must report that it does not have the conversation.
    pub(crate) missing: Duration,
    /// How long the server may be unreachable before waits end.
    pub(crate) unreachable: Duration,
    /// How long to wait for a missing event before it is fetched, when later events have arrived.
    pub(crate) gap: Duration,
    /// How long the log may take to show the effect of a request whose response was lost.
    pub(crate) answer: Duration,
    /// How long a run may be rejected although none is in progress, or be accepted and not start.
    pub(crate) wedged: Duration,
}

/// The longest limit: any longer one could exceed the range of the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

impl Limits {
    /// Returns a limit that the clock can represent.
    pub(crate) fn bounded(limit: Duration) -> Duration {
        limit.min(LONGEST)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            silence: Duration::from_secs(45),
            lease: Duration::from_secs(90),
            missing: Duration::from_secs(2),
            unreachable: Duration::from_secs(60),
            gap: Duration::from_millis(200),
            answer: Duration::from_secs(15),
            wedged: Duration::from_secs(120),
        }
    }
}
