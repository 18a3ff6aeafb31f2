//! A listener of a log: a socket, and the items that it has yet to send.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fake::state::log::Frame;

/// The maximum number of unsent bytes of a listener. A listener with more is dropped, as on the
/// agent server.
const MAX_PENDING: usize = 16 * 1024 * 1024;

/// A listener that receives all events.
pub(crate) struct Subscriber {
    to: mpsc::UnboundedSender<Item>,
    pub(crate) pending: AtomicUsize,
    /// How to end the connection. Set when it has to end.
    pub(crate) ending: Mutex<Option<Ending>>,
    pub(crate) end: CancellationToken,
}

#[derive(Debug, Clone)]
pub(crate) enum Item {
    Durable {
        seq: usize,
        frame: Frame,
    },
    Transient(Bytes),
    /// The state when listening begins, and the length of the log at that time.
    Snapshot {
        raw: Bytes,
        length: usize,
    },
    /// A frame of the session socket that is not an event, such as the progress of a streamed
    /// answer.
    Progress(Bytes),
}

#[derive(Debug, Clone)]
pub(crate) enum Ending {
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
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Item>) {
        let (to, from) = mpsc::unbounded_channel();
        let subscriber = Self {
            to,
            pending: AtomicUsize::new(0),
            ending: Mutex::new(None),
            end: CancellationToken::new(),
        };
        (Arc::new(subscriber), from)
    }

    pub(crate) fn end(&self, ending: Ending) {
        let mut slot = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(ending);
        drop(slot);
        self.end.cancel();
    }

    pub(crate) fn publish(&self, item: Item) {
        let weight = item.weight();
        let pending = self.pending.fetch_add(weight, Ordering::Relaxed);
        if pending + weight > MAX_PENDING {
            self.end(Ending::Close(1013, "slow_consumer".to_owned()));
            return;
        }
        let _ = self.to.send(item);
    }

    /// Returns whether the receiving end was dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.to.is_closed()
    }

    pub(crate) fn took(&self, item: &Item) {
        self.pending.fetch_sub(item.weight(), Ordering::Relaxed);
    }
}
