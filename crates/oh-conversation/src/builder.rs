//! What a conversation is started with.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use oh_protocol::{
    ConversationId, Event,
    calls::conversations::Create,
    config::{AgentSource, StartConversation},
    hooks::HookConfig,
};
use oh_transport::{Client, WorkspaceHandle};

use crate::{Conversation, Cursor, Error, ErrorKind, Result, attach::Following};

/// The kind of agent this builder starts.
type Callback = Box<dyn FnMut(&Event) + Send>;

/// Starts a [`Conversation`].
#[must_use = "a builder does nothing until it is started"]
pub struct ConversationBuilder {
    client: Client,
    start: StartConversation,
    callbacks: Vec<Callback>,
    following: Following,
}

impl ConversationBuilder {
    pub(crate) fn new(workspace: &impl WorkspaceHandle, agent: AgentSource) -> Self {
        Self {
            client: workspace.client().clone(),
            start: StartConversation::new(agent, workspace.working_dir()),
            callbacks: Vec::new(),
            following: Following::default(),
        }
    }

    /// Uses this id instead of a random one. If the server has it already, that conversation is
    /// found and everything else here is ignored, as the server does.
    pub fn id(mut self, id: ConversationId) -> Self {
        self.start = self.start.conversation_id(id);
        self
    }

    /// Hooks to run on the server.
    pub fn hooks(mut self, hooks: HookConfig) -> Self {
        self.start = self.start.hook_config(hooks);
        self
    }

    /// Calls this for every event, in order, on a task of its own. Of a conversation that exists
    /// already, only events from now on.
    pub fn on_event(mut self, callback: impl FnMut(&Event) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// After how many steps a run ends in error. Server's default: 500.
    pub fn max_iterations(mut self, steps: u32) -> Self {
        self.start = self.start.max_iterations(steps);
        self
    }

    /// Asks for approval of every action before it runs.
    pub fn always_confirm(mut self) -> Self {
        self.start = self.start.always_confirm();
        self
    }

    /// A tag: key of `a-z` and `0-9`, value of at most 256 characters.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.start = self.start.tag(key, value);
        self
    }

    /// Several tags at once, such as those an automation environment asks for; a later
    /// [`tag`](Self::tag) of the same key wins.
    pub fn tags<K: Into<String>, V: Into<String>>(
        mut self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        for (key, value) in tags {
            self.start = self.start.tag(key, value);
        }
        self
    }

    /// Holds only the newest events in memory: see [`Attach::keep_last`](crate::Attach::keep_last).
    pub fn keep_last(mut self, events: usize) -> Self {
        self.following.keep_last(events);
        self
    }

    /// Changes the start request in any way its own builder offers.
    pub fn configure(
        mut self,
        change: impl FnOnce(StartConversation) -> StartConversation,
    ) -> Self {
        self.start = change(self.start);
        self
    }

    /// Creates the conversation, or finds the one with its id, and connects to it.
    ///
    /// # Errors
    ///
    /// When a value breaks a rule of the server (nothing was sent then), the server refuses, or
    /// it has a conversation with this id and another kind of agent.
    pub async fn start(self) -> Result<Conversation> {
        let id = self.start.id();
        let wanted = self.start.agent_kind().map(str::to_owned);
        let created = self.client.call(&Create::new(self.start)).await;
        let created = created.map_err(|error| Error::transport(id, "start", error))?;
        let kind = created
            .info
            .state()
            .get("agent")
            .and_then(|agent| agent.get("kind")?.as_text());
        if let (false, Some(kind), Some(wanted)) = (created.is_new, kind, wanted)
            && *kind != *wanted
        {
            let what = format!(
                "it exists with an agent of kind `{kind}`, not `{wanted}`: attach to it instead"
            );
            return Err(Error::new(ErrorKind::AgentMismatch, id, what));
        }
        let conversation = Conversation::follow(self.client, created.info, self.following).await?;
        let cursor = if created.is_new {
            Cursor::Start
        } else {
            Cursor::Now
        };
        for callback in self.callbacks {
            conversation.keep(conversation.callback(cursor, callback));
        }
        Ok(conversation)
    }
}

impl IntoFuture for ConversationBuilder {
    type Output = Result<Conversation>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for ConversationBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationBuilder")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
