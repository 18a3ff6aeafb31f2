//! The handle: what a program holds of a conversation.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oh_protocol::{
    Call, ConversationId, Event, ExecutionStatus, calls,
    config::AgentSource,
    event::HookExecutionEvent,
    state::{ConversationInfo, ConversationState},
};
use oh_transport::{Client, WorkspaceHandle};
use tokio::{sync::watch, time::timeout};

use crate::{
    Attach, ConversationBuilder, Cursor, Error, ErrorKind, EventStream, Events, GenerateTitle,
    Link, Result, Run, SendMessage, Subscription, TokenStream, attach::Following, mirror::Mirror,
    pager::Pager, tokens::Tokens, watcher::Watcher,
};

/// How long a new subscriber waits for its first snapshot. While a tool runs the server sends
/// none, which is no failure.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(5);

/// A conversation on a server. Cheap to clone; the link to the server ends with the last clone,
/// the conversation itself does not.
#[derive(Clone)]
pub struct Conversation(Arc<Inner>);

struct Inner {
    client: Client,
    working_dir: String,
    mirror: Arc<Mirror>,
    tokens: Tokens,
    /// Dropped with the last handle, which stops the watcher as asking it does.
    stop: watch::Sender<bool>,
    /// The builder's callbacks, which a close lets finish.
    callbacks: Mutex<Vec<Subscription>>,
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
    ) -> Result<Self> {
        let id = info.id();
        let state = info.state().clone();
        let working_dir = state
            .get("workspace")
            .and_then(|workspace| workspace.get("working_dir")?.as_text())
            .unwrap_or_default()
            .into();
        let (writer, mirror) = Mirror::new(id, state, following.keep);
        let mut changes = mirror.changes();
        let (stop, stopped) = watch::channel(false);
        let tokens = Tokens::default();
        let backoff = following.backoff;
        let watcher = Watcher::new(client.clone(), writer, tokens.clone(), stopped, backoff);
        tokio::spawn(watcher.run());
        let conversation = Self(Arc::new(Inner {
            client,
            working_dir,
            mirror,
            tokens,
            stop,
            callbacks: Mutex::default(),
        }));
        let ready = changes.wait_for(|_| {
            let held = conversation.0.mirror.read();
            held.link == Link::Live || held.ended.is_some()
        });
        let _ = timeout(FIRST_SNAPSHOT, ready).await;
        let ended = conversation.0.mirror.read().ended.clone();
        match ended {
            Some(error) => Err(error),
            None => Ok(conversation),
        }
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

    /// Every event from a cursor on, across reconnects.
    pub fn subscribe(&self, cursor: Cursor) -> EventStream {
        let pager = Pager::new(self.0.client.clone(), self.id());
        EventStream::new(self.0.mirror.clone(), pager, cursor)
    }

    /// Text as the model writes it, for servers and models that stream it. Nothing of it is stored;
    /// the events have it all in the end.
    pub fn tokens(&self) -> TokenStream {
        self.0.tokens.subscribe()
    }

    /// Calls this for every event from now on, in order, on a task of its own.
    pub fn on_event(&self, callback: impl FnMut(&Event) + Send + 'static) -> Subscription {
        self.callback(Cursor::Now, callback)
    }

    /// Calls this for every hook execution from now on.
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

    /// Keeps a callback until the close.
    pub(crate) fn keep(&self, callback: Subscription) {
        self.callbacks().push(callback);
    }

    fn callbacks(&self) -> MutexGuard<'_, Vec<Subscription>> {
        self.0
            .callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn callback(
        &self,
        cursor: Cursor,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Subscription {
        // The stream stands here: events that arrive before its task begins are "from now on" too.
        let events = self.subscribe(cursor);
        Subscription::start(self.0.mirror.clone(), events, callback)
    }

    /// Sends a message of the user. It is answered by the next [`run`](Self::run).
    pub fn send(&self, content: impl Into<calls::events::UserContent>) -> SendMessage<'_> {
        SendMessage::new(self, content.into())
    }

    /// Runs the agent until it is really done; await the outcome.
    pub fn run(&self) -> Run<'_> {
        Run::new(self)
    }

    /// Makes a title from the first message; await it.
    pub fn generate_title(&self) -> GenerateTitle<'_> {
        GenerateTitle::new(self)
    }

    /// Asks for a pause after the current step.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn pause(&self) -> Result<()> {
        self.call("pause", &calls::conversations::Pause::new(self.id()))
            .await
    }

    /// Cancels the model or tool call under way.
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

    /// Approves all pending actions: the run goes on.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn confirm(&self) -> Result<()> {
        let call = calls::events::Respond::accept(self.id());
        self.call("approve", &call).await?;
        self.decided().await;
        Ok(())
    }

    /// Waits until the socket tells too that no action awaits approval any more: what comes next
    /// must not be refused for one.
    async fn decided(&self) {
        let mut changes = self.changes();
        let decided = changes.wait_for(|_| {
            let status = self.mirror().read().state.execution_status();
            status != ExecutionStatus::WaitingForConfirmation
        });
        let _ = timeout(FIRST_SNAPSHOT, decided).await;
    }

    /// Rejects all pending actions. The agent learns why at the next run.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn reject(&self, reason: impl Into<String>) -> Result<()> {
        let call = calls::events::Respond::reject(self.id(), reason);
        self.call("reject", &call).await?;
        self.decided().await;
        Ok(())
    }

    /// Asks the agent's model about the conversation, without leaving a trace in it.
    ///
    /// # Errors
    ///
    /// When the model gives no answer, or the server cannot be asked.
    pub async fn ask_agent(&self, question: impl Into<String>) -> Result<String> {
        self.call(
            "ask the agent",
            &calls::conversations::Ask::new(self.id(), question),
        )
        .await
    }

    /// The server's description of it, fresh.
    ///
    /// # Errors
    ///
    /// When the server does not have it any more, or cannot be asked.
    pub async fn info(&self) -> Result<ConversationInfo> {
        self.call("read", &calls::conversations::Get::new(self.id()))
            .await
    }

    /// Ends the link: streams and callbacks end, the conversation stays on the server. The
    /// builder's callbacks are given all that has arrived before. A second close does nothing.
    ///
    /// # Errors
    ///
    /// None today; closing may come to tell the server.
    pub async fn close(&self) -> Result<()> {
        self.0.stop.send_replace(true);
        let callbacks = std::mem::take(&mut *self.callbacks());
        for callback in callbacks {
            callback.cancel().await;
        }
        let mut changes = self.0.mirror.changes();
        let ended = changes.wait_for(|_| self.0.mirror.read().ended.is_some());
        // The watcher says goodbye to the server first, which may not answer.
        let _ = timeout(Duration::from_millis(100), ended).await;
        Ok(())
    }

    /// Deletes the conversation on the server and closes the link. The workspace stays. Deleting
    /// what is gone is no error.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn delete(&self) -> Result<()> {
        let deleted = self
            .call("delete", &calls::conversations::Delete::new(self.id()))
            .await;
        match deleted {
            Err(error) if error.kind() != ErrorKind::Gone => Err(error),
            _ => self.close().await,
        }
    }

    pub(crate) async fn call<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.0.client.call(call).await;
        answer.map_err(|error| Error::transport(self.id(), what, error))
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

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.mirror.changes()
    }
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
