//! The local copy of a conversation: one writer, any number of readers. Contains no I/O.

pub(crate) mod answered;
pub(crate) mod changes;
pub(crate) mod earlier;
pub(crate) mod events;
pub(crate) mod head;
pub(crate) mod held;
pub(crate) mod lineage;
pub(crate) mod log;
pub(crate) mod numbering;
pub(crate) mod restored;
pub(crate) mod view;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oh_protocol::{
    ConversationId, Json,
    config::{ConfirmationPolicy, SecurityAnalyzer},
    state::ConversationState,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::{
    answered::Answered,
    changes::{EarlierChanges, Part},
    earlier::Earlier,
    held::{Held, LinkStatus},
    lineage::Lineage,
};
use crate::{Error, ErrorKind, limits::Limits};

/// The state shared by readers.
pub(crate) struct Mirror {
    pub(crate) id: ConversationId,
    held: RwLock<Held>,
    /// The version of the settings of this process that this link has sent, and for which
    /// connection.
    pub(crate) settled: Mutex<(u64, u64)>,
    /// Answers of this process, and the lock that makes checking and answering one step.
    pub(crate) answered: Arc<Answered>,
    /// The actions of the log that have no answer.
    pub(crate) lineage: Lineage,
    /// Events before those held, fetched to find open actions.
    pub(crate) earlier: Earlier,
    /// Changes of the state before the events held.
    pub(crate) earlier_changes: EarlierChanges,
    /// Notifies the watcher that the server has events that the mirror lacks.
    pub(crate) nudge: Notify,
    pub(crate) limits: Arc<Limits>,
    changes: watch::Sender<u64>,
}

/// The exclusive right to write. Dropping it ends the mirror.
pub(crate) struct Writer(Arc<Mirror>);

impl Mirror {
    /// Creates a mirror. `keep`: the minimum number of events to keep; `None` keeps all. `base`:
    /// the number of events in the server's log before the first one held.
    pub(crate) fn new(
        id: ConversationId,
        state: ConversationState,
        keep: Option<usize>,
        base: usize,
        limits: Arc<Limits>,
        answered: Arc<Answered>,
    ) -> (Writer, Arc<Self>) {
        let mirror = Arc::new(Self {
            id,
            held: RwLock::new(Held::new(state, keep, base, answered.clone())),
            settled: Mutex::default(),
            answered,
            lineage: Lineage::default(),
            earlier: Earlier::default(),
            earlier_changes: EarlierChanges::default(),
            nudge: Notify::new(),
            limits,
            changes: watch::Sender::new(0),
        });
        (Writer(mirror.clone()), mirror)
    }

    /// Locks the mirror for reading. Never hold the guard across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Held> {
        // A panic of the writer cannot leave a partial change that matters: each change is complete
        // before the next one starts.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the policy to set again when the server may have lost it.
    pub(crate) fn policy_to_restore(&self, held: &Held) -> Option<ConfirmationPolicy> {
        let newer = |since| self.change_since(held, Part::Policy, since);
        self.answered.restored.policy(newer)
    }

    /// Returns the analyzer to set again when the server may have lost it.
    pub(crate) fn analyzer_to_restore(&self, held: &Held) -> Option<Option<SecurityAnalyzer>> {
        let newer = |since| self.change_since(held, Part::Analyzer, since);
        self.answered.restored.analyzer(newer)
    }

    /// Returns the newest change of a part that is not older than this length of the log.
    fn change_since(&self, held: &Held, part: Part, since: usize) -> Option<Json> {
        if let Some(change) = held.changes.since(part, since) {
            return Some(change.value.clone());
        }
        let earlier = self.earlier_changes.lock().get(&part).cloned();
        earlier.flatten().filter(|_| since < held.log.begin())
    }

    /// Returns a receiver that is notified of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes all waiters, because something besides the mirror has changed.
    pub(crate) fn wake(&self) {
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(crate) fn mirror(&self) -> &Arc<Mirror> {
        &self.0
    }

    /// Changes the mirror, and wakes readers once for the whole change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let changed = change(&mut self.0.write());
        self.0.wake();
        changed
    }

    /// Reports that there is no connection and, after a failed attempt, why.
    pub(crate) fn connecting(&self, last_error: Option<Error>) {
        let known = {
            let held = self.0.read();
            held.link == LinkStatus::Connecting && last_error.is_none()
        };
        if !known {
            self.change(|held| {
                held.link = LinkStatus::Connecting;
                held.last_error = last_error.or(held.last_error.take());
                held.down_since.get_or_insert_with(Instant::now);
            });
        }
    }

    pub(crate) fn connected(&self) {
        self.change(|held| {
            held.link = LinkStatus::Replaying;
            held.reconnected();
        });
    }

    /// Reports that events arrive by REST, because sockets are refused, or are not open yet.
    pub(crate) fn polling(&self, last_error: Error, refused: bool) {
        self.change(|held| {
            held.link = LinkStatus::Polling;
            held.last_error = Some(last_error);
            (held.down_since, held.disowned) = (None, false);
            held.unnumbered |= refused;
            held.refused |= refused;
        });
    }

    pub(crate) fn end(&self, error: Error) {
        if matches!(error.kind(), ErrorKind::Gone | ErrorKind::Replaced) {
            // The next conversation with this id is another one.
            self.0.answered.retire();
        }
        self.change(|held| {
            held.link = LinkStatus::Ended;
            held.ended.get_or_insert(error);
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.0.read().ended.is_none() {
            let message = "the conversation was closed";
            self.end(Error::new(ErrorKind::Closed, self.0.id, message));
        }
    }
}
