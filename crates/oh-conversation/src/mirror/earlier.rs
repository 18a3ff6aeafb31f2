//! The open actions of a log of which only the newest part is held. Contains no I/O.

use std::sync::{Arc, Mutex};

use oh_protocol::Event;

use crate::{
    lock::lock,
    mirror::{
        head::{Head, walk},
        lineage::{Lineage, Open},
        log::Log,
    },
};

/// Fetched events that precede the held ones. Without them, an action that waits for approval could
/// precede the held events unnoticed, and the next run would execute it.
#[derive(Default)]
pub(crate) struct Earlier(Mutex<Option<Fetched>>);

#[derive(Clone)]
pub(crate) struct Fetched {
    /// The index after the last of these events.
    pub(crate) end: usize,
    pub(crate) events: Arc<[Event]>,
    /// Whether they include the first event of the log.
    pub(crate) whole: bool,
}

impl Earlier {
    /// Returns the events directly before a log, and whether they include the log's first event.
    pub(crate) fn before(&self, log: &Log) -> Option<Fetched> {
        let known = lock(&self.0);
        // Events that were removed since then are neither here nor in the log.
        known.clone().filter(|known| known.end >= log.start())
    }

    pub(crate) fn set(&self, fetched: Fetched) {
        *lock(&self.0) = Some(fetched);
    }

    pub(crate) fn clear(&self) {
        *lock(&self.0) = None;
    }
}

/// Returns the open actions of the branch that ends with `head`.
pub(crate) fn open_in(earlier: Option<&Fetched>, log: &Log, head: &Head) -> Open {
    let before = earlier.map_or(&[][..], |earlier| &earlier.events);
    let held = log.range(0..log.end());
    let events: Vec<Event> = before.iter().chain(held).cloned().collect();
    let (branch, rooted) = walk(&events, head);
    let open = Lineage::open_in(&branch);
    let whole = log.start() == 0 || earlier.is_some_and(|earlier| earlier.whole);
    Open {
        complete: open.complete || rooted || whole,
        ..open
    }
}
