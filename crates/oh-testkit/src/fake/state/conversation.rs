//! A conversation with its log, state and listeners. Decides their order.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};

use crate::fake::state::{
    clock::Clock,
    commands::Bash,
    executed::Permission,
    goal::Goal,
    log::{Frame, Log},
    pending::Unanswered,
    subscriber::{Ending, Item, Subscriber},
};

/// The maximum number of listeners. The agent server allows 50 and uses one of them itself.
const MAX_SUBSCRIBERS: usize = 49;

pub(crate) struct Conversation {
    pub(crate) id: uuid::Uuid,
    /// The position in the order of creation.
    pub(crate) number: u64,
    pub(crate) clock: Arc<Clock>,
    /// The request that created the conversation. `Null` for a fork or a child.
    pub(crate) request: Value,
    /// Notified when a run ends or is interrupted, and when the conversation is deleted or the
    /// server stops.
    pub(crate) changed: Notify,
    /// The commands and command history of the conversation's workspace.
    pub(crate) bash: Arc<Bash>,
    inner: Mutex<Inner>,
    /// Held while the state is changed. A run holds it during a step, except while the model is
    /// queried. Fair, like the agent server's lock.
    turn: tokio::sync::Mutex<()>,
}

/// The right to change the state, until dropped.
pub(crate) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

pub(crate) struct Inner {
    pub(crate) log: Log,
    leaf: Option<String>,
    /// Whether the head was moved before the first event.
    pub(crate) head_is_empty: bool,
    /// The confirmation policy at creation, which a reload restores, and which forks and children
    /// have.
    pub(crate) policy: Value,
    /// The security analyzer at creation. The same applies to it.
    pub(crate) analyzer: Value,
    pub(crate) unanswered: Unanswered,
    /// The ids of the actions for which a policy required an approval.
    pub(crate) asked: HashSet<String>,
    subscribers: Vec<Arc<Subscriber>>,
    /// The fields of `ConversationInfo`, as returned by `GET`.
    pub(crate) info: Map<String, Value>,
    pub(crate) hooks: Value,
    pub(crate) goal: Option<Goal>,
    /// Whether the system prompt is in the log.
    pub(crate) prompted: bool,
    /// Whether agent and hooks were set up since the server started.
    pub(crate) ready: bool,
    /// Whether the conversation has not been loaded since the server restarted.
    pub(crate) unloaded: bool,
    pub(crate) running: bool,
    /// Set if a message arrived during a run and needs another run, unless this one handles it.
    pub(crate) again: Option<Permission>,
    /// Whether a tool is running. New listeners wait for its end.
    at_work: bool,
    /// Listeners that have not received the state yet.
    waiting: Vec<Arc<Subscriber>>,
    pub(crate) interrupted: bool,
    pub(crate) deleted: bool,
    /// Whether another server owns the lease. The conversation can be read, but its log cannot.
    pub(crate) leased: bool,
    /// The messages that a model would get.
    pub(crate) messages: Vec<Value>,
}

impl Conversation {
    pub(crate) fn new(
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
            changed: Notify::new(),
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

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event with these fields and sends it to all listeners. Returns the event's id.
    pub(crate) fn append(&self, source: &str, kind: &str, fields: Value) -> String {
        let mut inner = self.lock();
        let (seq, id, sent) = self.log(&mut inner, source, kind, fields);
        inner.publish(seq, sent.as_deref());
        id
    }

    /// Appends an event and calls `then` before the event is sent to listeners.
    pub(crate) fn append_then(
        &self,
        source: &str,
        kind: &str,
        fields: Value,
        then: impl FnOnce(&str),
    ) {
        let (seq, id, sent) = self.log(&mut self.lock(), source, kind, fields);
        then(&id);
        self.lock().publish(seq, sent.as_deref());
    }

    /// Appends an event. Returns its position, its id, and the text to send instead of the logged
    /// one, if they differ.
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
        // The fields may contain an id.
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        // The first event has no parent. A later event without a parent starts a new root.
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
        let sent = (kind == "HookExecutionEvent").then(|| event.to_string());
        if let Some(parent) = parent {
            event["parent_id"] = json!(parent);
        }
        // Hook events are sent without a parent but logged with one.
        let seq = inner.log.push(event.to_string().as_bytes());
        (seq, id, sent)
    }

    /// Appends an event unchanged and sends it to all listeners. Returns its `seq`.
    pub(crate) fn push(&self, event: &[u8]) -> usize {
        let mut inner = self.lock();
        let seq = inner.log.push(event);
        inner.publish(seq, None);
        seq
    }

    /// Sends an event that is not logged to all listeners.
    pub(crate) fn transient(&self, raw: Bytes) {
        for subscriber in &self.lock().subscribers {
            subscriber.publish(Item::Transient(raw.clone()));
        }
    }

    /// Sends session sockets a frame that is not an event.
    pub(crate) fn progress(&self, frame: &Value) {
        let raw = Bytes::from(frame.to_string());
        for subscriber in &self.lock().subscribers {
            subscriber.publish(Item::Progress(raw.clone()));
        }
    }

    /// Sets a field of the state and logs the change.
    pub(crate) fn set(&self, key: &str, value: Value) {
        self.lock().info.insert(key.to_owned(), value.clone());
        let mut fields = json!({"key": key, "value": value});
        if let (true, Value::Object(fields)) = (value.is_null(), &mut fields) {
            fields.remove("value");
        }
        self.append("environment", "ConversationStateUpdateEvent", fields);
    }

    /// Sets a field and logs the change if the value is different.
    pub(crate) fn set_if_new(&self, key: &str, value: Value) {
        let known = self.lock().info.get(key) == Some(&value);
        if !known {
            self.set(key, value);
        }
    }

    pub(crate) fn working_dir(&self) -> String {
        let inner = self.lock();
        let directory = inner.info["workspace"]["working_dir"].as_str();
        directory.unwrap_or_default().to_owned()
    }

    pub(crate) fn status(&self) -> String {
        let inner = self.lock();
        let status = inner.info["execution_status"].as_str();
        status.unwrap_or_default().to_owned()
    }

    pub(crate) fn set_status(&self, status: &str) {
        if self.status() != status {
            self.set("execution_status", json!(status));
        }
    }

    /// Loads the conversation for use. After a restart, this resets settings that were changed at
    /// run time; merely reading the conversation still shows them.
    pub(crate) fn load(&self) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.unloaded) {
            let (policy, analyzer) = (inner.policy.clone(), inner.analyzer.clone());
            inner.info.insert("confirmation_policy".to_owned(), policy);
            inner.info.insert("security_analyzer".to_owned(), analyzer);
        }
    }

    /// Waits for the right to change the state.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }

    /// Waits until a condition is true. Code that changes the state must notify `changed`.
    pub(crate) async fn until(&self, reached: impl Fn(&Inner) -> bool) {
        loop {
            // Registers before the check, so that no change in between is missed.
            let changed = self.changed.notified();
            if reached(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Sends the whole state, as at the end of a run.
    pub(crate) fn publish_state(&self) {
        let raw = self.full_state(&self.lock());
        self.transient(raw);
    }

    fn full_state(&self, inner: &Inner) -> Bytes {
        // These fields are returned by `GET` only. Null values are omitted.
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

    /// Adds a listener, which receives a snapshot of the state and then all events. Returns `None`
    /// if there are too many listeners.
    ///
    /// While a tool is running, the snapshot is delayed until its end, because the agent server
    /// needs the state lock for it.
    pub(crate) fn subscribe(&self) -> Option<(Arc<Subscriber>, mpsc::UnboundedReceiver<Item>)> {
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
            subscriber.publish(Item::Snapshot {
                raw: self.full_state(inner),
                length: inner.log.len(),
            });
        }
    }

    /// Marks a tool as running until the returned guard is dropped.
    pub(crate) fn work(&self) -> AtWork<'_> {
        self.lock().at_work = true;
        AtWork(self)
    }

    pub(crate) fn unsubscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut inner = self.lock();
        let other = |other: &Arc<Subscriber>| !Arc::ptr_eq(other, subscriber);
        inner.subscribers.retain(other);
        inner.waiting.retain(other);
    }

    /// Ends all listening sockets.
    pub(crate) fn end_sockets(&self, ending: &Ending) {
        for subscriber in &self.lock().subscribers {
            subscriber.end(ending.clone());
        }
    }

    /// Sends nothing more to the present sockets, which stay open.
    pub(crate) fn forget_sockets(&self) {
        self.lock().subscribers.clear();
    }

    /// Returns the number of unsent bytes of the slowest listener.
    pub(crate) fn backlog(&self) -> usize {
        let inner = self.lock();
        let pending = inner.subscribers.iter();
        pending
            .map(|subscriber| subscriber.pending.load(Ordering::Relaxed))
            .max()
            .unwrap_or_default()
    }
}

/// A guard for a running tool, which holds the state.
#[must_use]
pub(crate) struct AtWork<'a>(&'a Conversation);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.at_work = false;
        self.0.tell_waiting(&mut inner);
    }
}

impl Inner {
    /// Sends a logged event, or its replacement text, to all listeners.
    fn publish(&mut self, seq: usize, sent: Option<&str>) {
        // After a deletion, sockets stay open but silent.
        if self.subscribers.is_empty() || self.deleted {
            return;
        }
        let frame = match sent {
            Some(sent) => Some(Frame::new(seq, sent.as_bytes())),
            None => self.log.frame(seq),
        };
        for (subscriber, frame) in self.subscribers.iter().zip(std::iter::repeat(frame)) {
            if let Some(frame) = frame {
                subscriber.publish(Item::Durable { seq, frame });
            }
        }
    }

    /// Truncates the log to its first events.
    pub(crate) fn cut_log(&mut self, length: usize) {
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

    pub(crate) fn len(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn leaf(&self) -> Option<&str> {
        self.leaf.as_deref()
    }

    /// Moves the head. The next event is appended after this one.
    pub(crate) fn set_leaf(&mut self, leaf: Option<String>) {
        self.info.insert("leaf_event_id".to_owned(), json!(leaf));
        self.leaf = leaf;
        self.unanswered.head_moved();
    }

    pub(crate) fn listeners(&self) -> usize {
        self.subscribers.len()
    }

    /// Returns at most `limit` readable events from `start`, with their `seq`.
    pub(crate) fn page(&mut self, start: usize, limit: usize) -> Vec<(usize, Bytes)> {
        let page = self.log.page(start, limit).into_iter();
        page.map(|(seq, frame)| (seq, frame.event())).collect()
    }
}
