//! The head of the log: the event that the next event follows.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use oh_protocol::{Event, Json, calls::conversations::Get, state::ConversationState};

use crate::{Conversation, Result, mirror::Held};

/// The parent of an event at the root of a branch, in a log that already had events.
const ROOT: &str = "__root__";
/// State changes are in the log, but in no branch.
const STATE_UPDATE: &str = "ConversationStateUpdateEvent";
const ERROR: &str = "ConversationErrorEvent";
/// How often the server is asked for the head while events arrive.
const TRIES: usize = 3;

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
struct Position {
    /// The number of events at that moment. Later events move the head.
    events: usize,
    head: Head,
}

/// The newest position that a request of this process has set or read.
#[derive(Default)]
pub(crate) struct Asked(Mutex<Option<Position>>);

impl Head {
    /// Returns the head that the server reports.
    fn reported(state: &ConversationState) -> Self {
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
fn moves(event: &Event) -> bool {
    event.kind() != STATE_UPDATE
}

impl Conversation {
    /// Returns the head, and whether the server has reported it. Otherwise it is assumed that the
    /// log has no branches.
    pub(crate) fn known_head(&self) -> (Head, bool) {
        head(&self.mirror().read(), self.asked_head().get())
    }

    /// Reports that this handle has moved the head.
    pub(crate) fn navigated(&self, head: Head) {
        let events = self.mirror().read().log.end();
        self.asked_head().set(Position { events, head });
        self.mirror().answered.wait();
    }

    /// Asks the server for the head (`GET /api/conversations/{id}`): it does not announce
    /// navigation by another program.
    pub(crate) async fn look_at_head(&self) -> Result<()> {
        for _ in 0..TRIES {
            let before = self.asked_head().get();
            let events = self.mirror().read().log.end();
            let info = self.insist("read the head", &Get::new(self.id())).await?;
            let head = Head::reported(info.state());
            let read = Position { events, head };
            let settled = self.mirror().read().log.end() == events;
            if self.asked_head().replace(&before, read) && settled {
                break;
            }
        }
        Ok(())
    }
}

impl Asked {
    fn get(&self) -> Option<Position> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    fn set(&self, position: Position) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    /// Sets the position unless another request has set it since `before`.
    fn replace(&self, before: &Option<Position>, position: Position) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = *asked == *before;
        if same {
            *asked = Some(position);
        }
        same
    }
}

/// Returns the head. On the server every event except state changes moves the head, as does
/// navigation.
fn head(held: &Held, asked: Option<Position>) -> (Head, bool) {
    let told = held.snapshot.as_ref().map(|snapshot| Position {
        events: snapshot.events,
        head: Head::reported(&held.state),
    });
    let known = match (told, asked) {
        (Some(told), Some(asked)) if told.events > asked.events => Some(told),
        (told, None) => told,
        (_, asked) => asked,
    };
    let Some(known) = known else {
        return (Head::Last, false);
    };
    let mut since = held.log.range(known.events..held.log.end()).rev();
    match since.find(|event| moves(event)) {
        Some(event) => (Head::Event(event.id().to_owned()), true),
        None => (known.head, true),
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
