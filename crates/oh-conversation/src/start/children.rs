//! Child conversations: started from a conversation, with the same agent and a separate task.

use std::{fmt, ops::Deref};

use oh_protocol::{
    ConversationId,
    calls::conversations::{self as calls, Isolation},
    state::ConversationInfo,
};

use crate::{
    Conversation, Error, ErrorKind, Request, Result,
    mirror::changes::Part,
    ops::list,
    request::{Polled, operation},
};

/// A child conversation that has been started.
///
/// A child is a [`Conversation`] like any other: its events show its progress, and
/// [`join`](Conversation::join) waits for its end.
#[derive(Debug, Clone)]
pub struct Child {
    conversation: Conversation,
    response: calls::Child,
}

impl Child {
    /// Returns the conversation.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Returns the conversation without the server's response.
    pub fn into_conversation(self) -> Conversation {
        self.conversation
    }

    /// Returns the server's response at the start: title, directory, and whether the directory is
    /// the child's own.
    pub fn started(&self) -> &calls::Child {
        &self.response
    }
}

impl Deref for Child {
    type Target = Conversation;

    fn deref(&self) -> &Conversation {
        &self.conversation
    }
}

/// A child conversation that has not been started. Await it for the [`Child`].
///
/// The request is not repeated when its response is lost: check the
/// [children](Children::list) in that case.
///
/// The server starts a child under the confirmation policy with which the parent was created, and
/// runs it at once. A policy that was set later does not apply to it, and would come too late.
///
/// A child has the client tools of its parent. The handlers of the parent's handle are called for
/// the child too, as long as the child's handle lives. A program that attaches to a child passes
/// them to [`client_tool`](crate::Attach::client_tool).
///
/// # Errors
///
/// Returns [`ErrorKind::Conflict`](crate::ErrorKind::Conflict), and sends nothing, if the policy in
/// effect may ask for approval and was [set](crate::Approvals::set_policy) after the creation.
/// Instead, create another conversation with this policy, or create the parent with it.
///
/// Returns [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), and sends nothing, if the newest
/// event cannot be read in time.
///
/// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without child
/// conversations, [`ErrorKind::RateLimited`](crate::ErrorKind::RateLimited) if the server accepts
/// no more runs, and other kinds if it rejects the request: a worktree needs a repository with a
/// commit, or the server returns a 500.
#[derive(Clone)]
#[must_use = "nothing is started until it is awaited"]
pub struct StartChild {
    conversation: Conversation,
    call: calls::StartChild,
    polled: Polled<Child>,
}

impl StartChild {
    /// Sets the child's title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.call = self.call.title(title);
        self
    }

    /// Sets where the child works. Server's default: in a separate git worktree, if the directory
    /// is a repository.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.call = self.call.isolation(isolation);
        self
    }
}

impl StartChild {
    async fn start(self) -> Result<Child> {
        let parent = &self.conversation;
        parent.check_before_child().await?;
        let response = parent
            .call_newer("start a child conversation", &self.call)
            .await?;
        let attached = Conversation::attach(parent.client(), response.conversation_id).await?;
        if let Some(dispatch) = parent.client_tools() {
            // The child may have called them already.
            attached.execute_tools(dispatch.tools().to_vec(), true, false);
        }
        Ok(Child {
            conversation: attached,
            response,
        })
    }
}

operation!(
    StartChild,
    Child,
    |child: &mut StartChild| child.clone(),
    StartChild::start
);

impl fmt::Debug for StartChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartChild")
            .field("conversation", &self.conversation.id())
            .finish_non_exhaustive()
    }
}

/// The child conversations of a conversation: see [`Conversation::children`].
#[derive(Debug, Clone)]
pub struct Children {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the child conversations: started with the same agent, each with a separate task.
    pub fn children(&self) -> Children {
        Children {
            conversation: self.clone(),
        }
    }
}

impl Conversation {
    /// Checks that a child, which the server runs under the policy of the parent's creation, needs
    /// no approval that this policy does not ask for.
    async fn check_before_child(&self) -> Result<()> {
        // Another program may have set a policy that has not arrived yet.
        self.up_to_date_soon().await?;
        if !self.policy_may_ask() {
            return Ok(());
        }
        // The server logs no policy but those set at run time.
        if self.newest_change(Part::Policy).await?.is_none() && !self.has_set_policy() {
            return Ok(());
        }
        let what = "the confirmation policy was set after the conversation was created, and a \
                    child would run without it";
        let error = Error::new(ErrorKind::Conflict, self.id(), what);
        Err(error.advise("nothing was sent; create a conversation with this policy instead"))
    }

    /// Returns whether this process has set a policy.
    fn has_set_policy(&self) -> bool {
        let held = self.mirror().read();
        self.mirror().policy_to_restore(&held).is_some()
    }
}

impl Children {
    /// Starts a child conversation of this one, with the same agent, the confirmation policy with
    /// which this one was created, and a separate task (`POST …/children`).
    ///
    /// ```no_run
    /// # async fn split(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::calls::conversations::Isolation;
    ///
    /// let child = conversation.children().start("Write the tests.");
    /// let child = child.isolation(Isolation::Shared).await?;
    /// let outcome = child.join().await?;
    /// println!("{outcome}: {}", child.agent().final_response().await?);
    /// # Ok(()) }
    /// ```
    pub fn start(&self, task: impl Into<String>) -> StartChild {
        StartChild {
            conversation: self.conversation.clone(),
            call: calls::StartChild::new(self.conversation.id(), task),
            polled: Polled::default(),
        }
    }

    /// Returns the server's descriptions of all child conversations, including those started by
    /// other programs.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn list(&self) -> Request<Vec<ConversationInfo>> {
        let this = self.clone();
        Request::new(async move {
            let info = this.conversation.info().await?;
            let ids = info.state().get("sub_conversation_ids");
            let ids: Vec<ConversationId> =
                ids.and_then(|ids| ids.decode().ok()).unwrap_or_default();
            let children = list::batch(this.conversation.client(), &ids).await?;
            Ok(children.into_iter().flatten().collect())
        })
    }
}
