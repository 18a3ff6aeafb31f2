//! Tags and records of conversations, as the automation environment of this process requests them.

use std::sync::{Arc, Weak};

use oh_protocol::{config::StartConversation, state::ConversationInfo};
use oh_transport::automation::{self, Metered};

use crate::{Conversation, Origin, Usage, mirror::Mirror};

impl Metered for Mirror {
    fn cost(&self) -> Option<f64> {
        Usage::of(&self.read().state).cost()
    }
}

/// Adds the tags that the environment requests, except those that the program has set.
pub(crate) fn tagged(mut start: StartConversation) -> StartConversation {
    for (tag, value) in automation::tags() {
        if !start.has_tag(&tag) {
            start = start.tag(tag, value);
        }
    }
    start
}

/// A conversation that will be recorded, as the server described it when it was connected.
pub(crate) struct Record {
    before: f64,
    child: bool,
}

impl Record {
    /// Returns `None` if the environment requests no report.
    pub(crate) fn new(info: &ConversationInfo, origin: &Origin) -> Option<Self> {
        if !automation::is_requested() {
            return None;
        }
        // A copy may start with the cost of its original.
        let before = match origin {
            Origin::Forked => Usage::of(info.state()).cost().unwrap_or_default(),
            _ => 0.0,
        };
        let parent = info.state().get("parent_conversation_id");
        let child = parent.is_some_and(|parent| !parent.is_null());
        Some(Self { before, child })
    }

    /// Records the conversation.
    pub(crate) fn add(&self, conversation: &Conversation) {
        let mirror: Arc<dyn Metered> = conversation.shared_mirror();
        let mirror: Weak<dyn Metered> = Arc::downgrade(&mirror);
        automation::add(conversation.id(), mirror, self.before, self.child);
    }
}
