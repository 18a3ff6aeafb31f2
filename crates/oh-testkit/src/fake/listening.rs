//! A place among a conversation's listeners. What is heard there is told elsewhere.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::conversation::{Conversation, Item, Subscriber};

/// Someone who listens, and what there is to hear. The place is given up when this is dropped.
pub(super) struct Listening {
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) items: mpsc::UnboundedReceiver<Item>,
    pub(super) _place: Place,
}

impl Listening {
    /// `None` when too many listen already.
    pub(super) fn new(conversation: &Arc<Conversation>) -> Option<Self> {
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

pub(super) struct Place {
    conversation: Arc<Conversation>,
    subscriber: Arc<Subscriber>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.conversation.unsubscribe(&self.subscriber);
    }
}

/// The length of the log as the client is told it first.
pub(super) fn begins(item: &Item) -> Option<usize> {
    match item {
        Item::Snapshot { length, .. } => Some(*length),
        _ => None,
    }
}
