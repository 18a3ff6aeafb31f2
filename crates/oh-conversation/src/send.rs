//! Sending a message, without approving by accident what awaits approval.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use oh_protocol::{
    ExecutionStatus,
    calls::{self, events::UserContent},
};

use crate::{Conversation, Error, ErrorKind, Result};

/// A message on its way. Await it; it is saved on the server then.
#[must_use = "a message is not sent until it is awaited"]
pub struct SendMessage<'a> {
    conversation: &'a Conversation,
    content: Vec<UserContent>,
    run: bool,
    anyway: bool,
}

impl<'a> SendMessage<'a> {
    pub(crate) fn new(conversation: &'a Conversation, content: UserContent) -> Self {
        Self {
            conversation,
            content: vec![content],
            run: false,
            anyway: false,
        }
    }

    /// Adds a part, such as an image.
    pub fn and(mut self, content: impl Into<UserContent>) -> Self {
        self.content.push(content.into());
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
            let status = self.conversation.mirror().read().state.execution_status();
            if status == ExecutionStatus::WaitingForConfirmation && !self.anyway {
                return Err(Error::new(
                    ErrorKind::PendingConfirmation,
                    id,
                    "an action awaits approval, and a message would approve it: confirm or \
                     reject it first, or send with `even_if_pending`",
                ));
            }
            let call = calls::events::Send::new(id, self.content).run(self.run);
            self.conversation.call("send a message", &call).await
        })
    }
}

impl fmt::Debug for SendMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendMessage")
            .field("parts", &self.content.len())
            .finish_non_exhaustive()
    }
}
