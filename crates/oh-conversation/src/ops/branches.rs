//! Branches of the history: navigation in the log, and the visible branch.

use oh_protocol::{Event, calls::conversations::Navigate};

use crate::{
    Conversation, Request,
    mirror::head::{Head, walk},
};

/// The branches of a conversation's history: see [`Conversation::branches`].
#[derive(Debug, Clone)]
pub struct Branches {
    pub(crate) conversation: Conversation,
}

impl Conversation {
    /// Returns the branches of the history: the visible one, navigation, and forks.
    pub fn branches(&self) -> Branches {
        Branches {
            conversation: self.clone(),
        }
    }
}

impl Branches {
    /// Continues from another event: the next event follows it, and later events stay in the log
    /// but not in the visible [branch](Self::current) (`POST …/navigate`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the log does not have the
    /// event.
    pub fn navigate(&self, event_id: impl Into<String>) -> Request<()> {
        let event_id = event_id.into();
        let this = self.clone();
        Request::new(async move {
            let call = Navigate::to(this.conversation.id(), event_id.clone());
            this.conversation.call_naming("navigate", &call).await?;
            this.conversation.navigated(Head::Event(event_id));
            Ok(())
        })
    }

    /// Continues from before the first event (`POST …/navigate`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn navigate_to_start(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let call = Navigate::to_start(this.conversation.id());
            this.conversation.call("navigate", &call).await?;
            this.conversation.navigated(Head::Start);
            Ok(())
        })
    }

    /// Returns the id of the event that the next event follows; `None` before the first.
    ///
    /// The server does not announce navigation by another program. It becomes visible with the next
    /// full state, or when a run asks the server for the head.
    pub fn head(&self) -> Option<String> {
        let log = self.conversation.mirror().read().log.clone();
        let (head, _) = self.conversation.known_head();
        head.id(log.range(0..log.end())).map(str::to_owned)
    }

    /// Returns the visible branch: the events from the first to the [`head`](Self::head), following
    /// their parents. Events that [`navigate`](Self::navigate) left behind are omitted;
    /// [`events`](Conversation::events) has them. State changes, which belong to no branch, are omitted
    /// too. The branch goes back as far as events are held.
    pub fn current(&self) -> Vec<Event> {
        let events: Vec<Event> = self.conversation.events().iter().cloned().collect();
        walk(&events, &self.conversation.known_head().0).0
    }
}
