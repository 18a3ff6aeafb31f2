//! The newest change of those parts of the state that decide what a program may request. Contains
//! no I/O.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use oh_protocol::{Json, event::ConversationStateUpdateEvent};

use crate::lock::lock;

/// A part of the state whose changes are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Policy,
    Analyzer,
    Goal,
}

impl Part {
    /// Returns the part that an update changes, if it is one of these.
    pub(crate) fn of(update: &ConversationStateUpdateEvent) -> Option<Self> {
        match &*update.key {
            "confirmation_policy" => Some(Self::Policy),
            "security_analyzer" => Some(Self::Analyzer),
            "goal" => Some(Self::Goal),
            _ => None,
        }
    }
}

/// A change of a part of the state.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The index of its event.
    pub(crate) at: usize,
    pub(crate) value: Json,
}

/// The newest change of each part since the mirror was created, held or not.
#[derive(Debug, Default)]
pub(crate) struct Changes(HashMap<Part, Change>);

impl Changes {
    /// Records an update of the log. Whether the event was replayed makes no difference: each event
    /// is newer than those before it.
    pub(super) fn add(&mut self, at: usize, update: &ConversationStateUpdateEvent) {
        if let Some(part) = Part::of(update) {
            let value = update.value.clone();
            self.0.insert(part, Change { at, value });
        }
    }

    pub(crate) fn newest(&self, part: Part) -> Option<&Change> {
        self.0.get(&part)
    }

    /// Returns the newest change if its event has this index or a higher one.
    pub(crate) fn since(&self, part: Part, at: usize) -> Option<&Change> {
        self.newest(part).filter(|change| change.at >= at)
    }
}

/// The newest changes before the first event that the mirror has held, as far as they were looked
/// up on the server.
#[derive(Default)]
pub(crate) struct EarlierChanges(Mutex<HashMap<Part, Option<Json>>>);

impl EarlierChanges {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<Part, Option<Json>>> {
        lock(&self.0)
    }
}
