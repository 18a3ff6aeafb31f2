//! The builder for conversations.

mod first;
mod setters;
mod tools;

use std::{fmt, future::IntoFuture};

use oh_protocol::{
    ConversationId, Event,
    calls::conversations::{Create, Created},
    config::{AgentSource, StartConversation},
};
use oh_transport::{Client, WorkspaceHandle};

use self::first::FirstMessage;
use crate::{
    Conversation, Cursor, Error, ErrorKind, Origin, Request, Result, Token, TokenStream,
    conversation::origin::differences,
    mirror::answered::Answered,
    ops::secrets::own_key,
    read::callback::Place,
    start::{
        automation,
        options::{Following, link_options},
    },
};

/// The maximum length of a tag's value.
const TAG_LENGTH: usize = 256;

type Callback = Box<dyn FnMut(&Event) + Send>;
type ErrorCallback = Box<dyn FnMut(&Error) + Send>;
type TokenCallback = Box<dyn FnMut(&Token) + Send>;

/// Starts a [`Conversation`]. Await the builder, or call [`start`](Self::start).
///
/// ```no_run
/// # async fn begin(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) -> oh_conversation::Result<()> {
/// use oh_conversation::{Conversation, Origin};
/// use oh_protocol::ConversationId;
///
/// // The same id always returns the same conversation; the first start creates it.
/// let id: ConversationId = "6f1d5a3e-6d4f-4b52-9a5b-0f0c9ad1f3a7".parse().expect("a UUID");
/// let conversation = Conversation::builder(workspace, agent)
///     .id(id)
///     .tag("team", "tools")
///     .max_iterations(50)
///     .await?;
/// if let Origin::Found(differences) = conversation.origin() {
///     for difference in differences {
///         println!("the existing conversation differs in {difference}");
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct ConversationBuilder {
    plan: Plan,
    callbacks: Vec<(Place, Callback)>,
    token_callbacks: Vec<TokenCallback>,
    error_callbacks: Vec<ErrorCallback>,
    following: Following,
}

/// The request to the server.
#[derive(Debug)]
pub(crate) struct Plan {
    client: Client,
    start: StartConversation,
    /// The id of the conversation if the program sets none. No other program can have used it.
    generated: ConversationId,
    /// The source URLs of the plugins.
    sources: Vec<String>,
    unchecked: bool,
    /// Whether the tags of an automation environment are added.
    automation: bool,
    /// Whether the first message is sent once the conversation is connected.
    holds: bool,
    /// Why the server can never accept the arguments of a client tool.
    unusable: Option<String>,
}

impl Conversation {
    /// Creates a builder for a conversation with an agent in a workspace. The agent is an `Agent`,
    /// an `AcpAgent`, or a reference to an agent on the server.
    pub fn builder(
        workspace: &impl WorkspaceHandle,
        agent: impl Into<AgentSource>,
    ) -> ConversationBuilder {
        ConversationBuilder::new(workspace, agent.into())
    }
}

impl ConversationBuilder {
    pub(crate) fn new(workspace: &impl WorkspaceHandle, agent: AgentSource) -> Self {
        let start = StartConversation::new(agent, workspace.working_dir());
        Self {
            plan: Plan {
                client: workspace.client().clone(),
                generated: start.id(),
                start,
                sources: Vec::new(),
                unchecked: false,
                automation: true,
                holds: false,
                unusable: None,
            },
            callbacks: Vec::new(),
            token_callbacks: Vec::new(),
            error_callbacks: Vec::new(),
            following: Following::default(),
        }
    }

    /// Calls a function for every event, in order, until the conversation is closed or its link
    /// ends. If the conversation exists already, the function is called only for events from now
    /// on.
    ///
    /// The callback runs on a task and must not block: see [`Conversation::on_event`].
    pub fn on_event(mut self, callback: impl FnMut(&Event) + Send + 'static) -> Self {
        self.callbacks.push((Place::Task, Box::new(callback)));
        self
    }

    /// Calls a function that may block for every event, as [`on_event`](Self::on_event) does: see
    /// [`Conversation::on_event_blocking`].
    pub fn on_event_blocking(mut self, callback: impl FnMut(&Event) + Send + 'static) -> Self {
        self.callbacks.push((Place::Thread, Box::new(callback)));
        self
    }

    /// Calls a function for every [`Token`], from the first one of the run that
    /// [`initial_message`](Self::initial_message) starts, until the conversation is closed or its
    /// link ends. For models with streaming enabled (`Llm::stream`).
    ///
    /// The server sends tokens only to sockets that are connected, and never again. With this
    /// callback, the first message is therefore not part of the start request:
    /// [`start`](Self::start) creates the conversation, connects, sends the message
    /// (`POST …/events`), and starts the run (`POST …/run`). See there for errors. A conversation
    /// that this process creates in this way has the tag `firstmessage`. If sockets are refused
    /// ([`LinkStatus::Polling`](crate::LinkStatus::Polling)), the message is sent, but no tokens
    /// arrive.
    ///
    /// The callback runs on a task and must not block: see [`Conversation::on_token`]. For a stream
    /// instead, see [`start_with_tokens`](Self::start_with_tokens).
    ///
    /// ```no_run
    /// # async fn begin(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) -> oh_conversation::Result<()> {
    /// use oh_conversation::{Conversation, Token};
    ///
    /// let conversation = Conversation::builder(workspace, agent)
    ///     .initial_message("Say hello.")
    ///     .on_token(|token| {
    ///         if let Token::Text { content, .. } = token {
    ///             print!("{content}");
    ///         }
    ///     })
    ///     .start()
    ///     .await?;
    /// conversation.join().await?;
    /// # Ok(()) }
    /// ```
    pub fn on_token(mut self, callback: impl FnMut(&Token) + Send + 'static) -> Self {
        self.plan.holds = true;
        self.token_callbacks.push(Box::new(callback));
        self
    }

    /// Calls a function for every error of the link: each time the connection is lost or cannot be
    /// made, and once when the link ends permanently, so that no more events arrive. See
    /// [`Conversation::on_error`]. Errors before [`start`](Self::start) is ready are left out,
    /// except one that still lasts.
    pub fn on_error(mut self, callback: impl FnMut(&Error) + Send + 'static) -> Self {
        self.error_callbacks.push(Box::new(callback));
        self
    }

    /// Keeps only the newest events in memory: see [`Attach::keep_last`](crate::Attach::keep_last).
    pub fn keep_last(mut self, events: usize) -> Self {
        self.following.keep_last(events);
        self
    }

    link_options!(following);

    /// Sets whether the conversation belongs to the run of an automation environment, if this
    /// process runs in one. Default: yes.
    ///
    /// Then the conversation has the tags `automationtrigger`, `automationid`, `automationname` and
    /// `automationrunid`, as far as `AUTOMATION_EVENT_PAYLOAD` and `AUTOMATION_RUN_ID` request
    /// them. A [`tag`](Self::tag) with the same key overrides the value. And where
    /// `AUTOMATION_CALLBACK_URL` is set, the report of `oh_workspace::Automation` has the id of the
    /// newest conversation of this process, and the sum of the costs of all. A failed run makes it
    /// a failure. Without these variables this setting changes nothing.
    pub fn automation(mut self, yes: bool) -> Self {
        self.following.unreported = !yes;
        self.plan.automation = yes;
        self
    }

    /// Deletes the conversation on the server when it is [closed](Conversation::close), but not
    /// when all handles are dropped. Default: the conversation is kept.
    pub fn delete_on_close(mut self) -> Self {
        self.following.delete_on_close = true;
        self
    }

    /// Skips the check of the agent's tool names. Default: a tool that is unknown to the server is
    /// rejected, because the server itself would only fail at the first message.
    pub fn unchecked_tools(mut self) -> Self {
        self.plan.unchecked = true;
        self
    }

    /// Changes the start request with the methods of its builder.
    pub fn configure(
        mut self,
        change: impl FnOnce(StartConversation) -> StartConversation,
    ) -> Self {
        self.plan.start = change(self.plan.start);
        self
    }

    /// Creates the conversation, or finds the one with its id, and connects to it
    /// (`POST /api/conversations`). [`Conversation::origin`] returns which of the two happened.
    ///
    /// After any failure this can be called again with the same id: there will be one conversation,
    /// and one first message. If the response to an attempt is lost, the request is repeated. With
    /// an [id](Self::id) that the program has set, the origin is then [`Origin::Found`], because
    /// the server does not report who created the conversation.
    ///
    /// With [`on_token`](Self::on_token), the first message is a separate request, sent when the
    /// conversation is connected. The message is sent once: by the process that has created the
    /// conversation, also if it calls this again with the same id. Another process never sends it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`] if a value is invalid, or a client tool has the name of
    ///   another tool. Nothing was sent.
    /// - [`ErrorKind::UnknownTool`] if the server does not have a tool of the agent. Nothing was
    ///   sent.
    /// - [`ErrorKind::Validation`] if the server rejects the request, for example because of
    ///   another schema for an existing client tool, or a parent that it does not have.
    /// - [`ErrorKind::RateLimited`] while the server accepts no more runs.
    /// - [`ErrorKind::AgentMismatch`] if the server has a conversation with this id and another
    ///   kind of agent.
    /// - With [`on_token`](Self::on_token), the errors of [`SendMessage`](crate::SendMessage) for
    ///   the first message, in particular [`ErrorKind::Ambiguous`], and [`ErrorKind::Timeout`] if
    ///   the link is not connected within [`unreachable_after`](Self::unreachable_after). The error
    ///   names the conversation, which exists then. Unless the error is `Ambiguous`, call this
    ///   again with that id, or attach and send the message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the conversation may exist. With [`on_token`](Self::on_token) its
    /// first message may or may not have been sent, and its run may not have started. A new start
    /// with the same id by this process does what is missing.
    pub async fn start(self) -> Result<Conversation> {
        let created = self.plan.create().await?;
        self.connect(created, true).await
    }

    /// Starts the conversation as [`start`](Self::start) does, and returns a stream of its tokens
    /// from the first one of the run that [`initial_message`](Self::initial_message) starts. The
    /// message is sent once the conversation is connected, as with [`on_token`](Self::on_token).
    ///
    /// ```no_run
    /// # async fn begin(workspace: &impl oh_transport::WorkspaceHandle, agent: oh_protocol::config::Agent) -> oh_conversation::Result<()> {
    /// use oh_conversation::{Conversation, Token};
    ///
    /// let builder = Conversation::builder(workspace, agent).initial_message("Say hello.");
    /// let (conversation, mut tokens) = builder.start_with_tokens().await?;
    /// while let Some(token) = tokens.next().await {
    ///     match token {
    ///         Token::Text { content, .. } => print!("{content}"),
    ///         Token::Finished { .. } => break,
    ///         _ => {}
    ///     }
    /// }
    /// conversation.join().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`start`](Self::start) with [`on_token`](Self::on_token).
    ///
    /// # Cancel safety
    ///
    /// As for [`start`](Self::start) with [`on_token`](Self::on_token).
    pub async fn start_with_tokens(mut self) -> Result<(Conversation, TokenStream)> {
        self.plan.holds = true;
        let created = self.plan.create().await?;
        let (conversation, message) = self.follow(created).await?;
        let tokens = conversation.tokens();
        if let Some(message) = message {
            message.deliver(&conversation, true).await?;
        }
        Ok((conversation, tokens))
    }

    /// Keeps the first message in the start request, so that both happen or neither does.
    pub(crate) fn whole(mut self) -> Self {
        self.plan.holds = false;
        self
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Connects to the created or found conversation, and sends its first message unless the start
    /// request had it. `run`: whether this also starts the run of the message.
    pub(crate) async fn connect(self, created: Created, run: bool) -> Result<Conversation> {
        let (conversation, message) = self.follow(created).await?;
        if let Some(message) = message {
            message.deliver(&conversation, run).await?;
        }
        Ok(conversation)
    }

    /// Connects to the created or found conversation. Returns the first message if it is to be
    /// sent.
    async fn follow(self, created: Created) -> Result<(Conversation, Option<FirstMessage>)> {
        // A generated id is found only if the response to an earlier attempt was lost.
        if created.is_new {
            // Its id may be that of a deleted conversation.
            Answered::forget(self.plan.client.base_url().as_str(), created.info.id());
        }
        let new = created.is_new || self.plan.id() == self.plan.generated;
        let (origin, cursor) = match new {
            true => (Origin::Created, Cursor::Start),
            false => {
                let differences = differences(&self.plan.start, &created.info);
                (Origin::Found(differences), Cursor::Now)
            }
        };
        let message = self.plan.first_message()?;
        let held = message.is_some();
        let message = message.and_then(|it| it.due(created.is_new, &created.info));
        let conversation =
            Conversation::follow(self.plan.client, created.info, self.following, origin).await?;
        if created.is_new && self.plan.start.has_initial_message() && !held {
            // The agent may take long to start.
            conversation.mirror().answered.start(0);
        }
        for (place, callback) in self.callbacks {
            conversation.callback(cursor, place, callback).detach();
        }
        for callback in self.error_callbacks {
            conversation.error_callback(true, callback).detach();
        }
        for callback in self.token_callbacks {
            conversation.on_token(callback).detach();
        }
        Ok((conversation, message))
    }
}

impl Plan {
    pub(crate) fn id(&self) -> ConversationId {
        self.start.id()
    }

    /// Returns the first message if it is not part of the request.
    fn first_message(&self) -> Result<Option<FirstMessage>> {
        match self.holds {
            true => first::of(&self.start),
            false => Ok(None),
        }
    }

    /// Returns the start request with the tags of an automation environment, and a tag of the
    /// plugins' source URLs, as many as fit.
    fn tagged(&self) -> StartConversation {
        let mut named = String::new();
        for source in &self.sources {
            let comma = if named.is_empty() { "" } else { "," };
            if (named.len() + comma.len() + source.len()) <= TAG_LENGTH {
                named = named + comma + source;
            }
        }
        let start = match named.is_empty() || self.start.has_tag("plugins") {
            true => self.start.clone(),
            false => self.start.clone().tag("plugins", named),
        };
        match self.automation {
            true => automation::tagged(start),
            false => start,
        }
    }

    /// Creates the conversation on the server, or finds it.
    pub(crate) async fn create(&self) -> Result<Created> {
        let id = self.start.id();
        let check = self.start.check();
        check.map_err(|error| Error::transport(id, "create the conversation", error.into()))?;
        if let Some(reason) = &self.unusable {
            return Err(Error::new(ErrorKind::InvalidInput, id, reason.as_str()));
        }
        self.first_message()?;
        if !self.unchecked {
            tools::check(&self.client, &self.start).await?;
        }
        let failed = |error| Error::transport(id, "create the conversation", error);
        let key = own_key(&self.client, self.start.wants_session_key()).await;
        let mut start = self.tagged();
        if self.holds {
            start = first::without(start);
        }
        if let Some(key) = key.map_err(failed)? {
            start = start.with_session_key(&key);
        }
        let created = self.client.call(&Create::new(start)).await;
        let created =
            created.map_err(|error| Error::transport(id, "create the conversation", error))?;
        let kind = created.info.state().agent_kind();
        if let (false, Some(kind), Some(wanted)) = (created.is_new, kind, self.start.agent_kind())
            && *kind != *wanted
        {
            let what = format!(
                "the conversation already exists with an agent of kind `{kind}`, not `{wanted}`"
            );
            let error = Error::new(ErrorKind::AgentMismatch, id, what);
            return Err(error.advise("attach to it instead, or use another id"));
        }
        Ok(created)
    }
}

impl IntoFuture for ConversationBuilder {
    type Output = Result<Conversation>;
    type IntoFuture = Request<Conversation>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.start())
    }
}

impl fmt::Debug for ConversationBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationBuilder")
            .field("start", &self.plan.start)
            .finish_non_exhaustive()
    }
}
