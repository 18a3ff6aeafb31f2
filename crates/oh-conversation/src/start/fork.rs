//! Forks: copies of a conversation under another id.

use oh_protocol::{
    ConversationId,
    calls::conversations::{Fork, Get},
    config::{ConfirmationPolicy, Llm},
    state::ConversationInfo,
};

use crate::{
    Branches, Conversation, Error, Origin, Result,
    mirror::answered::Answered,
    request::{Polled, operation},
    start::options::Following,
};

impl Branches {
    /// Copies the conversation to another id (`POST …/fork`). Await the result.
    ///
    /// ```no_run
    /// # async fn retry(conversation: &oh_conversation::Conversation, llm: oh_protocol::config::Llm) -> oh_conversation::Result<()> {
    /// let branches = conversation.branches();
    /// let branch = branches.current();
    /// if let Some(event) = branch.iter().rev().find(|event| event.kind() == "MessageEvent") {
    ///     let copy = branches.fork().from_event(event.id()).llm(llm).title("Again").await?;
    ///     copy.run().await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn fork(&self) -> ForkConversation {
        ForkConversation {
            conversation: self.conversation.clone(),
            call: Fork::new(self.conversation.id()),
            fresh: true,
            llm: None,
            polled: Polled::default(),
        }
    }
}

impl Conversation {
    /// Returns the policy to set on a fork: the one that this program has set or, by default, the
    /// one that the server reports for the original.
    fn policy_of_fork(&self) -> Option<ConfirmationPolicy> {
        let set = {
            let held = self.mirror().read();
            self.mirror().policy_to_restore(&held)
        };
        set.or_else(|| self.approvals().policy())
    }
}

/// A request to fork a conversation. Await it for the copy.
///
/// The copy has the same events with the same ids, but neither secrets set at run time nor keys
/// given with the agent: the server omits them. The confirmation policy in effect, and an analyzer
/// set by this process, are set again. Client tools are executed for the copy too, and the copy's
/// link has the options of the original's. An action that waits for approval in the original also
/// waits in the copy.
///
/// # Errors
///
/// - [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the newest event of the original cannot
///   be read in time. No copy was made.
/// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the log does not have the event to copy
///   up to.
/// - [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the id is taken.
/// - [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous) if the response was lost and the server
///   does not show whether the copy was made. The error's
///   [`conversation_id`](crate::Error::conversation_id) is the copy's.
/// - Other kinds if a request fails. If the copy was made and a later step fails, the message says
///   so, and the error's [`conversation_id`](crate::Error::conversation_id) is the copy's.
#[derive(Debug, Clone)]
#[must_use = "nothing is copied until it is awaited"]
pub struct ForkConversation {
    conversation: Conversation,
    call: Fork,
    /// Whether the copy's id was generated for it.
    fresh: bool,
    llm: Option<Box<Llm>>,
    polled: Polled<Conversation>,
}

impl ForkConversation {
    /// Sets the id of the copy. Default: a random one.
    pub fn id(mut self, id: ConversationId) -> Self {
        self.call = self.call.id(id);
        self.fresh = false;
        self
    }

    /// Sets the title of the copy, 1 to 200 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.call = self.call.title(title);
        self
    }

    /// Sets the tags of the copy, instead of the original's.
    pub fn tags<K: Into<String>, V: Into<String>>(
        mut self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let tags = tags.into_iter();
        let tags = tags.map(|(key, value)| (key.into(), value.into()));
        self.call = self.call.tags(tags.collect());
        self
    }

    /// Sets whether the copy's cost starts at zero. Default: yes.
    pub fn reset_metrics(mut self, reset: bool) -> Self {
        self.call = self.call.reset_metrics(reset);
        self
    }

    /// Sets the model of the copy, with its key. Without this, the copy can run only if the server
    /// itself has the key of the original's model.
    pub fn llm(mut self, llm: Llm) -> Self {
        self.llm = Some(Box::new(llm));
        self
    }

    /// Copies events up to and including this one.
    pub fn from_event(mut self, event_id: impl Into<String>) -> Self {
        self.call = self.call.from_event(event_id);
        self
    }
}

impl ForkConversation {
    /// Makes the copy. If the response is lost, the server is asked for the copy's id.
    async fn copy(&self) -> Result<ConversationInfo> {
        let original = &self.conversation;
        let error = match original.client().call(&self.call).await {
            Ok(info) => return Ok(info),
            Err(error) => error,
        };
        if !error.is_unclear() {
            return Err(Error::naming(original.id(), "fork", error));
        }
        let id = self.call.copy_id();
        match original.client().call(&Get::new(id)).await {
            // No other conversation can have a generated id.
            Ok(info) if self.fresh => Ok(info),
            _ => Err(Error::ambiguous(id, "created the fork", error)),
        }
    }
}

impl ForkConversation {
    async fn make(self) -> Result<Conversation> {
        let original = &self.conversation;
        // The policy and the waiting actions, as of the newest event, also apply to the copy.
        original.up_to_date_soon().await?;
        let info = self.copy().await?;
        let copy_id = info.id();
        // Its id may be that of a deleted conversation.
        Answered::forget(original.client().base_url().as_str(), copy_id);
        let following = Following {
            link: original.link_options().clone(),
            delete_on_close: original.deletes_on_close(),
            unreported: !original.is_recorded(),
            ..Following::default()
        };
        let policy = original.policy_of_fork();
        let client = original.client().clone();
        let copy = Conversation::follow(client, info, following, Origin::Forked).await;
        let named = |error: Error| {
            error.in_context(&format!(
                "the fork {copy_id} was created, but setting it up failed"
            ))
        };
        let copy = copy.map_err(named)?;
        original.ask_in(&copy);
        let set_up = async {
            if let Some(policy) = policy {
                copy.set_policy(policy).await?;
            }
            let analyzer = {
                let held = original.mirror().read();
                original.mirror().analyzer_to_restore(&held)
            };
            if let Some(analyzer) = analyzer {
                copy.settings().set_security_analyzer(analyzer).await?;
            }
            if let Some(llm) = self.llm {
                copy.settings().switch_llm(*llm).await?;
            }
            Ok(())
        };
        set_up
            .await
            .map_err(|error: Error| named(error).of_conversation(copy_id))?;
        // Their results start runs, which need the settings.
        if let Some(dispatch) = original.client_tools() {
            copy.execute_tools(dispatch.tools().to_vec(), false, dispatch.resumes());
        }
        Ok(copy)
    }
}

operation!(
    ForkConversation,
    Conversation,
    |fork: &mut ForkConversation| fork.clone(),
    ForkConversation::make
);
