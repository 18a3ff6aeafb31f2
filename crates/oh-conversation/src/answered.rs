//! The answers that this process has given, and the lock that makes checking and answering one
//! step.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use oh_protocol::{Call, ConversationId, ExecutionStatus};
use oh_transport::{Client, Error, ErrorKind, Result};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle, time::Instant};

use crate::mirror::{Held, Mirror};

/// The answers of this process to one conversation, through any handle or link.
#[derive(Default)]
pub(crate) struct Answered {
    /// Held from the check for waiting actions until the dependent request has been answered, so
    /// that two answers of one process cannot cross.
    turn: Arc<tokio::sync::Mutex<()>>,
    approved: Mutex<Option<Approved>>,
    /// The actions that this process is rejecting.
    rejecting: Mutex<HashSet<Box<str>>>,
    /// The last run that the server has accepted from this process.
    started: Mutex<Option<Started>>,
    /// The length of the log at the last approval, until a handle has waited for its run.
    awaited: Mutex<Option<usize>>,
    /// How many times this process has paused the conversation, and how many of these requests have
    /// ended.
    pauses: AtomicU32,
    paused: AtomicU32,
}

/// A run that the server has accepted.
#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    /// The length of the log at that time.
    events: usize,
}

/// How long the log may take to show a run that the server has accepted. A run with nothing to do
/// is never shown.
const SHOWN: Duration = Duration::from_secs(2);

/// The same for a run that an approval has started, if no snapshot shows that the actions still wait:
/// a server that has loaded the conversation again may have to start its tools first.
const SHOWN_AT_LAST: Duration = Duration::from_secs(30);

/// The right to send a request that could approve a pending action.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// Sends a request once. The turn ends with its response, even if the caller no longer waits
    /// for it: a request in flight can still approve.
    pub(crate) fn send<C>(self, client: &Client, call: C) -> JoinHandle<Result<C::Output>>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        self.send_then(client, call, || ())
    }

    /// Does the same as [`send`](Self::send), and calls `done` after a successful response, before the turn
    /// ends.
    pub(crate) fn send_then<C>(
        self,
        client: &Client,
        call: C,
        done: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<Result<C::Output>>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        let client = client.clone();
        tokio::spawn(async move {
            let answer = client.call(&call).timeout(LONGEST).single_attempt().await;
            if answer.is_ok() {
                done();
            }
            drop(self);
            answer
        })
    }
}

/// Waits for the response to a request that was sent on a separate task.
pub(crate) async fn answer<T>(task: &mut JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|_| {
        let what = "the task that sends the request ended, for example because the tokio runtime \
                    was shut down";
        Err(Error::new(ErrorKind::Interrupted, what))
    })
}

/// Returns whether the server may have acted on a request that failed: the connection was lost, the
/// time limit expired, or a gateway gave up waiting for the server.
pub(crate) fn is_unclear(error: &Error) -> bool {
    let gateway = error.status().map(|status| status.as_u16());
    let gateway = matches!(gateway, Some(502 | 504 | 520 | 524));
    let lost = matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Timeout);
    (lost || gateway) && !error.never_sent()
}

/// Actions whose approval the server has accepted, until the log shows it.
struct Approved {
    ids: HashSet<Box<str>>,
    at: Instant,
    /// The length of the log at that time.
    events: usize,
}

impl Approved {
    /// Returns whether the approval may still turn out to be without an effect.
    fn is_open(&self, held: &Held) -> bool {
        held.link.is_up() && held.ran <= self.events
    }

    /// Returns whether the server has accepted the approval without starting a run: it does so while
    /// the run that asks has not ended yet.
    fn is_without_effect(&self, held: &Held) -> bool {
        let last = held.snapshot.as_ref();
        let waits = last.is_some_and(|last| {
            last.at > self.at && last.status == ExecutionStatus::WaitingForConfirmation
        });
        let limit = if waits { SHOWN } else { SHOWN_AT_LAST };
        self.is_open(held) && self.at.elapsed() >= limit
    }
}

/// Timeout of a request: on older servers it takes as long as a running tool.
const LONGEST: Duration = Duration::from_secs(600);

type Conversations = HashMap<(String, ConversationId), Weak<Answered>>;

static ANSWERED: LazyLock<Mutex<Conversations>> = LazyLock::new(Mutex::default);

impl Answered {
    /// Returns the answers to a conversation of the server with this URL.
    pub(crate) fn of(server: &str, id: ConversationId) -> Arc<Self> {
        let mut all = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server.to_owned(), id);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let answered = Arc::new(Self::default());
        all.insert(key, Arc::downgrade(&answered));
        answered
    }

    /// Waits for the turn to check and send. The turn ends when it is dropped.
    pub(crate) async fn turn(&self) -> Turn {
        Turn {
            _guard: self.turn.clone().lock_owned().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Approved>> {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that the server has accepted a run when the log had this many events.
    pub(crate) fn start(&self, events: usize) {
        let started = Started {
            at: Instant::now(),
            events,
        };
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }

    /// Reports that the server has accepted an approval of these actions, which starts a run, when
    /// the log had this many events.
    pub(crate) fn approve(&self, ids: HashSet<Box<str>>, events: usize) {
        let at = Instant::now();
        *self.lock() = Some(Approved { ids, at, events });
        self.start(events);
        *self.lock_awaited() = Some(events);
    }

    /// Returns the length of the log at the last approval, unless a handle has waited for the run
    /// that it started.
    pub(crate) fn awaited(&self) -> Option<usize> {
        *self.lock_awaited()
    }

    /// Reports that a handle has the outcome of the last run, or waits for it.
    pub(crate) fn wait(&self) {
        *self.lock_awaited() = None;
    }

    fn lock_awaited(&self) -> MutexGuard<'_, Option<usize>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the log does not yet show a run that the server has accepted from this
    /// process.
    pub(crate) fn begins(&self, held: &Held) -> bool {
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.is_some_and(|started| {
            let told = held
                .snapshot
                .as_ref()
                .is_some_and(|last| last.at > started.at);
            held.ran <= started.events && !told && started.at.elapsed() < SHOWN
        })
    }

    /// Counts a pause or an interrupt, for which the server sends a snapshot. The value is dropped
    /// when the request has ended.
    pub(crate) fn pause(self: &Arc<Self>) -> Pausing {
        self.pauses.fetch_add(1, Ordering::AcqRel);
        Pausing(self.clone())
    }

    /// Returns how many pauses this process has requested.
    pub(crate) fn pauses(&self) -> u32 {
        self.pauses.load(Ordering::Acquire)
    }

    /// Returns how many of these requests have ended.
    pub(crate) fn paused(&self) -> u32 {
        self.paused.load(Ordering::Acquire)
    }

    fn lock_rejecting(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        let rejecting = self.rejecting.lock();
        rejecting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this process is rejecting an action. The server records rejections one by
    /// one; the remaining actions are no longer waiting for an answer.
    pub(crate) fn rejects(&self, action: &str) -> bool {
        self.lock_rejecting().contains(action)
    }

    /// Returns when to check again whether the last approval had an effect, if that is not known
    /// yet.
    pub(crate) fn check_again(&self, held: &Held) -> Option<Instant> {
        let approved = self.lock();
        let approved = approved
            .as_ref()
            .filter(|approved| approved.is_open(held))?;
        let limits = [SHOWN, SHOWN_AT_LAST].map(|limit| approved.at + limit);
        limits.into_iter().find(|limit| *limit > Instant::now())
    }

    /// Returns the actions that this process has approved, unless the server may have lost the
    /// approval.
    pub(crate) fn approved(&self, held: &Held) -> HashSet<Box<str>> {
        let approved = self.lock();
        let Some(approved) = &*approved else {
            return HashSet::new();
        };
        // A killed server loses the actions it was about to execute, so the state from a later
        // connection takes precedence.
        let later = held
            .snapshot
            .as_ref()
            .is_some_and(|last| last.connected > approved.at);
        match later || approved.is_without_effect(held) {
            true => HashSet::new(),
            false => approved.ids.clone(),
        }
    }
}

/// A request to pause that is in progress.
pub(crate) struct Pausing(Arc<Answered>);

impl Drop for Pausing {
    fn drop(&mut self) {
        self.0.paused.fetch_add(1, Ordering::AcqRel);
    }
}

/// Actions that are being rejected, until this value is dropped.
pub(crate) struct Rejecting {
    mirror: Arc<Mirror>,
    ids: Vec<Box<str>>,
}

impl Rejecting {
    pub(crate) fn new(mirror: Arc<Mirror>, ids: Vec<Box<str>>) -> Self {
        let mut rejecting = mirror.answered.lock_rejecting();
        rejecting.extend(ids.iter().cloned());
        drop(rejecting);
        Self { mirror, ids }
    }
}

impl Drop for Rejecting {
    fn drop(&mut self) {
        let mut rejecting = self.mirror.answered.lock_rejecting();
        rejecting.retain(|id| !self.ids.contains(id));
        drop(rejecting);
        // Wakes readers that have omitted these actions.
        self.mirror.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_shared_while_a_handle_exists() {
        let id = ConversationId::random();
        let one = Answered::of("http://a.test/", id);
        assert!(Arc::ptr_eq(&one, &Answered::of("http://a.test/", id)));
        assert!(!Arc::ptr_eq(&one, &Answered::of("http://b.test/", id)));
        let other = ConversationId::random();
        assert!(!Arc::ptr_eq(&one, &Answered::of("http://a.test/", other)));
    }
}
