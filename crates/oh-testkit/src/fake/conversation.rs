//! One conversation: its log, its state, and who listens. It decides order; it runs nothing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;

/// A client that falls this far behind is dropped, as the agent server does.
const MAX_PENDING: usize = 16 * 1024 * 1024;
/// More listeners than this are turned away.
const MAX_SUBSCRIBERS: usize = 50;

pub(super) struct Conversation {
    pub(super) id: uuid::Uuid,
    pub(super) clock: Arc<Clock>,
    /// Wakes a run that waits in a step: it was paused, interrupted, or the server ends.
    pub(super) stir: Notify,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    log: Vec<Bytes>,
    /// Positions by event id, filled as far as somebody asked.
    index: HashMap<Box<str>, usize>,
    indexed: usize,
    /// Positions whose file cannot be read: sockets and searches leave them out.
    pub(super) unreadable: BTreeSet<usize>,
    leaf: Option<String>,
    subscribers: Vec<Arc<Subscriber>>,
    /// The fields of `ConversationInfo`, as `GET` answers them.
    pub(super) info: Map<String, Value>,
    pub(super) hooks: Value,
    pub(super) prompted: bool,
    pub(super) running: bool,
    pub(super) interrupted: bool,
    /// A hook refused the newest message: the next run ends at once.
    pub(super) blocked: bool,
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
        raw: Bytes,
    },
    Transient(Bytes),
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
            Self::Durable { raw, .. } | Self::Transient(raw) | Self::Progress(raw) => {
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
        info: Map<String, Value>,
        hooks: Value,
        clock: Arc<Clock>,
    ) -> Self {
        Self {
            id,
            clock,
            stir: Notify::new(),
            inner: Mutex::new(Inner {
                log: Vec::new(),
                index: HashMap::new(),
                indexed: 0,
                unreadable: BTreeSet::new(),
                leaf: None,
                subscribers: Vec::new(),
                info,
                hooks,
                prompted: false,
                running: false,
                interrupted: false,
                blocked: false,
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
        let id = self.clock.id();
        let mut event = json!({
            "id": id,
            "timestamp": self.clock.local(),
            "source": source,
            "kind": kind,
        });
        let mut inner = self.lock();
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        // The first has no parent; what follows without one in the tree begins a new root.
        let parent = match &inner.leaf {
            Some(leaf) => Some(leaf.clone()),
            None if inner.log.is_empty() => None,
            None => Some("__root__".to_owned()),
        };
        if kind != "ConversationStateUpdateEvent" {
            inner.leaf = Some(id.clone());
            inner.info.insert("leaf_event_id".to_owned(), json!(id));
        }
        let told = (kind == "HookExecutionEvent").then(|| event.to_string().into());
        if let Some(parent) = parent {
            event["parent_id"] = json!(parent);
        }
        let kept = Bytes::from(event.to_string());
        // Hook events are told before they are given a parent, and kept with one.
        inner.push(kept.clone(), told.unwrap_or(kept));
        id
    }

    /// Appends an event as it is, and tells everyone. Returns its `seq`.
    pub(super) fn push(&self, raw: Bytes) -> usize {
        self.lock().push(raw.clone(), raw)
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
        let fields = json!({"key": key, "value": value});
        self.append("environment", "ConversationStateUpdateEvent", fields);
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
        value.insert("head_is_empty".to_owned(), json!(false));
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

    /// Begins to listen: the length of the log now, and all that comes after it, of which a
    /// snapshot of the state is the first. `None` when too many listen already.
    pub(super) fn subscribe(
        &self,
    ) -> Option<(Arc<Subscriber>, mpsc::UnboundedReceiver<Item>, usize)> {
        let (subscriber, from) = Subscriber::new();
        let mut inner = self.lock();
        if inner.subscribers.len() >= MAX_SUBSCRIBERS {
            return None;
        }
        subscriber.tell(Item::Transient(self.full_state(&inner)));
        inner.subscribers.push(Arc::clone(&subscriber));
        Some((subscriber, from, inner.log.len()))
    }

    pub(super) fn unsubscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut inner = self.lock();
        inner
            .subscribers
            .retain(|other| !Arc::ptr_eq(other, subscriber));
    }

    /// Ends every socket that listens.
    pub(super) fn end_sockets(&self, ending: &Ending) {
        for subscriber in &self.lock().subscribers {
            subscriber.end(ending.clone());
        }
    }

    /// Bytes that the slowest listener has yet to take.
    pub(super) fn pending(&self) -> usize {
        let inner = self.lock();
        let pending = inner.subscribers.iter();
        pending
            .map(|subscriber| subscriber.pending.load(Ordering::Relaxed))
            .max()
            .unwrap_or_default()
    }
}

impl Inner {
    fn push(&mut self, kept: Bytes, told: Bytes) -> usize {
        let seq = self.log.len();
        self.log.push(kept);
        for subscriber in &self.subscribers {
            subscriber.tell(Item::Durable {
                seq,
                raw: told.clone(),
            });
        }
        seq
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn listeners(&self) -> usize {
        self.subscribers.len()
    }

    /// Readable events from `start`, at most `limit`, with their `seq`.
    pub(super) fn page(&self, start: usize, limit: usize) -> Vec<(usize, Bytes)> {
        let readable = self.log.iter().enumerate().skip(start);
        readable
            .filter(|(seq, _)| !self.unreadable.contains(seq))
            .take(limit)
            .map(|(seq, raw)| (seq, raw.clone()))
            .collect()
    }

    pub(super) fn get(&self, seq: usize) -> Option<&Bytes> {
        self.log.get(seq)
    }

    /// Where the event with this id stands.
    pub(super) fn find(&mut self, id: &str) -> Option<usize> {
        #[derive(Deserialize)]
        struct Header {
            id: Box<str>,
        }
        for seq in self.indexed..self.log.len() {
            if let Ok(header) = serde_json::from_slice::<Header>(&self.log[seq]) {
                self.index.insert(header.id, seq);
            }
        }
        self.indexed = self.log.len();
        self.index.get(id).copied()
    }
}
