//! A test's hand on one conversation of the fake server: reads its log, writes to it, and
//! makes it misbehave.

use std::{fmt, sync::Arc, time::Duration};

use oh_protocol::{ConversationId, Event};
use serde_json::{Value, json};

use super::{
    agent, branches,
    conversation::{Conversation, Ending},
    executed::{Execution, Permission},
    world::World,
};
use crate::{Error, ErrorKind, Result};

/// Where a bulk of events waits for its readers: below the limit that drops them.
const HIGH_WATER: usize = 4 * 1024 * 1024;

/// One conversation of a [`FakeServer`](super::FakeServer). Cheap to clone.
#[derive(Clone)]
pub struct FakeConversation {
    world: Arc<World>,
    conversation: Arc<Conversation>,
}

impl FakeConversation {
    pub(super) fn new(world: Arc<World>, conversation: Arc<Conversation>) -> Self {
        Self {
            world,
            conversation,
        }
    }

    /// Its id.
    pub fn id(&self) -> ConversationId {
        self.conversation.id.into()
    }

    /// Its `execution_status`.
    pub fn status(&self) -> String {
        self.conversation.status()
    }

    /// Its title, once somebody set one.
    pub fn title(&self) -> Option<String> {
        let inner = self.conversation.lock();
        inner.info["title"].as_str().map(str::to_owned)
    }

    /// How many events its log holds.
    pub fn len(&self) -> usize {
        self.conversation.lock().len()
    }

    /// Whether nothing was logged yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its log; the position is the `seq`.
    pub fn events(&self) -> Vec<Event> {
        let mut inner = self.conversation.lock();
        let log = inner.page(0, usize::MAX);
        log.into_iter()
            .filter_map(|(_, raw)| Event::from_json(raw).ok())
            .collect()
    }

    /// How many sockets listen.
    pub fn sockets(&self) -> usize {
        self.conversation.lock().listeners()
    }

    /// Logs an event made of `kind` and these fields, and tells every socket. Returns its id.
    pub fn log(&self, source: &str, kind: &str, fields: Value) -> String {
        self.conversation.append(source, kind, fields)
    }

    /// Logs bytes as an event, whatever they are, and tells every socket. Returns their `seq`.
    pub fn log_raw(&self, event: impl AsRef<[u8]>) -> usize {
        self.conversation.push(event.as_ref())
    }

    /// Logs many events as fast as the sockets take them: a full socket makes this wait, where
    /// [`log_raw`](Self::log_raw) would have its client dropped.
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

    /// Logs `count` agent messages of about `bytes` each.
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

    /// Tells every socket of an event that is not logged.
    pub fn tell(&self, kind: &str, fields: Value) {
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

    /// Sends session sockets a frame that is no event, such as a `delta`.
    pub fn frame(&self, frame: &Value) {
        self.conversation.progress(frame);
    }

    /// Sets a field of the state, and logs the change.
    pub fn set(&self, key: &str, value: Value) {
        self.conversation.set(key, value);
    }

    /// Sets the status, and logs the change if it is one.
    pub fn set_status(&self, status: &str) {
        self.conversation.set_status(status);
    }

    /// Tells every socket the whole state (`full_state`), as at the end of a run.
    pub fn publish_state(&self) {
        self.conversation.publish_state();
    }

    /// Says a user's message and runs, as a client would. It is not refused where as many
    /// conversations run as may.
    pub fn say(&self, text: &str) {
        let message = json!({"role": "user", "content": [{"type": "text", "text": text}]});
        agent::receive(&self.world, &self.conversation, &message);
        let slot = || Some(self.world.slots.insist());
        // A run that is under way takes the message in, or is followed by another.
        let started = agent::start_in(&self.world, &self.conversation, Permission::Test, slot);
        if started.is_err() {
            self.conversation.lock().again = Some(Permission::Test);
        }
    }

    /// The actions that were carried out, oldest first, and what allowed each.
    pub fn executed(&self) -> Vec<Execution> {
        let all = self.world.executed().into_iter();
        all.filter(|executed| executed.conversation == self.id())
            .collect()
    }

    /// The ids of the actions that have no result on the active branch, in the order in which the
    /// agent proposed them: those that wait for an approval, or are being carried out.
    pub fn pending(&self) -> Vec<String> {
        let pending = self.conversation.pending().into_iter();
        pending.map(|action| action.action_id).collect()
    }

    /// Waits until no run is under way.
    pub async fn idle(&self) {
        self.conversation.until(|inner| !inner.running).await;
    }

    /// Makes `/run` answer 409 and nothing happen, as a wedged run does.
    pub fn wedge(&self) {
        self.conversation.lock().running = true;
    }

    /// Ends [`wedge`](Self::wedge).
    pub fn unwedge(&self) {
        self.conversation.lock().running = false;
    }

    /// Makes the event at `seq` unreadable: sockets and searches leave it out.
    ///
    /// # Errors
    ///
    /// When the log is not that long.
    pub fn lose(&self, seq: usize) -> Result<()> {
        let mut inner = self.conversation.lock();
        if seq >= inner.len() {
            let message = format!("there is no event {seq} in a log of {}", inner.len());
            return Err(Error::plain(ErrorKind::Missing, message));
        }
        inner.log.lose(seq);
        Ok(())
    }

    /// Cuts the log back to its first `length` events, as on a server that was restored from a
    /// backup: what is logged next has numbers (`seq`) that other events had before. Nobody is told;
    /// sockets stay as they are, unless the test cuts them. The state is as it was, but for the
    /// newest event, and lost events ([`lose`](Self::lose)) are back.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let server = oh_testkit::FakeServer::start().await?;
    /// let conversation = server.create();
    /// conversation.fill(20, 500).await;
    /// server.kill();
    /// conversation.rewind(12); // the backup was older
    /// server.come_back();
    /// assert_eq!(conversation.len(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rewind(&self, length: usize) {
        self.conversation.lock().cut_log(length);
        branches::remember(&self.conversation);
    }

    /// Deletes the conversation, as another client would: its sockets stay open and silent, as
    /// those of the agent server do. This handle shows what was deleted.
    pub fn delete(&self) {
        if self.world.delete(self.conversation.id) {
            agent::close(&self.world, &self.conversation);
        }
    }

    /// Deletes the conversation, and makes another one under its id, with an empty log and the
    /// options it was made with. Sockets of the first stay open and silent.
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

    /// Closes the conversation and loads it again, as the agent server does with one that was idle
    /// for long: `SessionEnd` hooks run, and the confirmation policy and the security analyzer are
    /// those it was made with. On the agent server this does not happen while a socket listens.
    pub fn reload(&self) {
        agent::close(&self.world, &self.conversation);
        self.conversation.lock().unloaded = true;
    }

    /// Another server holds the lease: `GET` of the conversation works, everything else is
    /// answered 404, and sockets with 4004.
    pub fn lease_away(&self) {
        self.conversation.lock().leased = true;
    }

    /// The lease is ours again.
    pub fn lease_back(&self) {
        self.conversation.lock().leased = false;
    }

    /// Breaks the connection of its sockets, without a goodbye.
    pub fn cut_sockets(&self) {
        self.conversation.end_sockets(&Ending::Cut);
    }

    /// Closes its sockets with a code and a reason.
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
