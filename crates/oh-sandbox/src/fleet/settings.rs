//! The numbers and time limits of a fleet.

use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Maximum number of servers.
    pub(super) size: usize,
    /// Number of servers without a lease to keep ready.
    pub(super) warm: usize,
    /// Number of leases of a server at once.
    pub(super) at_once: usize,
    /// Number of leases after which a server is replaced.
    pub(super) uses: Option<u64>,
    pub(super) separate: bool,
    /// Number of starts at once.
    pub(super) starts: usize,
    /// Number of attempts of one start.
    pub(super) attempts: u32,
    /// The first and the longest delay between two attempts.
    pub(super) backoff: (Duration, Duration),
    /// How long a request may wait.
    pub(super) wait: Option<Duration>,
    /// How long a server may take to end before it is killed.
    pub(super) grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: 4,
            warm: 0,
            at_once: 1,
            uses: None,
            separate: false,
            starts: 4,
            attempts: 5,
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            wait: None,
            grace: Duration::from_secs(5),
        }
    }
}
