//! The `Conversation` handle.

mod closing;
pub(crate) mod origin;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use oh_protocol::{
    Call, ConversationId, Event, calls,
    state::{ConversationInfo, ConversationState},
};
use oh_transport::{Client, automation};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    Cursor, Error, ErrorKind, EventStream, Events, Origin, Request, Result, Subscription, Token,
    TokenStream, Watch,
    client_tools::Dispatch,
    limits::Limits,
    link::{
        shared::{LinkOptions, Shared},
        tokens::StreamEnd,
    },
    lock::lock,
    mirror::{Mirror, head::Asked, view::View},
    read::{
        callback::{Callbacks, Place},
        failures,
        pager::Pager,
    },
};

/// A handle to a conversation on a server. Cheap to clone. Dropping the last clone closes the link
/// to the server; the conversation continues there.
///
/// ```no_run
/// # async fn work(conversation: oh_conversation::Conversation) -> oh_conversation::Result<()> {
/// conversation.send("Write a test for the parser.").await?;
/// let run = conversation.run().max_cost(0.5).await?;
/// println!("{run}, {} events in the log", conversation.events().len());
/// conversation.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Conversation(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    view: Arc<View>,
    working_dir: String,
    /// Where callbacks run: the runtime of the watcher.
    runtime: Handle,
    callbacks: Callbacks,
    /// Ends the token streams of this handle.
    token_ends: Mutex<Vec<StreamEnd>>,
    origin: Origin,
    delete_on_close: bool,
    /// Whether this is part of the report to an automation environment.
    recorded: bool,
    deleted: AtomicBool,
    dispatch: OnceLock<Dispatch>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.recorded {
            automation::update(self.view.id);
        }
        if self.view.close() {
            self.shared.release();
        }
    }
}

/// A handle that does not keep the link to the server open. Created by [`Conversation::downgrade`].
#[derive(Clone)]
pub struct WeakConversation(Weak<Inner>);

impl WeakConversation {
    /// Returns a handle, or `None` if the last [`Conversation`] handle has been dropped.
    pub fn upgrade(&self) -> Option<Conversation> {
        self.0.upgrade().map(Conversation)
    }
}

impl Conversation {
    /// Creates a handle of a link.
    pub(crate) fn new(
        shared: Arc<Shared>,
        working_dir: String,
        origin: Origin,
        delete_on_close: bool,
        recorded: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            view: Arc::new(View::new(shared.mirror.clone())),
            shared,
            working_dir,
            runtime: Handle::current(),
            callbacks: Callbacks::default(),
            token_ends: Mutex::default(),
            origin,
            delete_on_close,
            recorded,
            deleted: AtomicBool::new(false),
            dispatch: OnceLock::new(),
        }))
    }

    /// Returns where the conversation came from: created for this handle, found, attached or
    /// forked.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Returns a handle that does not keep the link open, for example for a callback that is
    /// [detached](Subscription::detach).
    pub fn downgrade(&self) -> WeakConversation {
        WeakConversation(Arc::downgrade(&self.0))
    }

    /// Returns the conversation's id.
    pub fn id(&self) -> ConversationId {
        self.mirror().id
    }

    /// Returns the events held now, in log order.
    pub fn events(&self) -> Events {
        Events::of(self.mirror().read().log.clone())
    }

    /// Returns the state that the server last reported.
    pub fn state(&self) -> Arc<ConversationState> {
        self.mirror().read().state.clone()
    }

    /// Returns why the link has ended, or else why there is no connection.
    pub(crate) fn last_error(&self) -> Option<Error> {
        let ended = self.ended();
        ended.or_else(|| self.mirror().read().last_error.clone())
    }

    /// Returns why this handle or its link has ended. A conversation that this handle has deleted
    /// is gone, and the handle is closed for that reason.
    pub(crate) fn ended(&self) -> Option<Error> {
        let ended = self.0.view.ended()?;
        Some(match self.0.deleted.load(Ordering::Acquire) {
            true => Error::new(ErrorKind::Gone, self.id(), "the conversation was deleted"),
            false => ended,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.mirror().limits
    }

    /// Returns the state as a stream of the latest value.
    pub fn states(&self) -> Watch<Arc<ConversationState>> {
        Watch::states(self.0.view.clone())
    }

    /// Returns a stream of every event from a cursor on, across reconnects.
    pub fn subscribe(&self, cursor: Cursor) -> EventStream {
        let pager = Pager::new(self.client().clone(), self.id());
        EventStream::new(self.0.view.clone(), pager, cursor, &self.0.runtime)
    }

    /// Returns a stream like [`subscribe`](Self::subscribe) that skips older events if they cannot
    /// be read.
    pub(crate) fn subscribe_skipping(&self, cursor: Cursor) -> EventStream {
        let pager = Pager::new(self.client().clone(), self.id()).skipping();
        EventStream::new(self.0.view.clone(), pager, cursor, &self.0.runtime)
    }

    /// Returns a stream like [`subscribe_skipping`](Self::subscribe_skipping) of the events from an
    /// index of the mirror's log on.
    pub(crate) fn subscribe_at(&self, index: usize) -> EventStream {
        let pager = Pager::new(self.client().clone(), self.id()).skipping();
        EventStream::at(self.0.view.clone(), pager, index)
    }

    /// Returns a stream of text as the model writes it, for models with streaming enabled
    /// (`Llm::stream`). Tokens are not stored; the complete text arrives in the events. The stream
    /// starts now, without past tokens, and ends when the link ends.
    ///
    /// The server does not send tokens again. With an initial message, the model may write before
    /// the program is connected: to see the first answer from its first token on, start the
    /// conversation with [`start_with_tokens`](crate::ConversationBuilder::start_with_tokens) or
    /// [`on_token`](crate::ConversationBuilder::on_token). Or start it without an initial message,
    /// call this method, and then [`send`](Self::send) the message.
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
        let tokens = self.0.shared.tokens.subscribe(|| {
            let held = self.mirror().read();
            held.link.is_up().then_some(held.cursor)
        });
        let mut ends = lock(&self.0.token_ends);
        ends.retain(|end| !end.is_over());
        ends.push(tokens.stream_end());
        drop(ends);
        if self.0.view.is_closed() {
            self.end_tokens();
        }
        tokens
    }

    fn end_tokens(&self) {
        for end in std::mem::take(&mut *lock(&self.0.token_ends)) {
            end.end();
        }
    }

    /// Calls a function for every event from now on, in order.
    ///
    /// The callback runs on a separate task on the runtime in which the conversation was started,
    /// so it must not block: use [`on_event_blocking`](Self::on_event_blocking) for a blocking
    /// callback. The task yields to others every 32 events. A panic in the callback is logged, and
    /// the callback continues with the next event.
    ///
    /// May be called outside a runtime. Dropping the [`Subscription`] stops the callback.
    ///
    /// [`close`](Self::close), [`Subscription::cancel`] and [`Subscription::stop`] may be called
    /// from inside a callback. Calls that send a request, such as [`delete`](Self::delete), need
    /// the runtime, whose thread the callback occupies: spawn them instead of blocking on them.
    pub fn on_event(&self, callback: impl FnMut(&Event) + Send + 'static) -> Subscription {
        self.callback(Cursor::Now, Place::Task, callback)
    }

    /// Calls a function that may block for every event from now on, in order.
    ///
    /// The callback runs on the runtime's threads for blocking work, and occupies one of them
    /// during each call. Everything else is as in [`on_event`](Self::on_event). The callback may
    /// block on any future of the conversation with [`Handle::block_on`].
    ///
    /// A runtime that shuts down waits for a call in progress.
    pub fn on_event_blocking(&self, callback: impl FnMut(&Event) + Send + 'static) -> Subscription {
        self.callback(Cursor::Now, Place::Thread, callback)
    }

    /// Calls a function for every token from now on: see [`tokens`](Self::tokens).
    ///
    /// The callback runs on a separate task and must not block, as for
    /// [`on_event`](Self::on_event). A callback that falls far behind receives
    /// [`Token::Lagged`](crate::Token::Lagged). Events and tokens are passed to their callbacks
    /// independently of each other.
    pub fn on_token(&self, callback: impl FnMut(&Token) + Send + 'static) -> Subscription {
        let tokens = self.tokens();
        let (callbacks, mirror) = (&self.0.callbacks, self.shared_mirror());
        callbacks.start_values(&self.0.runtime, mirror, tokens, callback)
    }

    /// Calls a function for every error of the link from now on: each time the connection to the
    /// server is lost or cannot be made, and once when the link ends permanently.
    ///
    /// Most errors need no action, because the link reconnects and every event still arrives: see
    /// [`LinkHandle::last_error`](crate::LinkHandle::last_error). The last call is for the error
    /// that has ended the link, such as [`ErrorKind::Gone`] or [`ErrorKind::Unauthorized`]: no more
    /// events arrive then, and the other callbacks have ended. A close by the program is not an
    /// error. If an event callback falls behind the events held, and the server cannot read older
    /// ones, the callback skips them, and the error is passed here. Errors that follow each other
    /// at once may be left out, except the last.
    ///
    /// The callback runs on a separate task and must not block, as for
    /// [`on_event`](Self::on_event).
    pub fn on_error(&self, callback: impl FnMut(&Error) + Send + 'static) -> Subscription {
        self.error_callback(false, callback)
    }

    /// `past`: whether the present error of the link is included.
    pub(crate) fn error_callback(
        &self,
        past: bool,
        callback: impl FnMut(&Error) + Send + 'static,
    ) -> Subscription {
        let errors = failures::stream(self.view(), past);
        let (callbacks, mirror) = (&self.0.callbacks, self.shared_mirror());
        callbacks.start_values(&self.0.runtime, mirror, errors, callback)
    }

    pub(crate) fn callback(
        &self,
        cursor: Cursor,
        place: Place,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Subscription {
        // Subscribes here, so that events that arrive before the task starts are included.
        let events = self.subscribe_skipping(cursor);
        let mirror = self.shared_mirror();
        let callbacks = &self.0.callbacks;
        callbacks.start(&self.0.runtime, mirror, events, place, callback)
    }

    /// Requests a pause after the current step (`POST …/pause`).
    ///
    /// If the response is lost, the request is repeated within the client's
    /// [timeout](oh_transport::ClientBuilder::timeout). The repeated request also pauses a run that
    /// another program has started in between.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn pause(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let _counted = this.mirror().answered.pause();
            this.call("pause", &calls::conversations::Pause::new(this.id()))
                .await
        })
    }

    /// Cancels the model or tool call in progress (`POST …/interrupt`). The request is repeated as
    /// for [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn interrupt(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let _counted = this.mirror().answered.pause();
            this.call(
                "interrupt",
                &calls::conversations::Interrupt::new(this.id()),
            )
            .await
        })
    }

    /// Requests the server's current description of the conversation
    /// (`GET /api/conversations/{conversation_id}`). During a run its state lags behind
    /// [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// Returns an error if the server no longer has the conversation, or the request fails.
    pub fn info(&self) -> Request<ConversationInfo> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::conversations::Get::new(this.id());
            this.call("read", &call).await
        })
    }

    pub(crate) async fn call<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.client().call(call).await;
        answer.map_err(|error| Error::transport(self.id(), what, error))
    }

    /// Sends a request like [`call`](Self::call), if the request names another resource in addition
    /// to the conversation.
    pub(crate) async fn call_naming<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.client().call(call).await;
        answer.map_err(|error| Error::naming(self.id(), what, error))
    }

    /// Sends a request like [`call`](Self::call), to an endpoint that older servers do not have.
    pub(crate) async fn call_newer<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let answer = self.client().call(call).await;
        answer.map_err(|error| {
            // A server with the endpoint names the missing conversation; one without it does not.
            let bare = error.detail() == Some("Not Found");
            Error::transport(self.id(), what, error).of_kind(|kind| match kind {
                ErrorKind::Gone if bare => ErrorKind::Unsupported,
                kind => kind,
            })
        })
    }

    /// Returns whether the server's version is older than this one.
    pub(crate) async fn is_before(&self, version: (u32, u32, u32)) -> Result<bool> {
        let info = self.client().server_info().await;
        let info =
            info.map_err(|error| Error::transport(self.id(), "read the server's version", error))?;
        Ok(info.version_numbers().is_some_and(|its| its < version))
    }

    pub(crate) fn invalid(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, self.id(), what)
    }

    /// Returns an error for a wait that took too long. Its source is the reason why the link is
    /// down, if it is.
    pub(crate) fn timed_out(&self, what: String) -> Error {
        let error = Error::new(ErrorKind::Timeout, self.id(), what);
        match self.last_error() {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    pub(crate) fn asked_head(&self) -> &Asked {
        &self.0.shared.head
    }

    pub(crate) fn client_tools(&self) -> Option<&Dispatch> {
        self.0.dispatch.get()
    }

    pub(crate) fn set_dispatch(&self, dispatch: Dispatch) {
        _ = self.0.dispatch.set(dispatch);
    }

    /// Returns the client for the conversation's server.
    pub fn client(&self) -> &Client {
        &self.0.shared.client
    }

    pub(crate) fn working_dir(&self) -> &str {
        &self.0.working_dir
    }

    pub(crate) fn deletes_on_close(&self) -> bool {
        self.0.delete_on_close
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.0.recorded
    }

    pub(crate) fn link_options(&self) -> &LinkOptions {
        &self.0.shared.options
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.0.view
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.0.view.clone()
    }

    pub(crate) fn shared_mirror(&self) -> Arc<Mirror> {
        self.0.view.mirror.clone()
    }

    /// Returns a receiver that is notified of every change from now on. The sender lives as long as
    /// this handle.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.mirror().changes()
    }

    /// Waits until the mirror, as it is now or after a change, shows something. Returns whether it
    /// does before the link or this handle ends.
    pub(crate) async fn shows(&self, shown: impl Fn() -> bool) -> bool {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if shown() {
                return true;
            }
            if self.ended().is_some() {
                return false;
            }
            _ = changes.changed().await;
        }
    }
}

impl fmt::Debug for WeakConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakConversation")
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("id", &self.id())
            .field("link", &self.0.view.link())
            .field("events", &self.events().len())
            .finish_non_exhaustive()
    }
}
