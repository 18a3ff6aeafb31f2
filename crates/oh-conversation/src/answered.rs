//! The answers that this process has given, and the lock that makes looking and answering one step.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use oh_protocol::{Call, ConversationId};
use oh_transport::{Client, ErrorKind, Result};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle, time::Instant};

use crate::mirror::{Held, Mirror};

/// The answers of this process to one conversation, whatever handles and links gave them.
#[derive(Default)]
pub(crate) struct Answered {
    /// Held from looking whether something waits until the request that depends on it has been
    /// answered, so that two answers of one process do not cross.
    turn: Arc<tokio::sync::Mutex<()>>,
    approved: Mutex<Option<Approved>>,
    /// The actions that this process is rejecting.
    rejecting: Mutex<HashSet<Box<str>>>,
    /// The last run that the server has taken from this process.
    started: Mutex<Option<Started>>,
}

/// A run that the server has taken.
#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    /// How long the log was then.
    events: usize,
}

/// How long the log may take to show a run that the server has taken. One that had nothing to do is
/// never shown.
const SHOWN: Duration = Duration::from_secs(2);

/// The right to send what could approve a pending action.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// Sends a request, once. The turn ends with its answer, also when the caller does not wait
    /// for it any more: a request that is on its way can still approve.
    pub(crate) fn send<C>(self, client: &Client, call: C) -> JoinHandle<Result<C::Output>>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        self.send_then(client, call, || ())
    }

    /// As [`send`](Self::send), and notes that the server has done it before the turn ends.
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

/// Waits for the answer to a request that was sent on a task of its own.
pub(crate) async fn answer<T>(task: &mut JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|_| {
        let what = "the runtime that sends the request has ended";
        Err(oh_transport::Error::new(ErrorKind::Interrupted, what))
    })
}

/// Actions that the server has taken an approval for, until the log shows it.
struct Approved {
    ids: HashSet<Box<str>>,
    at: Instant,
}

/// How long a request may be on its way: on older servers for as long as a tool runs.
const LONGEST: Duration = Duration::from_secs(600);

type Conversations = HashMap<(String, ConversationId), Weak<Answered>>;

static ANSWERED: LazyLock<Mutex<Conversations>> = LazyLock::new(Mutex::default);

impl Answered {
    /// The answers to a conversation of the server with this URL.
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

    /// Waits for the turn to look and to send. It ends when the turn is dropped.
    pub(crate) async fn turn(&self) -> Turn {
        Turn {
            _guard: self.turn.clone().lock_owned().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Approved>> {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has taken a run while the log was so long.
    pub(crate) fn start(&self, events: usize) {
        let started = Started {
            at: Instant::now(),
            events,
        };
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }

    /// Whether a run that the server has taken from this process is yet to show in the log.
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

    fn lock_rejecting(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        let rejecting = self.rejecting.lock();
        rejecting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is rejecting an action. The server records the rejections one by one,
    /// and what is left of them meanwhile waits for nobody.
    pub(crate) fn rejects(&self, action: &str) -> bool {
        self.lock_rejecting().contains(action)
    }

    /// The server has taken an approval of these actions.
    pub(crate) fn approve(&self, ids: HashSet<Box<str>>) {
        let at = Instant::now();
        *self.lock() = Some(Approved { ids, at });
    }

    /// The actions that this process has approved, as far as the server still knows it.
    pub(crate) fn approved(&self, held: &Held) -> HashSet<Box<str>> {
        let approved = self.lock();
        let Some(approved) = &*approved else {
            return HashSet::new();
        };
        // A server that is killed forgets what it was about to execute: what a later connection
        // says of the actions counts.
        let later = held
            .snapshot
            .as_ref()
            .is_some_and(|last| last.connected > approved.at);
        match later {
            true => HashSet::new(),
            false => approved.ids.clone(),
        }
    }
}

/// Actions that are being rejected, until this is dropped.
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
        // Whoever left these actions out looks again.
        self.mirror.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_to_a_conversation_are_shared_while_somebody_has_it() {
        let id = ConversationId::random();
        let one = Answered::of("http://a.test/", id);
        assert!(Arc::ptr_eq(&one, &Answered::of("http://a.test/", id)));
        assert!(!Arc::ptr_eq(&one, &Answered::of("http://b.test/", id)));
        let other = ConversationId::random();
        assert!(!Arc::ptr_eq(&one, &Answered::of("http://a.test/", other)));
    }
}
