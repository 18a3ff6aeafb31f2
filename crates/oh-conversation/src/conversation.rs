//! The handle: what a program holds of a conversation.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use oh_protocol::{
    Call, ConversationId, Event,
    calls::{self, events::UserContent},
    config::AgentSource,
    event::HookExecutionEvent,
    state::{ConversationInfo, ConversationState},
};
use oh_transport::{Client, WorkspaceHandle};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use crate::{
    Attach, ConversationBuilder, Cursor, Error, ErrorKind, EventStream, Events, GenerateTitle,
    Latest, Link, Origin, Result, Run, SendMessage, Subscription, TokenStream,
    attach::Following,
    branches::Navigated,
    callback::{self, Callbacks, Place},
    client_tools::{self, Dispatch},
    mirror::Mirror,
    pager::Pager,
    tokens::{Readers, Tokens},
    watcher::Watcher,
};

/// How long a new subscriber waits for its first snapshot. While a tool runs the server sends
/// none, which is no failure.
pub(crate) const FIRST_SNAPSHOT: Duration = Duration::from_secs(5);

/// How long a close waits for callbacks, and for the watcher.
const CLOSING: Duration = Duration::from_millis(100);

/// A conversation on a server. Cheap to clone; the link to the server ends with the last clone,
/// the conversation itself does not.
#[derive(Clone)]
pub struct Conversation(Arc<Inner>);

struct Inner {
    client: Client,
    working_dir: String,
    mirror: Arc<Mirror>,
    tokens: Readers,
    /// Dropped with the last handle, which stops the watcher as asking it does.
    stop: watch::Sender<bool>,
    /// Where callbacks run: the runtime of the watcher.
    runtime: Handle,
    callbacks: Callbacks,
    origin: Origin,
    navigated: Mutex<Option<Navigated>>,
    delete_on_close: bool,
    dispatch: OnceLock<Dispatch>,
}

/// A handle that does not keep the link to the server alive; made by
/// [`Conversation::downgrade`].
#[derive(Clone)]
pub struct WeakConversation(Weak<Inner>);

impl WeakConversation {
    /// Returns a handle, unless the last [`Conversation`] handle is gone.
    pub fn upgrade(&self) -> Option<Conversation> {
        self.0.upgrade().map(Conversation)
    }
}

impl Conversation {
    /// Begins a conversation of an agent in a workspace: an `Agent`, an `AcpAgent`, or one that
    /// the server finds.
    pub fn builder(
        workspace: &impl WorkspaceHandle,
        agent: impl Into<AgentSource>,
    ) -> ConversationBuilder {
        ConversationBuilder::new(workspace, agent.into())
    }

    /// Connects to a conversation that exists; await it.
    pub fn attach(client: &Client, id: ConversationId) -> Attach {
        Attach::new(client, id)
    }

    pub(crate) async fn follow(
        client: Client,
        info: ConversationInfo,
        following: Following,
        origin: Origin,
    ) -> Result<Self> {
        let id = info.id();
        let state = info.state().clone();
        // Snapshots take its place; it must not be kept until then.
        drop(info);
        let working_dir = state
            .get("workspace")
            .and_then(|workspace| workspace.get("working_dir")?.as_text())
            .unwrap_or_default()
            .into();
        let (writer, mirror) = Mirror::new(id, state, following.keep);
        let (stop, stopped) = watch::channel(false);
        let tokens = Tokens::default();
        let readers = tokens.readers();
        let backoff = following.backoff;
        let watcher = Watcher::new(client.clone(), writer, tokens, stopped, backoff);
        tokio::spawn(watcher.run());
        let conversation = Self(Arc::new(Inner {
            client,
            working_dir,
            mirror,
            tokens: readers,
            stop,
            runtime: Handle::current(),
            callbacks: Callbacks::default(),
            origin,
            navigated: Mutex::default(),
            delete_on_close: following.delete_on_close,
            dispatch: OnceLock::new(),
        }));
        conversation.caught_up().await;
        let ended = conversation.0.mirror.read().ended.clone();
        if let Some(error) = ended {
            return Err(error);
        }
        if !following.tools.is_empty() {
            let new = matches!(conversation.origin(), Origin::Created);
            let resume = following.resume_tools;
            let dispatch = Dispatch::start(&conversation, following.tools, new, resume);
            _ = conversation.0.dispatch.set(dispatch);
        }
        Ok(conversation)
    }

    /// How this handle came to be: whether the conversation was made for it, or found.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Waits until everything the server has is here, for as long as is sensible.
    pub(crate) async fn caught_up(&self) {
        let mut changes = self.changes();
        let ready = changes.wait_for(|_| {
            let held = self.mirror().read();
            held.link == Link::Live || held.ended.is_some()
        });
        let _ = timeout(FIRST_SNAPSHOT, ready).await;
    }

    /// Returns a handle that does not keep the link alive, as for a callback that is
    /// [detached](Subscription::detach).
    pub fn downgrade(&self) -> WeakConversation {
        WeakConversation(Arc::downgrade(&self.0))
    }

    /// Its id.
    pub fn id(&self) -> ConversationId {
        self.0.mirror.id
    }

    /// The events held now, in log order.
    pub fn events(&self) -> Events {
        Events::of(self.0.mirror.read().log.clone())
    }

    /// The state as the server last told it.
    pub fn state(&self) -> Arc<ConversationState> {
        self.0.mirror.read().state.clone()
    }

    /// How the mirror stands to the server.
    pub fn link(&self) -> Link {
        self.0.mirror.read().link
    }

    /// Why there is no connection at the moment: the end of the last one, or what stood in the way
    /// of the next; none once it is live again. What ended the link for good stays.
    ///
    /// Nothing of it needs to be acted on: the watcher tries again until only the program can
    /// help. It is there to be shown.
    pub fn trouble(&self) -> Option<Error> {
        let held = self.0.mirror.read();
        held.ended.clone().or_else(|| held.trouble.clone())
    }

    /// How many connections were made so far: one, and another after each that was cut.
    pub fn connections(&self) -> u64 {
        self.0.mirror.read().connection
    }

    /// The state each time it has changed.
    pub fn states(&self) -> Latest<Arc<ConversationState>> {
        Latest::states(self.0.mirror.clone())
    }

    /// How the mirror stands to the server, each time that has changed.
    pub fn links(&self) -> Latest<Link> {
        Latest::links(self.0.mirror.clone())
    }

    /// Every event from a cursor on, across reconnects.
    pub fn subscribe(&self, cursor: Cursor) -> EventStream {
        let pager = Pager::new(self.0.client.clone(), self.id());
        EventStream::new(self.0.mirror.clone(), pager, cursor)
    }

    /// Text as the model writes it, for models that stream it (`Llm::stream`). Nothing of it is
    /// stored; the events have it all in the end. Nothing of the past is given: the stream begins
    /// here, and ends when the link ends.
    ///
    /// ```no_run
    /// # async fn show(conversation: &oh_conversation::Conversation) {
    /// use oh_conversation::Token;
    ///
    /// let mut tokens = conversation.tokens();
    /// while let Some(token) = tokens.next().await {
    ///     match token {
    ///         Token::Started { .. } => println!(),
    ///         Token::Text { content, .. } => print!("{content}"),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn tokens(&self) -> TokenStream {
        self.0.tokens.subscribe(|| {
            let held = self.0.mirror.read();
            (held.link == Link::Live).then_some(held.cursor)
        })
    }

    /// Calls a function for every event from now on, in order.
    ///
    /// The callback runs on a task of its own on the runtime in which the conversation was
    /// started, so it must not block: use [`on_event_blocking`](Self::on_event_blocking) for what
    /// does. The task yields to others every 32 events. A panic in the callback is logged, and
    /// the callback goes on with the next event.
    ///
    /// May be called outside a runtime. Dropping the [`Subscription`] stops the callback.
    ///
    /// [`close`](Self::close), [`Subscription::cancel`] and [`Subscription::stop`] may be called
    /// from inside a callback. What sends a request, such as [`delete`](Self::delete), needs the
    /// runtime, whose thread the callback occupies: spawn it instead of blocking on it.
    pub fn on_event(&self, callback: impl FnMut(&Event) + Send + 'static) -> Subscription {
        self.callback(Cursor::Now, Place::Task, callback)
    }

    /// Calls a function that may block for every event from now on, in order.
    ///
    /// The callback runs on the runtime's threads for blocking work, and occupies one of them
    /// while it is called. Otherwise as [`on_event`](Self::on_event). The callback may block on
    /// any future of the conversation with [`Handle::block_on`].
    ///
    /// A runtime that shuts down waits for a call under way.
    pub fn on_event_blocking(&self, callback: impl FnMut(&Event) + Send + 'static) -> Subscription {
        self.callback(Cursor::Now, Place::Thread, callback)
    }

    /// Calls a function for every hook execution from now on, as [`on_event`](Self::on_event)
    /// does: it must not block.
    pub fn on_hook(
        &self,
        mut callback: impl FnMut(&HookExecutionEvent) + Send + 'static,
    ) -> Subscription {
        self.on_event(move |event| {
            if let oh_protocol::Payload::HookExecution(hook) = event.payload() {
                callback(hook);
            }
        })
    }

    pub(crate) fn callback(
        &self,
        cursor: Cursor,
        place: Place,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Subscription {
        // The stream stands here: events that arrive before its task begins are "from now on" too.
        let events = self.subscribe(cursor);
        let mirror = self.0.mirror.clone();
        let callbacks = &self.0.callbacks;
        callbacks.start(&self.0.runtime, mirror, events, place, callback)
    }

    /// Sends a message of the user (`POST …/events`); await it. It is answered by the next
    /// [`run`](Self::run).
    ///
    /// ```no_run
    /// # async fn ask(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_conversation::RunOutcome;
    ///
    /// conversation.send("What is this?").image("https://example.org/a.png").await?;
    /// match conversation.run().await? {
    ///     RunOutcome::Finished(run) => println!("{} events, ${}", run.events(), run.cost()),
    ///     RunOutcome::WaitingForConfirmation(_) => println!("{:?}", conversation.pending_actions()),
    ///     other => println!("{other}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn send(&self, content: impl Into<UserContent>) -> SendMessage<'_> {
        self.send_parts(vec![content.into()])
    }

    pub(crate) fn send_parts(&self, content: Vec<UserContent>) -> SendMessage<'_> {
        SendMessage::new(self, content)
    }

    /// Runs the agent until it is really done (`POST …/run`); await the outcome.
    pub fn run(&self) -> Run<'_> {
        Run::new(self)
    }

    /// Waits for the end of a run under way, as [`run`](Self::run) does, but starts none: where
    /// there is none, it says how the conversation stands.
    pub fn join(&self) -> Run<'_> {
        Run::joining(self)
    }

    /// Makes a title from the first message; await it. Nothing is set: that is
    /// [`set_title`](Self::set_title)'s.
    ///
    /// ```no_run
    /// # async fn name(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::config::Llm;
    ///
    /// let cheap = Llm::new("openai/gpt-5-nano").api_key("sk-…");
    /// let title = conversation.generate_title().llm(cheap).max_length(60).await?;
    /// conversation.set_title(&title).await?;
    /// # Ok(()) }
    /// ```
    pub fn generate_title(&self) -> GenerateTitle<'_> {
        GenerateTitle::new(self)
    }

    /// Asks for a pause after the current step (`POST …/pause`).
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn pause(&self) -> Result<()> {
        self.call("pause", &calls::conversations::Pause::new(self.id()))
            .await
    }

    /// Cancels the model or tool call under way (`POST …/interrupt`).
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn interrupt(&self) -> Result<()> {
        self.call(
            "interrupt",
            &calls::conversations::Interrupt::new(self.id()),
        )
        .await
    }

    /// Ends the link: streams, callbacks and client tools end, the conversation stays on the
    /// server, unless it was started with
    /// [`delete_on_close`](ConversationBuilder::delete_on_close). A second close does nothing.
    /// What is held can be read on: events, state and [`usage`](Self::usage) as they were then.
    ///
    /// Callbacks are given what has arrived before, for at most 100 ms in all. Those that are
    /// not through by then stop after the call under way. May be called from inside a callback,
    /// and does not wait for callbacks then; the same limit applies.
    ///
    /// # Errors
    ///
    /// When it is to be deleted and cannot be. The link has ended all the same.
    pub async fn close(&self) -> Result<()> {
        let first = !self.0.stop.send_replace(true);
        let deleted = match first && self.0.delete_on_close {
            true => self.delete_on_server().await,
            false => Ok(()),
        };
        if let Some(dispatch) = self.0.dispatch.get() {
            dispatch.stop();
        }
        let arrived = self.0.mirror.read().log.end();
        let callbacks = &self.0.callbacks;
        callbacks.drain(&self.0.runtime, arrived, CLOSING).await;
        // Inside a callback the watcher may need the very thread that would wait here.
        if !callback::is_inside() {
            let mut changes = self.0.mirror.changes();
            let ended = changes.wait_for(|_| self.0.mirror.read().ended.is_some());
            // The watcher says goodbye to the server first, which may not answer.
            let _ = timeout(CLOSING, ended).await;
        }
        deleted
    }

    /// Deletes the conversation on the server (`DELETE /api/conversations/{conversation_id}`) and
    /// closes the link. The workspace stays. Deleting what is gone is no error.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked; the link stays then.
    pub async fn delete(&self) -> Result<()> {
        self.delete_on_server().await?;
        // It is gone already.
        _ = self.close().await;
        Ok(())
    }

    async fn delete_on_server(&self) -> Result<()> {
        let call = calls::conversations::Delete::new(self.id());
        if let Err(error) = self.call("delete", &call).await {
            let gone = match error.kind() {
                ErrorKind::Gone => true,
                // Older servers (1.43) answer 400 for what they do not have.
                ErrorKind::Refused => self.is_gone().await,
                _ => false,
            };
            if !gone {
                return Err(error);
            }
        }
        client_tools::forget(self.id());
        Ok(())
    }

    async fn is_gone(&self) -> bool {
        let found = self.info().await;
        found.is_err_and(|error| error.kind() == ErrorKind::Gone)
    }

    pub(crate) async fn call<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.0.client.call(call).await;
        answer.map_err(|error| Error::transport(self.id(), what, error))
    }

    /// As [`call`](Self::call), for what names something besides the conversation.
    pub(crate) async fn call_naming<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.0.client.call(call).await;
        answer.map_err(|error| Error::naming(self.id(), what, error))
    }

    /// As [`call`](Self::call), for a route that older servers do not have.
    pub(crate) async fn call_newer<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.0.client.call(call).await;
        answer.map_err(|error| {
            // The server says which conversation it misses; one without the route does not.
            let bare = error.detail().is_none_or(|detail| detail == "Not Found");
            let bare = bare && error.kind() == oh_transport::ErrorKind::NotFound;
            Error::transport(self.id(), what, error).of_kind(|kind| match bare {
                true => ErrorKind::Unsupported,
                false => kind,
            })
        })
    }

    /// Whether the server's version is older than this one.
    pub(crate) async fn is_before(&self, version: (u32, u32, u32)) -> Result<bool> {
        let info = self.0.client.server_info().await;
        let info = info.map_err(|error| Error::transport(self.id(), "ask the version", error))?;
        Ok(info.version_numbers().is_some_and(|its| its < version))
    }

    pub(crate) fn invalid(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, self.id(), what)
    }

    /// After what is held now.
    pub(crate) fn here(&self) -> Cursor {
        after(self.0.mirror.read().cursor)
    }

    pub(crate) fn set_navigated(&self, navigated: Navigated) {
        let mut last = self
            .0
            .navigated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(navigated);
    }

    pub(crate) fn last_navigated(&self) -> Option<Navigated> {
        let last = self.0.navigated.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn client_tools(&self) -> Option<&Dispatch> {
        self.0.dispatch.get()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn working_dir(&self) -> &str {
        &self.0.working_dir
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.0.mirror
    }

    pub(crate) fn shared_mirror(&self) -> Arc<Mirror> {
        self.0.mirror.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.mirror.changes()
    }
}

/// After the event with this `seq`; −1 stands before the first.
pub(crate) fn after(seq: i64) -> Cursor {
    u64::try_from(seq).map_or(Cursor::Start, Cursor::After)
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("id", &self.id())
            .field("link", &self.link())
            .field("events", &self.events().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WeakConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakConversation")
    }
}
