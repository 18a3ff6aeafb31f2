//! The registration of a conversation's listener.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::fake::state::{
    conversation::Conversation,
    subscriber::{Item, Subscriber},
};

/// A listener and its items. Dropping it removes the listener.
pub(crate) struct Listening {
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) items: mpsc::UnboundedReceiver<Item>,
    pub(crate) _place: Place,
}

impl Listening {
    /// Adds a listener. Returns `None` if there are too many.
    pub(crate) fn new(conversation: &Arc<Conversation>) -> Option<Self> {
        let (subscriber, items) = conversation.subscribe()?;
        let place = Place {
            conversation: Arc::clone(conversation),
            subscriber: Arc::clone(&subscriber),
        };
        Some(Self {
            subscriber,
            items,
            _place: place,
        })
    }
}

pub(crate) struct Place {
    conversation: Arc<Conversation>,
    subscriber: Arc<Subscriber>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.conversation.unsubscribe(&self.subscriber);
    }
}

/// Returns the length of the log if the item is a snapshot.
pub(crate) fn begins(item: &Item) -> Option<usize> {
    match item {
        Item::Snapshot { length, .. } => Some(*length),
        _ => None,
    }
}
