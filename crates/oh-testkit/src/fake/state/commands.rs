//! The commands of a server or of a conversation, and their listeners.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use crate::fake::state::{
    lock::lock,
    log::Frame,
    subscriber::{Ending, Item, Subscriber},
};

/// The result of a command.
///
/// ```
/// use oh_testkit::fake::CommandOutput;
///
/// let output = CommandOutput::ok("/work\n");
/// let failed = CommandOutput::exit(2).stderr("no such file");
/// # let _ = (output, failed);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct CommandOutput {
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) after: Duration,
}

impl CommandOutput {
    /// Returns a result with exit code 0 and this text on stdout.
    pub fn ok(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }

    /// Returns a result with this exit code. −1 means a timeout, and −N means signal N.
    pub fn exit(code: i32) -> Self {
        Self {
            exit_code: code,
            ..Self::default()
        }
    }

    /// Sets the text on stdout.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = text.into();
        self
    }

    /// Sets the text on stderr.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr = text.into();
        self
    }

    /// Sets how long the command runs. If its timeout (default 300 s) is shorter, the command is
    /// killed at the timeout: its exit code is −1, and its output is kept.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }
}

/// The maximum number of listeners, as on the agent server.
const MAX_SUBSCRIBERS: usize = 50;

type Subscription = (Vec<Bytes>, Arc<Subscriber>, mpsc::UnboundedReceiver<Item>);

/// Commands and their output.
#[derive(Default)]
pub(crate) struct Bash {
    pub(crate) inner: Mutex<Inner>,
    pub(crate) stopped: Notify,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) events: Vec<Value>,
    subscribers: Vec<Arc<Subscriber>>,
    pub(crate) stop: HashSet<String>,
}

impl Bash {
    /// Returns all events so far and adds a listener. Returns `None` if there are too many
    /// listeners.
    pub(crate) fn subscribe(&self) -> Option<Subscription> {
        let (subscriber, items) = Subscriber::new();
        let mut inner = lock(&self.inner);
        inner.subscribers.retain(|subscriber| !subscriber.is_gone());
        if inner.subscribers.len() >= MAX_SUBSCRIBERS {
            return None;
        }
        inner.subscribers.push(Arc::clone(&subscriber));
        let before = inner.events.iter().map(|event| event.to_string().into());
        Some((before.collect(), subscriber, items))
    }

    /// Ends all listening sockets.
    pub(crate) fn end_sockets(&self, ending: &Ending) {
        for subscriber in &lock(&self.inner).subscribers {
            subscriber.end(ending.clone());
        }
    }

    /// Clears the history.
    pub(crate) fn forget(&self) {
        lock(&self.inner).events.clear();
    }

    pub(crate) fn push(&self, event: Value) {
        let mut inner = lock(&self.inner);
        let seq = inner.events.len();
        let frame = Frame::new(seq, event.to_string().as_bytes());
        inner.events.push(event);
        inner.subscribers.retain(|subscriber| !subscriber.is_gone());
        for subscriber in &inner.subscribers {
            subscriber.publish(Item::Durable {
                seq,
                frame: frame.clone(),
            });
        }
    }
}
