//! Conversations under a conversation: started with its agent on a task of their own. Knows no
//! goals and no tools of the agent that do the same.

use std::{
    fmt,
    future::{Future, IntoFuture},
    ops::Deref,
    pin::Pin,
};

use oh_protocol::{
    ConversationId,
    calls::conversations::{self as calls, Isolation},
    state::ConversationInfo,
};

use crate::{Conversation, Result, list};

/// A conversation that was started under another, and is at work.
///
/// It is a [`Conversation`] like any other: its events tell of its progress, and
/// [`join`](Conversation::join) awaits its end.
#[derive(Debug, Clone)]
pub struct Child {
    conversation: Conversation,
    told: calls::Child,
}

impl Child {
    /// The conversation.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The conversation alone.
    pub fn into_conversation(self) -> Conversation {
        self.conversation
    }

    /// What the server said when it was started: title, directory, whether that is its own.
    pub fn started(&self) -> &calls::Child {
        &self.told
    }
}

impl Deref for Child {
    type Target = Conversation;

    fn deref(&self) -> &Conversation {
        &self.conversation
    }
}

/// A conversation to be started under another; await it for the [`Child`].
///
/// Not repeated when its answer is lost: look among the
/// [children](Conversation::children), then.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers that know no children,
/// [`ErrorKind::RateLimited`](crate::ErrorKind::RateLimited) when the server takes no more work, and whatever the server
/// refuses: a worktree needs a repository with a commit, or it fails with a 500.
#[must_use = "nothing is started until it is awaited"]
pub struct StartChild<'a> {
    conversation: &'a Conversation,
    call: calls::StartChild,
}

impl StartChild<'_> {
    /// Its title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.call = self.call.title(title);
        self
    }

    /// Where it works. Server's default: in a git worktree of its own, where the directory is a
    /// repository.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.call = self.call.isolation(isolation);
        self
    }
}

impl<'a> IntoFuture for StartChild<'a> {
    type Output = Result<Child>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let parent = self.conversation;
            let told = parent.call_newer("start a child", &self.call).await?;
            let attached = Conversation::attach(parent.client(), told.conversation_id).await?;
            Ok(Child {
                conversation: attached,
                told,
            })
        })
    }
}

impl fmt::Debug for StartChild<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartChild")
            .field("conversation", &self.conversation.id())
            .finish_non_exhaustive()
    }
}

impl Conversation {
    /// Starts a conversation under this one, with the same agent, on a task
    /// (`POST …/children`).
    ///
    /// ```no_run
    /// # async fn split(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::calls::conversations::Isolation;
    ///
    /// let child = conversation.start_child("Write the tests.").isolation(Isolation::Shared).await?;
    /// let outcome = child.join().await?;
    /// println!("{outcome}: {}", child.final_response().await?);
    /// # Ok(()) }
    /// ```
    pub fn start_child(&self, task: impl Into<String>) -> StartChild<'_> {
        StartChild {
            conversation: self,
            call: calls::StartChild::new(self.id(), task),
        }
    }

    /// The conversations under this one, whoever started them, as the server describes them.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn children(&self) -> Result<Vec<ConversationInfo>> {
        let info = self.info().await?;
        let ids = info.state().get("sub_conversation_ids");
        let ids: Vec<ConversationId> = ids.and_then(|ids| ids.decode().ok()).unwrap_or_default();
        let children = list::batch(self.client(), &ids).await?;
        Ok(children.into_iter().flatten().collect())
    }
}
