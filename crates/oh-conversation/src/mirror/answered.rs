//! The answers that this process has given, and the lock that makes checking and answering one
//! step. Contains no I/O.

use std::{
    collections::{HashMap, HashSet},
    ptr,
    sync::{
        Arc, LazyLock, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use oh_protocol::ConversationId;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{lock::lock, mirror::restored::Restored};

/// The answers of this process to one conversation, through any handle or link.
#[derive(Default)]
pub(crate) struct Answered {
    /// Held from the check for waiting actions until the dependent request has been answered, so
    /// that two answers of one process cannot cross.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held from the check before a message until its response, so that a lost message can be
    /// distinguished from those before it.
    message: Arc<tokio::sync::Mutex<()>>,
    /// Held while a goal starts, and while a policy that may ask is set: they exclude each other.
    goal: Arc<tokio::sync::Mutex<()>>,
    approved: Mutex<Option<Approved>>,
    /// The actions that this process is rejecting.
    rejecting: Mutex<HashSet<Box<str>>>,
    /// Actions for which a policy has asked, although this log does not show it: those of a fork.
    asked: Mutex<HashSet<Box<str>>>,
    /// The last run that the server has accepted from this process.
    started: Mutex<Option<Started>>,
    /// The length of the log at the last approval, until a handle has waited for its run.
    awaited: Mutex<Option<usize>>,
    /// How many times this process has paused the conversation, and how many of these requests have
    /// ended.
    pauses: AtomicU32,
    paused: AtomicU32,
    /// The settings of this process, which the server loses when it loads the conversation again.
    pub(crate) restored: Restored,
}

/// A run that the server has accepted.
#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    /// The length of the log at that time.
    events: usize,
    /// Whether the run may still begin.
    expected: bool,
}

/// How long the log may take to show a run that the server has accepted. A run with nothing to do
/// is never shown.
const SHOWN: Duration = Duration::from_secs(2);

/// The same for a run that an approval has started, if no snapshot shows that the actions still
/// wait: a server that has loaded the conversation again may have to start its tools first.
const SHOWN_AT_LAST: Duration = Duration::from_secs(30);

/// The part of a mirror that shows whether an approval had an effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// When the connection was made that has delivered the last snapshot.
    pub(crate) connected: Option<Instant>,
    /// When the last snapshot arrived, if it reports that actions wait.
    pub(crate) waits: Option<Instant>,
    /// The length of the log at the newest start of a run.
    pub(crate) ran: usize,
    /// Whether the mirror follows the server.
    pub(crate) up: bool,
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
    fn is_open(&self, shown: Shown) -> bool {
        shown.up && shown.ran <= self.events
    }

    /// Returns whether the server has accepted the approval without starting a run: it does so
    /// while the run that asks has not ended yet.
    fn is_without_effect(&self, shown: Shown) -> bool {
        let waits = shown.waits.is_some_and(|at| at > self.at);
        let limit = if waits { SHOWN } else { SHOWN_AT_LAST };
        self.is_open(shown) && self.at.elapsed() >= limit
    }
}

type Conversations = HashMap<(String, ConversationId), Weak<Answered>>;

static ANSWERED: LazyLock<Mutex<Conversations>> = LazyLock::new(Mutex::default);

impl Answered {
    /// Returns the answers to a conversation of the server with this URL.
    pub(crate) fn of(server: &str, id: ConversationId) -> Arc<Self> {
        let mut all = lock(&ANSWERED);
        let key = (server.to_owned(), id);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let answered = Arc::new(Self::default());
        all.insert(key, Arc::downgrade(&answered));
        answered
    }

    /// Forgets the answers to an earlier conversation with an id that has been used again. Handles
    /// to the earlier one keep them.
    pub(crate) fn forget(server: &str, id: ConversationId) {
        lock(&ANSWERED).remove(&(server.to_owned(), id));
    }

    /// Forgets these answers like [`forget`](Self::forget).
    pub(crate) fn retire(self: &Arc<Self>) {
        lock(&ANSWERED).retain(|_, known| !ptr::eq(known.as_ptr(), Arc::as_ptr(self)));
    }

    /// Waits for the right to check and send, which ends when the guard is dropped.
    pub(crate) async fn lock_turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// Waits for the right to send a message.
    pub(crate) async fn lock_message(&self) -> OwnedMutexGuard<()> {
        self.message.clone().lock_owned().await
    }

    /// Waits for the right to start a goal, or to set a policy that may ask.
    pub(crate) async fn lock_goal(&self) -> OwnedMutexGuard<()> {
        self.goal.clone().lock_owned().await
    }

    /// Reports that the server has accepted a run when the log had this many events.
    pub(crate) fn start(&self, events: usize) {
        let started = Started {
            at: Instant::now(),
            events,
            expected: true,
        };
        *lock(&self.started) = Some(started);
    }

    /// Returns when the server has accepted the last run of this process, and the length of the log
    /// at that time, if the log does not show the run yet. `ran`: as for [`begins`](Self::begins).
    pub(crate) fn expected(&self, ran: usize) -> Option<(Instant, usize)> {
        let started = *lock(&self.started);
        let started = started.filter(|started| started.expected && ran <= started.events)?;
        Some((started.at, started.events))
    }

    /// Reports that the last accepted run had nothing to do, or does not begin.
    pub(crate) fn expect_none(&self) {
        if let Some(started) = lock(&self.started).as_mut() {
            started.expected = false;
        }
    }

    /// Returns the length of the log at the last approval, if the log does not show its run.
    pub(crate) fn approved_at(&self, ran: usize) -> Option<usize> {
        let approved = lock(&self.approved);
        let events = approved.as_ref().map(|approved| approved.events);
        events.filter(|events| ran <= *events)
    }

    /// Reports that the server has accepted an approval of these actions, which starts a run, when
    /// the log had this many events.
    pub(crate) fn approve(&self, ids: HashSet<Box<str>>, events: usize) {
        let at = Instant::now();
        *lock(&self.approved) = Some(Approved { ids, at, events });
        self.start(events);
        *lock(&self.awaited) = Some(events);
    }

    /// Returns the length of the log at the last approval, unless a handle has waited for the run
    /// that it started.
    pub(crate) fn awaited(&self) -> Option<usize> {
        *lock(&self.awaited)
    }

    /// Reports that a handle has the outcome of the last run, or waits for it.
    pub(crate) fn wait(&self) {
        *lock(&self.awaited) = None;
    }

    /// Returns whether the log does not yet show a run that the server has accepted from this
    /// process. `ran`: the index after the newest event that reports the start of a run.
    /// `snapshot_at`: when the last snapshot arrived.
    pub(crate) fn begins(&self, ran: usize, snapshot_at: Option<Instant>) -> bool {
        let started = *lock(&self.started);
        started.is_some_and(|started| {
            let shown = snapshot_at.is_some_and(|at| at > started.at);
            ran <= started.events && !shown && started.at.elapsed() < SHOWN
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

    /// Reports that a policy has asked for these actions, although the log does not show it.
    pub(crate) fn ask(&self, ids: impl IntoIterator<Item = Box<str>>) {
        lock(&self.asked).extend(ids);
    }

    /// Returns whether [`ask`](Self::ask) was called for an action.
    pub(crate) fn was_asked(&self, action: &str) -> bool {
        lock(&self.asked).contains(action)
    }

    /// Marks actions as being rejected.
    pub(crate) fn reject(&self, ids: &[Box<str>]) {
        lock(&self.rejecting).extend(ids.iter().cloned());
    }

    /// Reports that these actions are no longer being rejected.
    pub(crate) fn end_rejecting(&self, ids: &[Box<str>]) {
        lock(&self.rejecting).retain(|id| !ids.contains(id));
    }

    /// Returns whether this process is rejecting an action. The server records rejections one by
    /// one; the remaining actions are no longer waiting for an answer.
    pub(crate) fn rejects(&self, action: &str) -> bool {
        lock(&self.rejecting).contains(action)
    }

    /// Returns when to check again whether the last approval had an effect, if that is not known
    /// yet.
    pub(crate) fn check_again(&self, shown: Shown) -> Option<Instant> {
        let approved = lock(&self.approved);
        let approved = approved
            .as_ref()
            .filter(|approved| approved.is_open(shown))?;
        let limits = [SHOWN, SHOWN_AT_LAST].map(|limit| approved.at + limit);
        limits.into_iter().find(|limit| *limit > Instant::now())
    }

    /// Returns the actions that this process has approved, unless the server may have lost the
    /// approval, and the length of the log at that time.
    pub(crate) fn approved(&self, shown: Shown) -> (HashSet<Box<str>>, usize) {
        // A killed server loses the actions it was about to execute, so the state from a later
        // connection takes precedence.
        let approved = lock(&self.approved);
        let valid = approved.as_ref().filter(|last| {
            let later = shown.connected.is_some_and(|connected| connected > last.at);
            !later && !last.is_without_effect(shown)
        });
        valid.map_or_else(Default::default, |last| (last.ids.clone(), last.events))
    }
}

/// A request to pause that is in progress.
pub(crate) struct Pausing(Arc<Answered>);

impl Drop for Pausing {
    fn drop(&mut self) {
        self.0.paused.fetch_add(1, Ordering::AcqRel);
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
