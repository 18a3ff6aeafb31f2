//! Progress and cancellation of a batch. Contains no I/O.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use oh_protocol::ConversationId;
use tokio::sync::watch;

use crate::{Conversation, WeakConversation, lock::lock};

/// How to cancel a [`Bulk`](crate::Bulk), with regard to the conversations in flight. In every case
/// no other conversation is started. Ordered: a later cancel can only be stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BulkCancel {
    /// Conversations in flight continue to their end.
    Finish,
    /// Running conversations are interrupted, and the stream waits for their outcomes.
    /// Conversations that have not started are not run.
    Interrupt,
    /// Runs continue on the server, and the stream does not wait for them. Conversations that
    /// have not started are not run.
    Leave,
}

/// The stage of a conversation in a [`Bulk`](crate::Bulk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BulkStage {
    /// The conversation is being created or connected, or its first message is being sent.
    Starting,
    /// The server accepts no more runs at the moment; the request will be repeated.
    WaitingForServer,
    /// The conversation waits for a place on a server of the fleet.
    WaitingForLease,
    /// The conversation is running.
    Running,
}

/// A conversation of a [`Bulk`](crate::Bulk) that has started and has no result yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InFlight {
    /// Position among the conversations added, from 0.
    pub index: usize,
    /// Id of the conversation.
    pub id: ConversationId,
    /// The stage of the conversation.
    pub stage: BulkStage,
    /// The conversation, once it is connected.
    pub conversation: Option<Conversation>,
}

/// A snapshot of a [`Bulk`](crate::Bulk)'s progress. The first three numbers add up to the number
/// of conversations that were added, unless the stream was dropped.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BulkProgress {
    /// The number of conversations that have not started.
    pub waiting: usize,
    /// The conversations that have started, in the order in which they were added.
    pub in_flight: Vec<InFlight>,
    /// The number of conversations with a result.
    pub done: usize,
    /// The number of tasks that ended in an earlier run of the batch, according to its journal.
    /// Not counted in the other numbers.
    pub earlier: usize,
}

/// Reports the progress of a [`BulkRun`](crate::BulkRun) and cancels it. Cheap to clone; does not
/// keep conversations connected.
#[derive(Clone)]
pub struct BulkHandle(Arc<Board>);

struct Board {
    shared: Mutex<Shared>,
    cancel: watch::Sender<Option<BulkCancel>>,
    /// Counts the results: each one frees a run slot on the server.
    freed: watch::Sender<usize>,
}

struct Shared {
    waiting: usize,
    earlier: usize,
    spent: f64,
    begun: BTreeMap<usize, Begun>,
}

struct Begun {
    id: ConversationId,
    stage: BulkStage,
    conversation: Option<WeakConversation>,
}

impl BulkHandle {
    pub(super) fn new(waiting: usize, earlier: usize, spent: f64) -> Self {
        Self(Arc::new(Board {
            shared: Mutex::new(Shared {
                waiting,
                earlier,
                spent,
                begun: BTreeMap::new(),
            }),
            cancel: watch::Sender::new(None),
            freed: watch::Sender::new(0),
        }))
    }

    /// Returns the numbers of waiting and finished conversations, and those in flight.
    pub fn progress(&self) -> BulkProgress {
        let shared = self.lock();
        let in_flight = shared.begun.iter().map(|(index, begun)| InFlight {
            index: *index,
            id: begun.id,
            stage: begun.stage,
            conversation: begun.conversation.as_ref().and_then(|weak| weak.upgrade()),
        });
        BulkProgress {
            waiting: shared.waiting,
            in_flight: in_flight.collect(),
            done: *self.0.freed.borrow(),
            earlier: shared.earlier,
        }
    }

    /// Returns the known costs of the tasks in US dollars, including those in the journal from
    /// earlier runs of the batch.
    pub fn spent(&self) -> f64 {
        self.lock().spent
    }

    pub(super) fn spend(&self, cost: f64) {
        self.lock().spent += cost;
    }

    /// Cancels the batch: no other conversation is started, and those in flight end as specified by
    /// `how`. Takes effect while the stream is polled. Can be called again with a stricter value.
    ///
    /// The stream then ends with a result for each conversation that has none yet. The outcome is
    /// an error of kind [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) if the conversation
    /// did not run, or if its run continues on the server. Requests in progress are completed, so
    /// that no conversation is created without a result.
    pub fn cancel(&self, how: BulkCancel) {
        self.0.cancel.send_if_modified(|cancel| {
            let stricter = *cancel < Some(how);
            if stricter {
                *cancel = Some(how);
            }
            stricter
        });
    }

    pub(super) fn cancelled(&self) -> Option<BulkCancel> {
        *self.0.cancel.borrow()
    }

    /// Waits for a cancel that is at least this strict.
    pub(super) async fn cancels(&self, least: BulkCancel) {
        let mut cancel = self.0.cancel.subscribe();
        // The sender lives as long as this handle.
        _ = cancel.wait_for(|cancel| *cancel >= Some(least)).await;
    }

    /// Returns a receiver that changes each time a result has freed a run slot on the server.
    pub(super) fn freed(&self) -> watch::Receiver<usize> {
        self.0.freed.subscribe()
    }

    pub(super) fn begin(&self, index: usize, id: ConversationId) -> InProgress {
        let mut shared = self.lock();
        shared.waiting -= 1;
        let stage = BulkStage::Starting;
        let conversation = None;
        let begun = Begun {
            id,
            stage,
            conversation,
        };
        shared.begun.insert(index, begun);
        let handle = self.clone();
        InProgress { handle, index }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.0.shared)
    }
}

/// Shows a conversation as in flight until this value is dropped.
pub(super) struct InProgress {
    pub(super) handle: BulkHandle,
    index: usize,
}

impl InProgress {
    pub(super) fn stage(&self, stage: BulkStage) {
        self.change(|begun| begun.stage = stage);
    }

    pub(super) fn connected(&self, conversation: &Conversation) {
        self.change(|begun| begun.conversation = Some(conversation.downgrade()));
    }

    /// Changes the conversation of a task that is repeated.
    pub(super) fn renamed(&self, id: ConversationId) {
        self.change(|begun| {
            begun.id = id;
            begun.conversation = None;
        });
    }

    /// Reports that there is a result.
    pub(super) fn done(self) {
        let freed = self.handle.0.clone();
        drop(self);
        freed.freed.send_modify(|done| *done += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Begun)) {
        if let Some(begun) = self.handle.lock().begun.get_mut(&self.index) {
            change(begun);
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.handle.lock().begun.remove(&self.index);
    }
}

impl fmt::Debug for BulkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkHandle")
            .field("progress", &self.progress())
            .field("cancelled", &self.cancelled())
            .finish()
    }
}
