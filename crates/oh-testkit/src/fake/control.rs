//! The handle for one conversation of the fake server: reads its log, writes to it, and injects
//! faults.

use std::{fmt, sync::Arc, time::Duration};

use oh_protocol::{ConversationId, Event};
use serde_json::{Value, json};

use crate::fake::{
    agent,
    state::{
        branches,
        conversation::Conversation,
        executed::{Execution, Permission},
        subscriber::Ending,
        world::World,
    },
};
use crate::{Error, ErrorKind, Result};

/// The number of unsent bytes at which `log_all` waits. Lower than the limit at which listeners are
/// dropped.
const HIGH_WATER: usize = 4 * 1024 * 1024;

/// A conversation of a [`FakeServer`](super::FakeServer). Cheap to clone.
///
/// ```no_run
/// # async fn test() -> oh_testkit::Result<()> {
/// use oh_testkit::FakeServer;
/// use serde_json::json;
///
/// let server = FakeServer::start().await?;
/// let conversation = server.create();
/// conversation.log("environment", "NewEvent", json!({"answer": 42}));
/// conversation.set_status("paused");
/// assert!(conversation.events().iter().any(|event| event.kind() == "NewEvent"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FakeConversation {
    world: Arc<World>,
    conversation: Arc<Conversation>,
}

impl FakeConversation {
    pub(crate) fn new(world: Arc<World>, conversation: Arc<Conversation>) -> Self {
        Self {
            world,
            conversation,
        }
    }

    /// Returns the id.
    pub fn id(&self) -> ConversationId {
        self.conversation.id.into()
    }

    /// Returns the `execution_status`.
    pub fn status(&self) -> String {
        self.conversation.status()
    }

    /// Returns the title, if one has been set.
    pub fn title(&self) -> Option<String> {
        let inner = self.conversation.lock();
        inner.info["title"].as_str().map(str::to_owned)
    }

    /// Returns the number of events in the log.
    pub fn len(&self) -> usize {
        self.conversation.lock().len()
    }

    /// Returns whether the log is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the events in the log. The index of an event is its `seq`, unless the log contains
    /// events that cannot be decoded.
    pub fn events(&self) -> Vec<Event> {
        let mut inner = self.conversation.lock();
        let log = inner.page(0, usize::MAX);
        log.into_iter()
            .filter_map(|(_, raw)| Event::from_json(raw).ok())
            .collect()
    }

    /// Returns the number of listening sockets.
    pub fn sockets(&self) -> usize {
        self.conversation.lock().listeners()
    }

    /// Logs an event with this `kind` and these fields, and sends it to all sockets. Returns the
    /// event's id.
    pub fn log(&self, source: &str, kind: &str, fields: Value) -> String {
        self.conversation.append(source, kind, fields)
    }

    /// Logs arbitrary bytes as an event and sends them to all sockets. Returns the event's `seq`.
    pub fn log_raw(&self, event: impl AsRef<[u8]>) -> usize {
        self.conversation.push(event.as_ref())
    }

    /// Logs many events as fast as the sockets accept them. If a socket's buffer is full, this
    /// method waits, whereas [`log_raw`](Self::log_raw) would drop the client.
    pub async fn log_all<E: AsRef<[u8]>>(&self, events: impl IntoIterator<Item = E>) {
        for (count, event) in events.into_iter().enumerate() {
            self.conversation.push(event.as_ref());
            if count % 256 == 255 {
                tokio::task::yield_now().await;
                while self.conversation.backlog() > HIGH_WATER {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        }
    }

    /// Logs `count` agent messages of about `bytes` bytes each.
    pub async fn fill(&self, count: usize, bytes: usize) {
        let text = "x".repeat(bytes.saturating_sub(400));
        let clock = Arc::clone(&self.conversation.clock);
        let now = clock.local();
        let event = move |_| {
            let id = clock.id();
            format!(
                r#"{{"id":"{id}","timestamp":"{now}","source":"agent","llm_message":{{"role":"assistant","content":[{{"cache_prompt":false,"type":"text","text":"{text}"}}],"thinking_blocks":[]}},"activated_skills":[],"extended_content":[],"kind":"MessageEvent"}}"#
            )
        };
        self.log_all((0..count).map(event)).await;
    }

    /// Sends an event to all sockets without logging it.
    pub fn send_unlogged(&self, kind: &str, fields: Value) {
        let mut event = json!({
            "id": self.conversation.clock.id(),
            "timestamp": self.conversation.clock.local(),
            "source": "environment",
            "kind": kind,
        });
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        self.conversation.transient(event.to_string().into());
    }

    /// Sends session sockets a frame that is not an event, such as a `delta`.
    pub fn frame(&self, frame: &Value) {
        self.conversation.progress(frame);
    }

    /// Sets a field of the state and logs the change.
    pub fn set(&self, key: &str, value: Value) {
        self.conversation.set(key, value);
    }

    /// Sets the status and logs the change if the status is different.
    pub fn set_status(&self, status: &str) {
        self.conversation.set_status(status);
    }

    /// Sends the whole state (`full_state`) to all sockets, as at the end of a run.
    pub fn publish_state(&self) {
        self.conversation.publish_state();
    }

    /// Adds a user message and starts a run, like a client. The limit of concurrent runs does not
    /// apply.
    pub fn say(&self, text: &str) {
        let message = json!({"role": "user", "content": [{"type": "text", "text": text}]});
        agent::receive(&self.world, &self.conversation, &message);
        let slot = || Some(self.world.slots.take_beyond_limit());
        // A current run handles the message, or another run follows it.
        let started = agent::start_in(&self.world, &self.conversation, Permission::Test, slot);
        if started.is_err() {
            self.conversation.lock().again = Some(Permission::Test);
        }
    }

    /// Returns the actions executed in this conversation, oldest first, with the permission of
    /// each.
    pub fn executed(&self) -> Vec<Execution> {
        let all = self.world.executed().into_iter();
        all.filter(|executed| executed.conversation == self.id())
            .collect()
    }

    /// Returns the ids of the actions on the active branch that have no result, in the order of
    /// their proposal. These actions wait for an approval or are being executed.
    pub fn pending(&self) -> Vec<String> {
        let pending = self.conversation.pending().into_iter();
        pending.map(|action| action.action_id).collect()
    }

    /// Waits until no run is active.
    pub async fn idle(&self) {
        self.conversation.until(|inner| !inner.running).await;
    }

    /// Wedges the conversation: `/run` returns 409 and nothing runs.
    pub fn wedge(&self) {
        self.conversation.lock().running = true;
    }

    /// Ends [`wedge`](Self::wedge).
    pub fn unwedge(&self) {
        self.conversation.lock().running = false;
    }

    /// Makes the event at `seq` unreadable. Sockets and searches omit it.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no event with this `seq`.
    pub fn lose(&self, seq: usize) -> Result<()> {
        let mut inner = self.conversation.lock();
        if seq >= inner.len() {
            let message = format!(
                "event {seq} does not exist: the log has {} events",
                inner.len()
            );
            return Err(Error::plain(ErrorKind::NotFound, message));
        }
        inner.log.lose(seq);
        Ok(())
    }

    /// Truncates the log to its first `length` events, like a server restored from a backup.
    ///
    /// Later events get `seq` numbers that other events had before. Clients are not notified, and
    /// sockets stay open unless the test cuts them. The state is unchanged except for the newest
    /// event. Lost events (see [`lose`](Self::lose)) become readable again.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let server = oh_testkit::FakeServer::start().await?;
    /// let conversation = server.create();
    /// conversation.fill(20, 500).await;
    /// server.kill();
    /// conversation.rewind(12); // The backup is older.
    /// server.come_back();
    /// assert_eq!(conversation.len(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rewind(&self, length: usize) {
        self.conversation.lock().cut_log(length);
        branches::remember(&self.conversation);
    }

    /// Deletes the conversation, as another client would. Its sockets stay open but silent, as on
    /// the agent server. This handle still shows the deleted conversation.
    pub fn delete(&self) {
        if self.world.delete(self.conversation.id) {
            agent::close(&self.world, &self.conversation);
        }
    }

    /// Deletes the conversation and creates a new one with the same id and options and an empty
    /// log. Sockets of the deleted conversation stay open but silent.
    #[must_use]
    pub fn recreate(&self) -> Self {
        self.delete();
        let request = match &self.conversation.request {
            Value::Null => {
                let inner = self.conversation.lock();
                let (workspace, agent) = (&inner.info["workspace"], &inner.info["agent"]);
                json!({"workspace": workspace, "agent": agent})
            }
            request => request.clone(),
        };
        let (made, _) = self.world.create(self.conversation.id, &request);
        Self::new(Arc::clone(&self.world), made)
    }

    /// Closes the conversation and loads it again, as the agent server does after a long idle time.
    ///
    /// `SessionEnd` hooks run, and the confirmation policy and security analyzer are reset to those
    /// that the conversation was created with. The agent server does not do this while a socket is
    /// listening.
    pub fn reload(&self) {
        agent::close(&self.world, &self.conversation);
        self.conversation.lock().unloaded = true;
    }

    /// Gives the lease to another server. `GET` of the conversation works; all other requests
    /// return 404, and sockets are closed with 4004.
    pub fn lease_away(&self) {
        self.conversation.lock().leased = true;
    }

    /// Returns the lease to this server.
    pub fn lease_back(&self) {
        self.conversation.lock().leased = false;
    }

    /// Cuts the connections of the conversation's sockets without a close frame.
    pub fn cut_sockets(&self) {
        self.conversation.end_sockets(&Ending::Cut);
    }

    /// Closes the conversation's sockets with a code and a reason.
    pub fn close_sockets(&self, code: u16, reason: &str) {
        let ending = Ending::Close(code, reason.to_owned());
        self.conversation.end_sockets(&ending);
    }
}

impl fmt::Debug for FakeConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeConversation")
            .field("id", &self.id())
            .field("status", &self.status())
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}
