//! Sending a message, without approving by accident what awaits approval.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{
    ExecutionStatus, Payload,
    calls::{self, events::UserContent},
};
use oh_transport::ErrorKind as Wire;
use tokio::time::timeout;

use crate::{Conversation, Error, ErrorKind, Link, Result};

/// How long the log may take to show a message whose answer was lost: a reconnection and more.
const LOG_DELAY: Duration = Duration::from_secs(15);

/// A message on its way. Await it; it is saved on the server then.
#[must_use = "a message is not sent until it is awaited"]
pub struct SendMessage<'a> {
    conversation: &'a Conversation,
    content: Vec<UserContent>,
    run: bool,
    sender: Option<String>,
    anyway: bool,
    blind: bool,
}

impl<'a> SendMessage<'a> {
    pub(crate) fn new(conversation: &'a Conversation, content: Vec<UserContent>) -> Self {
        Self {
            conversation,
            content,
            run: false,
            sender: None,
            anyway: false,
            blind: false,
        }
    }

    /// Adds a part.
    pub fn and(mut self, content: impl Into<UserContent>) -> Self {
        self.content.push(content.into());
        self
    }

    /// Adds an image: its URL, or itself as a `data:` URL such as `data:image/png;base64,…`.
    ///
    /// Where the agent's model is said to see no images (`disable_vision`), it is refused. What
    /// else a model can see only the server knows: for one that it takes to be blind, the agent
    /// answers with a text that says so, and is done; see
    /// [`RunReport::image_unseen`](crate::RunReport::image_unseen).
    pub fn image(self, url: impl Into<String>) -> Self {
        self.and(UserContent::image(url))
    }

    /// Sends images even to a model that is said to see none: for agents whose tools look at
    /// them.
    pub fn even_if_blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Who says it, where several people talk to an agent. Servers up to 1.58 drop it.
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.sender = Some(sender.into());
        self
    }

    /// Also starts a run, and does not wait for it.
    pub fn and_run(mut self) -> Self {
        self.run = true;
        self
    }

    /// Sends it even while an action awaits approval. The next run executes that action then:
    /// to the server, running means approving.
    pub fn even_if_pending(mut self) -> Self {
        self.anyway = true;
        self
    }
}

impl<'a> IntoFuture for SendMessage<'a> {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let id = self.conversation.id();
            let empty = self
                .content
                .iter()
                .all(|part| matches!(part, UserContent::Text { text } if text.trim().is_empty()));
            if empty {
                return Err(Error::new(ErrorKind::InvalidInput, id, "an empty message"));
            }
            if self.conversation.link() == Link::Connecting {
                // What is known may be old.
                self.conversation.caught_up().await;
            }
            let status = self.conversation.mirror().read().state.execution_status();
            if status == ExecutionStatus::WaitingForConfirmation && !self.anyway {
                return Err(Error::new(
                    ErrorKind::PendingConfirmation,
                    id,
                    "an action awaits approval, and a message would approve it: confirm or \
                     reject it first, or send with `even_if_pending`",
                ));
            }
            let pictured = |part: &UserContent| matches!(part, UserContent::Image { .. });
            if !self.blind && self.content.iter().any(pictured) && is_blind(self.conversation) {
                let what = "an image, but the agent's model sees none: switch the model, or send \
                            with `even_if_blind`";
                return Err(Error::new(ErrorKind::NoVision, id, what));
            }
            let held = self.conversation.mirror().read().log.end();
            let text = text_of(&self.content);
            let mut call = calls::events::Send::new(id, self.content).run(self.run);
            if let Some(sender) = self.sender {
                call = call.sender(sender);
            }
            match self.conversation.client().call(&call).await {
                Ok(()) => Ok(()),
                Err(error) if matches!(error.kind(), Wire::Interrupted | Wire::Timeout) => {
                    // There is no key by which the server could tell a repetition: the log says
                    // whether the message was taken.
                    if logged(self.conversation, held, &text).await {
                        return Ok(());
                    }
                    Err(Error::ambiguous(id, "take the message", error))
                }
                // The message is in the log; only its run was refused.
                Err(error) if error.kind() == Wire::RateLimited && self.run => Err(
                    Error::transport(id, "run: the message was saved, only run again", error),
                ),
                Err(error) => Err(Error::transport(id, "send a message", error)),
            }
        })
    }
}

/// Whether the agent's model is said to see no images.
fn is_blind(conversation: &Conversation) -> bool {
    let agent = conversation.state().get("agent").cloned();
    let blind = agent.and_then(|agent| agent.get("llm")?.get("disable_vision"));
    blind.is_some_and(|blind| blind.as_str() == "true")
}

fn text_of(content: &[UserContent]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        UserContent::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Whether a user's message with this text comes, or came, after the first `held` events.
async fn logged(conversation: &Conversation, held: usize, text: &str) -> bool {
    let mut changes = conversation.changes();
    let found = changes.wait_for(|_| {
        let log = conversation.mirror().read().log.clone();
        log.range(held..log.end())
            .any(|event| match event.payload() {
                Payload::Message(message) => {
                    event.source().as_str() == "user" && message.llm_message.text() == text
                }
                _ => false,
            })
    });
    timeout(LOG_DELAY, found)
        .await
        .is_ok_and(|found| found.is_ok())
}

impl fmt::Debug for SendMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendMessage")
            .field("parts", &self.content.len())
            .finish_non_exhaustive()
    }
}
