//! Holding the first message back until the conversation is connected, so that no token of its run
//! is missed.

use std::sync::LazyLock;

use oh_protocol::{
    ConversationId,
    calls::events::UserContent,
    config::{InitialMessage, StartConversation},
    state::ConversationInfo,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{Conversation, Error, ErrorKind, Result};

/// The tag of a conversation whose first message is sent by the process that has created it.
const TAG: &str = "firstmessage";

/// The value of the tag: distinguishes this process from others that start the same conversation.
static PROCESS: LazyLock<String> = LazyLock::new(|| ConversationId::random().to_string());

/// A first message that is not part of the start request.
#[derive(Debug, Clone)]
pub(crate) struct FirstMessage {
    content: Vec<UserContent>,
    /// Whether an earlier start by this process may have sent the message.
    again: bool,
}

/// Returns the first message of a request, in the form in which it can be sent later.
pub(super) fn of(start: &StartConversation) -> Result<Option<FirstMessage>> {
    match start.clone().take_initial_message() {
        Some(message) => FirstMessage::new(start.id(), &message).map(Some),
        None => Ok(None),
    }
}

/// Returns the request without its first message, marked for this process.
pub(super) fn without(mut start: StartConversation) -> StartConversation {
    match start.take_initial_message() {
        Some(_) => start.tag(TAG, PROCESS.as_str()),
        None => start,
    }
}

/// Returns whether this process has created the conversation, and sends its first message.
fn is_ours(info: &ConversationInfo) -> bool {
    let tags = info.state().get("tags");
    let tag = tags.and_then(|tags| tags.get(TAG));
    tag.and_then(|tag| tag.as_text())
        .is_some_and(|process| process == PROCESS.as_str())
}

impl FirstMessage {
    fn new(id: ConversationId, message: &InitialMessage) -> Result<Self> {
        let invalid = |what: &str| {
            let error = Error::new(ErrorKind::InvalidInput, id, what);
            error.advise("nothing was sent")
        };
        let mut json = serde_json::to_value(message).unwrap_or_default();
        if !matches!(json["role"].as_str(), None | Some("user")) {
            return Err(invalid(
                "initial_message.role: must be `user` if tokens are received from the start",
            ));
        }
        let content = match json["content"].take() {
            Value::Null => Ok(Vec::new()),
            content => serde_json::from_value(content),
        };
        let content: Vec<UserContent> =
            content.map_err(|_| invalid("initial_message.content: must be texts and images"))?;
        let empty = |part: &UserContent| match part {
            UserContent::Text { text } => text.trim().is_empty(),
            _ => false,
        };
        if content.iter().all(empty) {
            return Err(invalid("initial_message: must not be empty"));
        }
        Ok(Self {
            content,
            again: false,
        })
    }

    /// Returns the message if this process has to send it: it has created the conversation, now or
    /// with an earlier request.
    pub(super) fn due(self, is_new: bool, info: &ConversationInfo) -> Option<Self> {
        let again = !is_new;
        (is_new || is_ours(info)).then_some(Self { again, ..self })
    }

    /// Sends the message once the link can receive tokens, and starts its run if `run` is set.
    pub(super) async fn deliver(self, conversation: &Conversation, run: bool) -> Result<()> {
        let delivering = async {
            is_up(conversation).await?;
            let message = conversation.send_parts(self.content).even_if_blind();
            let message = message.unless_sent(self.again);
            match run {
                true => message.and_run().await,
                false => message.await,
            }
        };
        delivering.await.map_err(|error: Error| {
            error.in_context("the conversation was created, but its first message failed")
        })
    }
}

/// Waits until the link receives tokens, or sockets are refused.
async fn is_up(conversation: &Conversation) -> Result<()> {
    let limit = conversation.limits().unreachable;
    let up = conversation.shows(|| conversation.mirror().read().link.is_up());
    match timeout(limit, up).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(conversation.end().await),
        Err(_) => {
            let what = format!("the link is not connected after {limit:?}");
            Err(conversation
                .timed_out(what)
                .advise("the message was not sent"))
        }
    }
}
