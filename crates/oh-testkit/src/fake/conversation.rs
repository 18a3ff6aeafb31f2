//! One conversation: its log, its state, and who listens. It decides order; it runs nothing.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    bash::Bash,
    branches,
    clock::Clock,
    executed::Permission,
    goals::Goal,
    log::{Frame, Log},
    pending::{Pending, Unanswered},
};

/// A client that falls this far behind is dropped, as the agent server does.
const MAX_PENDING: usize = 16 * 1024 * 1024;
/// More listeners than this are turned away: the agent server allows 50 and is one itself.
const MAX_SUBSCRIBERS: usize = 49;

pub(super) struct Conversation {
    pub(super) id: uuid::Uuid,
    /// Its place in the order of making.
    pub(super) number: u64,
    pub(super) clock: Arc<Clock>,
    /// What it was made with; of a fork or a child nothing.
    pub(super) request: Value,
    /// Wakes who waits for a run, or a run that waits in a step: it ended, was interrupted, or
    /// the server ends.
    pub(super) stir: Notify,
    /// Commands of its own workspace, with a history of their own.
    pub(super) bash: Arc<Bash>,
    inner: Mutex<Inner>,
    /// Whose turn it is to change the state: a run's for as long as a step lasts, without the time
    /// in which the model is asked. First come, first served, as with the agent server's lock.
    turn: tokio::sync::Mutex<()>,
}

/// A turn at changing the state, until it is dropped.
pub(super) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

pub(super) struct Inner {
    pub(super) log: Log,
    leaf: Option<String>,
    /// Somebody went before the first event.
    pub(super) head_is_empty: bool,
    /// The confirmation policy it was made with: what a reload and a fork go back to.
    pub(super) policy: Value,
    /// The security analyzer it was made with, likewise.
    pub(super) analyzer: Value,
    unanswered: Unanswered,
    /// The actions for which a policy asked for an approval, by id.
    pub(super) asked: HashSet<String>,
    subscribers: Vec<Arc<Subscriber>>,
    /// The fields of `ConversationInfo`, as `GET` answers them.
    pub(super) info: Map<String, Value>,
    pub(super) hooks: Value,
    pub(super) goal: Option<Goal>,
    /// The system prompt is in the log.
    pub(super) prompted: bool,
    /// Its agent and hooks were set up since the server started.
    pub(super) ready: bool,
    /// Read from disk by nobody yet since the server came back.
    pub(super) unloaded: bool,
    pub(super) running: bool,
    /// A message came during a run and asks for another, should this one not take it in.
    pub(super) again: Option<Permission>,
    /// A tool is at work: whoever begins to listen waits for its end.
    at_work: bool,
    /// Who listens, and has not been told the state yet.
    waiting: Vec<Arc<Subscriber>>,
    pub(super) interrupted: bool,
    pub(super) deleted: bool,
    /// Owned by another server for now: readable as a whole, its log is not.
    pub(super) leased: bool,
    /// What a model would be shown.
    pub(super) messages: Vec<Value>,
}

/// Someone who is told of every event.
pub(super) struct Subscriber {
    to: mpsc::UnboundedSender<Item>,
    pending: AtomicUsize,
    /// Set when the connection has to end, and how.
    pub(super) ending: Mutex<Option<Ending>>,
    pub(super) end: CancellationToken,
}

#[derive(Debug, Clone)]
pub(super) enum Item {
    Durable {
        seq: usize,
        frame: Frame,
    },
    Transient(Bytes),
    /// The state as a listener finds it, and the length of the log then.
    Snapshot {
        raw: Bytes,
        length: usize,
    },
    /// A frame of the session socket that is no event: progress of a streamed answer.
    Progress(Bytes),
}

#[derive(Debug, Clone)]
pub(super) enum Ending {
    Close(u16, String),
    Cut,
}

impl Item {
    fn weight(&self) -> usize {
        match self {
            Self::Durable { frame, .. } => frame.whole().len(),
            Self::Transient(raw) | Self::Progress(raw) | Self::Snapshot { raw, .. } => {
                raw.len() + 32
            }
        }
    }
}

impl Subscriber {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Item>) {
        let (to, from) = mpsc::unbounded_channel();
        let subscriber = Self {
            to,
            pending: AtomicUsize::new(0),
            ending: Mutex::new(None),
            end: CancellationToken::new(),
        };
        (Arc::new(subscriber), from)
    }

    pub(super) fn end(&self, ending: Ending) {
        let mut slot = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(ending);
        drop(slot);
        self.end.cancel();
    }

    pub(super) fn tell(&self, item: Item) {
        let weight = item.weight();
        let pending = self.pending.fetch_add(weight, Ordering::Relaxed);
        if pending + weight > MAX_PENDING {
            self.end(Ending::Close(1013, "slow_consumer".to_owned()));
            return;
        }
        let _ = self.to.send(item);
    }

    /// Whether nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.to.is_closed()
    }

    pub(super) fn took(&self, item: &Item) {
        self.pending.fetch_sub(item.weight(), Ordering::Relaxed);
    }
}

impl Conversation {
    pub(super) fn new(
        id: uuid::Uuid,
        number: u64,
        info: Map<String, Value>,
        hooks: Value,
        clock: Arc<Clock>,
    ) -> Self {
        let policy = info["confirmation_policy"].clone();
        let analyzer = info["security_analyzer"].clone();
        Self {
            id,
            number,
            clock,
            request: Value::Null,
            stir: Notify::new(),
            bash: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            inner: Mutex::new(Inner {
                log: Log::default(),
                leaf: None,
                head_is_empty: false,
                policy,
                analyzer,
                unanswered: Unanswered::default(),
                asked: HashSet::new(),
                subscribers: Vec::new(),
                info,
                hooks,
                goal: None,
                prompted: false,
                ready: false,
                unloaded: false,
                running: false,
                again: None,
                at_work: false,
                waiting: Vec::new(),
                interrupted: false,
                deleted: false,
                leased: false,
                messages: Vec::new(),
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event with these fields, and tells everyone. Returns its id.
    pub(super) fn append(&self, source: &str, kind: &str, fields: Value) -> String {
        let mut inner = self.lock();
        let (seq, id, told) = self.log(&mut inner, source, kind, fields);
        inner.tell(seq, told.as_deref());
        id
    }

    /// Appends an event, tells nobody yet, and does something before everyone is told.
    pub(super) fn append_then(
        &self,
        source: &str,
        kind: &str,
        fields: Value,
        then: impl FnOnce(&str),
    ) {
        let (seq, id, told) = self.log(&mut self.lock(), source, kind, fields);
        then(&id);
        self.lock().tell(seq, told.as_deref());
    }

    /// Appends an event. Returns its position, its id, and what is told in its stead.
    fn log(
        &self,
        inner: &mut Inner,
        source: &str,
        kind: &str,
        fields: Value,
    ) -> (usize, String, Option<String>) {
        let mut event = json!({
            "id": self.clock.id(),
            "timestamp": self.clock.local(),
            "source": source,
            "kind": kind,
        });
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        // Which the fields may have said.
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        // The first has no parent; what follows without one in the tree begins a new root.
        let parent = match &inner.leaf {
            Some(leaf) => Some(leaf.clone()),
            None if inner.log.is_empty() => None,
            None => Some("__root__".to_owned()),
        };
        if kind != "ConversationStateUpdateEvent" {
            inner.leaf = Some(id.clone());
            inner.head_is_empty = false;
            inner.info.insert("leaf_event_id".to_owned(), json!(id));
        }
        let told = (kind == "HookExecutionEvent").then(|| event.to_string());
        if let Some(parent) = parent {
            event["parent_id"] = json!(parent);
        }
        // Hook events are told before they are given a parent, and kept with one.
        let seq = inner.log.push(event.to_string().as_bytes());
        (seq, id, told)
    }

    /// Appends an event as it is, and tells everyone. Returns its `seq`.
    pub(super) fn push(&self, event: &[u8]) -> usize {
        let mut inner = self.lock();
        let seq = inner.log.push(event);
        inner.tell(seq, None);
        seq
    }

    /// Tells everyone of an event that is not kept.
    pub(super) fn transient(&self, raw: Bytes) {
        for subscriber in &self.lock().subscribers {
            subscriber.tell(Item::Transient(raw.clone()));
        }
    }

    /// Sends session sockets a frame that is no event.
    pub(super) fn progress(&self, frame: &Value) {
        let raw = Bytes::from(frame.to_string());
        for subscriber in &self.lock().subscribers {
            subscriber.tell(Item::Progress(raw.clone()));
        }
    }

    /// Sets a field of the state, and logs the change.
    pub(super) fn set(&self, key: &str, value: Value) {
        self.lock().info.insert(key.to_owned(), value.clone());
        let mut fields = json!({"key": key, "value": value});
        if let (true, Value::Object(fields)) = (value.is_null(), &mut fields) {
            fields.remove("value");
        }
        self.append("environment", "ConversationStateUpdateEvent", fields);
    }

    /// Sets a field, and logs the change if it is one.
    pub(super) fn set_if_new(&self, key: &str, value: Value) {
        let known = self.lock().info.get(key) == Some(&value);
        if !known {
            self.set(key, value);
        }
    }

    pub(super) fn working_dir(&self) -> String {
        let inner = self.lock();
        let directory = inner.info["workspace"]["working_dir"].as_str();
        directory.unwrap_or_default().to_owned()
    }

    pub(super) fn status(&self) -> String {
        let inner = self.lock();
        let status = inner.info["execution_status"].as_str();
        status.unwrap_or_default().to_owned()
    }

    pub(super) fn set_status(&self, status: &str) {
        if self.status() != status {
            self.set("execution_status", json!(status));
        }
    }

    /// Takes it into use. After a restart that is when it forgets what was set while it ran;
    /// looked at only, it still shows it.
    pub(super) fn load(&self) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.unloaded) {
            let (policy, analyzer) = (inner.policy.clone(), inner.analyzer.clone());
            inner.info.insert("confirmation_policy".to_owned(), policy);
            inner.info.insert("security_analyzer".to_owned(), analyzer);
        }
    }

    /// Waits for its turn at changing the state.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }

    /// The actions on the active branch that have no result yet.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let mut inner = self.lock();
        let length = inner.len();
        if inner.unanswered.has_moved() {
            let branch = branches::active_in(&mut inner);
            inner.unanswered.restart(&branch, length);
        }
        let from = inner.unanswered.looked_at();
        let news = inner.page(from, usize::MAX).into_iter();
        let news: Vec<_> = news.map(|(_, raw)| raw).collect();
        inner.unanswered.go_on(&news, length).to_vec()
    }

    /// Waits for a change that someone who makes it stirs about.
    pub(super) async fn until(&self, reached: impl Fn(&Inner) -> bool) {
        loop {
            // Listening begins before the look: what changes in between is not missed.
            let stirred = self.stir.notified();
            if reached(&self.lock()) {
                return;
            }
            stirred.await;
        }
    }

    /// Publishes the whole state, as at a run's end.
    pub(super) fn publish_state(&self) {
        let raw = self.full_state(&self.lock());
        self.transient(raw);
    }

    fn full_state(&self, inner: &Inner) -> Bytes {
        // Dates, title and kinship are told by `GET` only; what is null is left out.
        const NOT_STATE: [&str; 15] = [
            "title",
            "metrics",
            "created_at",
            "updated_at",
            "forked_from_conversation_id",
            "forked_from_event_id",
            "parent_conversation_id",
            "sub_conversation_ids",
            "current_model_id",
            "available_models",
            "supports_runtime_model_switch",
            "launched_agent_profile",
            "client_tools",
            "tool_module_qualnames",
            "runtime_info",
        ];
        let mut value: Map<String, Value> = inner
            .info
            .iter()
            .filter(|(key, value)| !value.is_null() && !NOT_STATE.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        value.insert("activated_path_rules".to_owned(), json!([]));
        value.insert("head_is_empty".to_owned(), json!(inner.head_is_empty));
        let event = json!({
            "id": self.clock.id(),
            "timestamp": self.clock.local(),
            "source": "environment",
            "key": "full_state",
            "value": value,
            "kind": "ConversationStateUpdateEvent",
        });
        event.to_string().into()
    }

    /// Begins to listen: to a snapshot of the state, and to all that comes. While a tool is at
    /// work the snapshot waits for its end, as the agent server's does, which needs the state's
    /// lock for it. `None` when too many listen already.
    pub(super) fn subscribe(&self) -> Option<(Arc<Subscriber>, mpsc::UnboundedReceiver<Item>)> {
        let (subscriber, from) = Subscriber::new();
        let mut inner = self.lock();
        if inner.subscribers.len() >= MAX_SUBSCRIBERS {
            return None;
        }
        inner.subscribers.push(Arc::clone(&subscriber));
        inner.waiting.push(Arc::clone(&subscriber));
        if !inner.at_work {
            self.tell_waiting(&mut inner);
        }
        Some((subscriber, from))
    }

    fn tell_waiting(&self, inner: &mut Inner) {
        for subscriber in std::mem::take(&mut inner.waiting) {
            subscriber.tell(Item::Snapshot {
                raw: self.full_state(inner),
                length: inner.log.len(),
            });
        }
    }

    /// A tool is at work until what this returns is dropped.
    pub(super) fn work(&self) -> AtWork<'_> {
        self.lock().at_work = true;
        AtWork(self)
    }

    pub(super) fn unsubscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut inner = self.lock();
        let other = |other: &Arc<Subscriber>| !Arc::ptr_eq(other, subscriber);
        inner.subscribers.retain(other);
        inner.waiting.retain(other);
    }

    /// Ends every socket that listens.
    pub(super) fn end_sockets(&self, ending: &Ending) {
        for subscriber in &self.lock().subscribers {
            subscriber.end(ending.clone());
        }
    }

    /// Bytes that the slowest listener has yet to take.
    pub(super) fn backlog(&self) -> usize {
        let inner = self.lock();
        let pending = inner.subscribers.iter();
        pending
            .map(|subscriber| subscriber.pending.load(Ordering::Relaxed))
            .max()
            .unwrap_or_default()
    }
}

/// A tool at work, which holds the state.
#[must_use]
pub(super) struct AtWork<'a>(&'a Conversation);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.at_work = false;
        self.0.tell_waiting(&mut inner);
    }
}

impl Inner {
    /// Tells everyone of a logged event, or of what is told in its stead.
    fn tell(&mut self, seq: usize, told: Option<&str>) {
        // After a deletion sockets stay open, and silent.
        if self.subscribers.is_empty() || self.deleted {
            return;
        }
        let frame = match told {
            Some(told) => Some(Frame::new(seq, told.as_bytes())),
            None => self.log.frame(seq),
        };
        for (subscriber, frame) in self.subscribers.iter().zip(std::iter::repeat(frame)) {
            if let Some(frame) = frame {
                subscriber.tell(Item::Durable { seq, frame });
            }
        }
    }

    /// Cuts the log back to its first events.
    pub(super) fn cut_log(&mut self, length: usize) {
        let kept: Vec<_> = (0..length).map_while(|seq| self.log.event(seq)).collect();
        self.log = Log::default();
        let mut leaf = None;
        for event in kept {
            self.log.push(&event);
            let node: Value = serde_json::from_slice(&event).unwrap_or_default();
            if node["kind"] != "ConversationStateUpdateEvent" {
                leaf = node["id"].as_str().map(str::to_owned).or(leaf);
            }
        }
        self.set_leaf(leaf);
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn leaf(&self) -> Option<&str> {
        self.leaf.as_deref()
    }

    /// Moves the head: what is logged next comes after this event.
    pub(super) fn set_leaf(&mut self, leaf: Option<String>) {
        self.info.insert("leaf_event_id".to_owned(), json!(leaf));
        self.leaf = leaf;
        self.unanswered.head_moved();
    }

    pub(super) fn listeners(&self) -> usize {
        self.subscribers.len()
    }

    /// Readable events from `start`, at most `limit`, with their `seq`.
    pub(super) fn page(&mut self, start: usize, limit: usize) -> Vec<(usize, Bytes)> {
        let page = self.log.page(start, limit).into_iter();
        page.map(|(seq, frame)| (seq, frame.event())).collect()
    }
}
