//! A future that takes turns on the threads of callbacks. Knows no queue.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake, Waker},
};

use tokio::sync::Notify;

use super::{Counted, Threads};

/// A future at work on the threads of its runtime.
pub(crate) struct Job {
    pub(super) threads: Arc<Threads>,
    /// None once it is done.
    work: Mutex<Option<Work>>,
    turn: Mutex<Turn>,
    done: Notify,
}

#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Resting,
    Queued,
    AtWork,
    /// At work, and woken since its turn began.
    Again,
    Done,
}

struct Work {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    _counted: Counted,
}

impl Job {
    /// Starts a job on the threads of the runtime that this is called in.
    pub(crate) fn start(future: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let threads = Threads::current();
        let work = Work {
            future: Box::pin(future),
            _counted: Counted::new(threads.clone()),
        };
        let job = Arc::new(Self {
            threads,
            work: Mutex::new(Some(work)),
            turn: Mutex::new(Turn::Resting),
            done: Notify::new(),
        });
        job.wake_by_ref();
        job
    }

    pub(crate) fn is_done(&self) -> bool {
        *lock(&self.turn) == Turn::Done
    }

    /// Waits until it is done.
    pub(crate) async fn done(&self) {
        // Made before looking: it hears of an end in between.
        let done = self.done.notified();
        if !self.is_done() {
            done.await;
        }
    }

    /// One poll, and another turn later if it was woken meanwhile.
    pub(super) fn take_turn(self: Arc<Self>) {
        *lock(&self.turn) = Turn::AtWork;
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        let ended = lock(&self.work).as_mut().is_none_or(|work| {
            let poll = || work.future.as_mut().poll(&mut cx).is_ready();
            catch_unwind(AssertUnwindSafe(poll)).unwrap_or(true)
        });
        if ended {
            self.end();
            return;
        }
        let again = {
            let mut turn = lock(&self.turn);
            let again = *turn == Turn::Again;
            *turn = if again { Turn::Queued } else { Turn::Resting };
            again
        };
        if again {
            self.threads.clone().push(self);
        }
    }

    pub(super) fn end(&self) {
        let work = lock(&self.work).take();
        // What user code owns may panic when it is dropped; that is reported by the panic hook.
        _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        *lock(&self.turn) = Turn::Done;
        self.done.notify_waiters();
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let due = {
            let mut turn = lock(&self.turn);
            let due = *turn == Turn::Resting;
            match *turn {
                Turn::Resting => *turn = Turn::Queued,
                Turn::AtWork => *turn = Turn::Again,
                Turn::Queued | Turn::Again | Turn::Done => {}
            }
            due
        };
        if due {
            self.threads.clone().push(self.clone());
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
