//! The state of a conversation when a run was requested.

use tokio::time::Instant;

use crate::{Conversation, Usage};

/// The state when the run was requested.
pub(super) struct Before {
    pub(super) events: usize,
    pub(super) usage: Usage,
    pub(super) snapshots: u64,
    pub(super) connection: u64,
    pub(super) begun: Instant,
    pub(super) running: bool,
    pub(super) started: bool,
    /// Whether the run begins after these events, so that the log shows its start.
    pub(super) begins: bool,
    /// Whether the run is expected from an approval.
    pub(super) approved: bool,
    /// When the server has accepted the run.
    pub(super) accepted: Instant,
}

impl Before {
    pub(super) fn new(conversation: &Conversation) -> Self {
        let begun = Instant::now();
        let mut before = Self {
            events: 0,
            usage: Usage::default(),
            snapshots: 0,
            connection: 0,
            begun,
            running: false,
            started: false,
            begins: false,
            approved: false,
            accepted: begun,
        };
        before.mark(conversation);
        before
    }

    /// Excludes everything so far from this run.
    pub(super) fn mark(&mut self, conversation: &Conversation) {
        let held = conversation.mirror().read();
        self.events = held.log.end();
        self.usage = Usage::of(&held.state);
        self.snapshots = held.snapshot.as_ref().map_or(0, |snapshot| snapshot.number);
        self.connection = held.connection;
        self.running = held.status().is_running();
    }

    /// Includes a run that begins after this many events.
    pub(super) fn expect(&mut self, events: usize) {
        self.events = events;
        (self.running, self.begins) = (false, true);
    }

    /// Includes a run that has begun after this many events.
    pub(super) fn has_begun(&mut self, events: usize) {
        self.expect(events);
        self.snapshots = 0;
    }
}
