//! Reading the log: what is held as a list, what comes as a stream.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::Event;

use crate::{Result, mirror::Mirror};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cursor {
    /// At the first event of the conversation.
    #[default]
    Start,
    /// After the last event held now.
    Now,
    /// After so many events.
    After(usize),
}

/// The events held, at the moment they were asked for. Later ones do not change it.
#[derive(Debug, Clone, Default)]
pub struct Events(Vec<Event>);

impl Events {
    pub(crate) fn of(mirror: &Mirror) -> Self {
        Self(mirror.read().events.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The event at a place, counted from 0.
    pub fn get(&self, index: usize) -> Option<&Event> {
        self.0.get(index)
    }

    /// The last `n`, or as many as there are.
    pub fn last(&self, n: usize) -> &[Event] {
        &self.0[self.0.len().saturating_sub(n)..]
    }

    /// The event with an id.
    pub fn by_id(&self, id: &str) -> Option<&Event> {
        self.0.iter().find(|event| event.id() == id)
    }

    /// Those of a kind, such as `ActionEvent`.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.0.iter().filter(move |event| event.kind() == kind)
    }

    /// All, in log order.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.0.iter()
    }
}

impl std::ops::Deref for Events {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Every persisted event from a cursor on, once and in log order, across reconnects.
///
/// Its position is its own: however slow its reader is, nobody else waits and nothing is lost.
/// It ends after giving the error that ended the conversation's link, and after a close without
/// one.
pub struct EventStream(Pin<Box<dyn Stream<Item = Result<Event>> + Send>>);

impl EventStream {
    pub(crate) fn new(mirror: Arc<Mirror>, cursor: Cursor) -> Self {
        let position = match cursor {
            Cursor::Start => 0,
            Cursor::Now => mirror.read().events.len(),
            Cursor::After(position) => position,
        };
        let changes = mirror.changes();
        let reading = Some((mirror, changes, position));
        Self(Box::pin(futures_util::stream::unfold(
            reading,
            |reading| async move {
                let (mirror, mut changes, position) = reading?;
                loop {
                    // Marked as seen before looking: a change in between wakes us again.
                    changes.borrow_and_update();
                    let (event, ended) = {
                        let held = mirror.read();
                        (held.events.get(position).cloned(), held.ended.clone())
                    };
                    if let Some(event) = event {
                        return Some((Ok(event), Some((mirror, changes, position + 1))));
                    }
                    if let Some(error) = ended {
                        let closed = error.kind() == crate::ErrorKind::Closed;
                        return (!closed).then_some((Err(error), None));
                    }
                    changes.changed().await.ok()?;
                }
            },
        )))
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}
