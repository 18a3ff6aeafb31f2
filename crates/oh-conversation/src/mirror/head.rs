//! The head of the log: the event that the next event follows. Contains no I/O.

use std::{collections::HashMap, sync::Mutex};

use oh_protocol::{Event, Json, state::ConversationState};

use crate::lock::lock;

/// The parent of an event at the root of a branch, in a log that already had events.
const ROOT: &str = "__root__";
/// State changes are in the log, but in no branch.
pub(crate) const STATE_UPDATE: &str = "ConversationStateUpdateEvent";
const ERROR: &str = "ConversationErrorEvent";
/// The event that the next event follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    Event(String),
    /// Before the first event.
    Start,
    /// The last event: the log has no branches.
    Last,
}

/// The head at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of events at that moment. Later events move the head.
    pub(crate) events: usize,
    pub(crate) head: Head,
}

/// The newest position that a request of this process has set or read.
#[derive(Default)]
pub(crate) struct Asked(Mutex<Option<Position>>);

impl Head {
    /// Returns the head that the server reports.
    pub(crate) fn reported(state: &ConversationState) -> Self {
        let empty = state.get("head_is_empty");
        if empty.is_some_and(|empty| empty.as_str() == "true") {
            return Self::Start;
        }
        // Conversations without branches report no leaf.
        let leaf = state.get("leaf_event_id").and_then(Json::as_text);
        leaf.map_or(Self::Last, |leaf| Self::Event(leaf.to_string()))
    }

    /// Returns the id of the event, `None` before the first. `events`: the newest of the log.
    pub(crate) fn id<'a>(
        &'a self,
        events: impl DoubleEndedIterator<Item = &'a Event>,
    ) -> Option<&'a str> {
        match self {
            Self::Event(id) => Some(id),
            Self::Start => None,
            // As on the server: an error after the end of an old log is part of no branch.
            Self::Last => {
                let part = |event: &&Event| moves(event) && event.kind() != ERROR;
                events.rev().find(part).map(Event::id)
            }
        }
    }
}

/// Returns whether an event becomes the head.
pub(crate) fn moves(event: &Event) -> bool {
    event.kind() != STATE_UPDATE
}

impl Asked {
    pub(crate) fn get(&self) -> Option<Position> {
        lock(&self.0).clone()
    }

    pub(crate) fn set(&self, position: Position) {
        *lock(&self.0) = Some(position);
    }

    /// Sets the position unless another request has set it since `before`.
    pub(crate) fn replace(&self, before: &Option<Position>, position: Position) -> bool {
        let mut asked = lock(&self.0);
        let same = *asked == *before;
        if same {
            *asked = Some(position);
        }
        same
    }
}

/// Returns the branch that ends with `head`, and whether its root is among these events.
pub(crate) fn walk(events: &[Event], head: &Head) -> (Vec<Event>, bool) {
    let places: HashMap<&str, usize> = (0..)
        .zip(events.iter())
        .map(|(place, event)| (event.id(), place))
        .collect();
    let mut branch = Vec::new();
    let mut next = head
        .id(events.iter())
        .and_then(|id| places.get(id).copied());
    let mut rooted = *head == Head::Start;
    // Limits the walk, in case the parents form a cycle.
    let mut left = events.len();
    while let Some(place) = next
        && let Some(event) = events.get(place)
        && left > 0
    {
        left -= 1;
        if event.kind() != STATE_UPDATE {
            branch.push(event.clone());
        }
        next = match event.parent_id() {
            Some(ROOT) => {
                rooted = true;
                None
            }
            Some(parent) => places.get(parent).copied(),
            // Old logs have no parents: each event follows the one before it.
            None => place.checked_sub(1),
        };
    }
    branch.reverse();
    (branch, rooted)
}
