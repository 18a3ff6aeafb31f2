//! The link to the server: its status, its changes, and why it is down.

use crate::{Conversation, Error, LinkStatus, Watch};

/// The link between a conversation's local mirror and the server: see [`Conversation::link`].
///
/// Keeps the link open, as the conversation's other handles do. A stream of
/// [`changes`](Self::changes) does not.
///
/// ```no_run
/// # async fn show(conversation: &oh_conversation::Conversation) {
/// let link = conversation.link();
/// let mut changes = link.changes();
/// while let Some(status) = changes.next().await {
///     match link.last_error() {
///         Some(error) => println!("{status:?}: {error}"),
///         None => println!("{status:?}"),
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LinkHandle {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the link to the server: its status, its changes, and why it is down.
    pub fn link(&self) -> LinkHandle {
        LinkHandle {
            conversation: self.clone(),
        }
    }
}

impl LinkHandle {
    /// Returns the status of the link. After a [`close`](Conversation::close) of the handle it is
    /// [`Ended`](LinkStatus::Ended).
    pub fn status(&self) -> LinkStatus {
        self.conversation.view().link()
    }

    /// Returns the status as a stream of the latest value.
    pub fn changes(&self) -> Watch<LinkStatus> {
        Watch::links(self.conversation.view())
    }

    /// Returns the error that ended the last connection or prevents the next one; `None` once the
    /// link is live again. While the link is [`Polling`](LinkStatus::Polling), this is the reason
    /// why sockets are refused. The error that ended the link permanently is kept.
    ///
    /// Informational only: the watcher keeps retrying. No action is needed until the link has
    /// ended.
    pub fn last_error(&self) -> Option<Error> {
        self.conversation.last_error()
    }

    /// Waits until the link has ended permanently, and returns the reason: for example, the
    /// conversation was deleted, the server rejected the session key, or the handle was
    /// [closed](Conversation::close). From then on, streams and callbacks have ended. A handle that
    /// has deleted its conversation is closed too: the kind is
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// The future does not keep the link open, and it can be spawned, for programs that only have
    /// callbacks:
    ///
    /// ```no_run
    /// # fn watch(conversation: &oh_conversation::Conversation) {
    /// let ended = conversation.link().ended();
    /// tokio::spawn(async move { eprintln!("no more events: {}", ended.await) });
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the future changes nothing.
    pub fn ended(&self) -> impl Future<Output = Error> + Send + use<> {
        let view = self.conversation.view();
        async move {
            let mut changes = view.changes();
            loop {
                changes.borrow_and_update();
                if let Some(error) = view.ended() {
                    return error;
                }
                // The view owns the sender.
                _ = changes.changed().await;
            }
        }
    }

    /// Returns how many connections have been made so far: the first, and one after each
    /// disconnect.
    pub fn connections(&self) -> u64 {
        self.conversation.mirror().read().connection
    }
}
