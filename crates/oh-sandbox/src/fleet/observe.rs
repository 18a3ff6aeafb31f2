//! Events of a fleet, for metrics.

use std::time::Duration;

use crate::ErrorKind;

/// Something that happened in a [`Fleet`](crate::Fleet).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FleetEvent<'a> {
    /// A lease was requested.
    Requested,
    /// A request got its lease.
    Leased {
        /// Name of the server.
        server: &'a str,
        /// How long the request waited.
        waited: Duration,
        /// Whether the server has had a lease before.
        reused: bool,
    },
    /// A request failed.
    Refused {
        /// Why it failed. `Timeout` after the time limit of the wait.
        kind: ErrorKind,
        /// How long the request waited.
        waited: Duration,
    },
    /// The program gave up a request.
    Abandoned {
        /// How long the request waited.
        waited: Duration,
    },
    /// A server is ready.
    Started {
        /// Name of the server.
        server: &'a str,
        /// How long the successful attempt took.
        took: Duration,
    },
    /// An attempt to start a server failed.
    StartFailed {
        /// Why it failed.
        kind: ErrorKind,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The delay until the next attempt. `None` if this was the last.
        retry: Option<Duration>,
    },
    /// A lease was returned.
    Returned {
        /// Name of the server.
        server: &'a str,
        /// How long the lease was out.
        held: Duration,
    },
    /// A server is no longer used.
    Discarded {
        /// Name of the server.
        server: &'a str,
        /// Why: the server's end, or the reason that the program gave.
        reason: &'a str,
    },
    /// A server has been stopped.
    Stopped {
        /// Name of the server.
        server: &'a str,
    },
}

/// Receives the events of a [`Fleet`](crate::Fleet), for example to count them. Called in the tasks
/// that cause them, so an observer must not block.
pub trait FleetObserver: Send + Sync + 'static {
    /// Handles an event.
    fn on_event(&self, event: &FleetEvent<'_>);
}

impl<F: Fn(&FleetEvent<'_>) + Send + Sync + 'static> FleetObserver for F {
    fn on_event(&self, event: &FleetEvent<'_>) {
        self(event);
    }
}
