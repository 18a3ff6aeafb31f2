//! The progress of one connection.

use std::ops::Range;

use oh_protocol::Event;
use tokio::time::Instant;

/// The socket endpoint in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    Session,
    Legacy,
}

/// The progress of one connection.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) flavor: Flavor,
    /// Last `seq` of the replay.
    pub(super) through: Option<i64>,
    /// Whether the replay is over.
    pub(super) over: bool,
    pub(super) expected: Expected,
    /// Whether a frame has arrived.
    pub(super) fruitful: bool,
    /// When to fetch the events missing before early ones.
    pub(super) gap: Option<Instant>,
    /// Whether the socket may be stuck: an event that it should have delivered is missing.
    pub(super) nudged: bool,
    /// How often a gap was fetched and not found in the server's log.
    pub(super) fills: u32,
    /// Whether an event was appended to the log that the socket does not deliver.
    pub(super) bell: bool,
    /// Legacy: a snapshot that waits for the events before it.
    pub(super) snapshot: Option<Event>,
}

/// The events that a socket delivers first.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The event that identifies the log, with its `seq`.
    pub(super) event: Option<(i64, String)>,
    /// The `seq` after which the socket starts.
    pub(super) after: i64,
    /// The indexes of the held events that the socket has delivered again.
    pub(super) replayed: Range<usize>,
}

impl Reading {
    pub(super) fn expecting(flavor: Flavor, expected: Expected) -> Self {
        Self {
            flavor,
            through: None,
            over: false,
            expected,
            fruitful: false,
            gap: None,
            nudged: false,
            fills: 0,
            bell: false,
            snapshot: None,
        }
    }
}
