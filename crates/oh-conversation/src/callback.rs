//! Callbacks: streams drained on threads of their own, so that none can hold up another.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
};

use futures_util::StreamExt;
use oh_protocol::Event;

use crate::{EventStream, mirror::Mirror, threads::Job};

/// After so many events in a row a callback lets others take their turn.
const BATCH: usize = 64;

/// A callback at work. Dropping this leaves it at work until the conversation ends.
#[must_use = "keep it to cancel the callback, or call `detach`"]
pub struct Subscription {
    mirror: Arc<Mirror>,
    until: Until,
    job: Arc<Job>,
}

/// Index after the last event that a callback is to be given.
type Until = Arc<AtomicUsize>;

impl Subscription {
    pub(crate) fn start(
        mirror: Arc<Mirror>,
        events: EventStream,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let until = Until::new(AtomicUsize::new(usize::MAX));
        let mut drain = Drain {
            events,
            callback,
            until: until.clone(),
        };
        let job = Job::start(poll_fn(move |cx| drain.turn(cx)));
        Self { mirror, until, job }
    }

    /// Ends the callback after the events that have arrived by now; done when it has ended.
    pub async fn cancel(self) {
        let arrived = self.mirror.read().log.end();
        self.end(arrived);
        self.job.done().await;
    }

    /// Ends the callback without waiting, also from within itself: after the call at hand there
    /// is no other.
    pub fn stop(self) {
        self.end(0);
    }

    /// Leaves the callback at work until the conversation ends.
    pub fn detach(self) {}

    fn end(&self, until: usize) {
        self.until.store(until, Ordering::Release);
        self.job.wake_by_ref();
    }
}

/// A callback and what it is yet to be given.
struct Drain<F> {
    events: EventStream,
    callback: F,
    until: Until,
}

impl<F: FnMut(&Event)> Drain<F> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BATCH {
            if self.events.position() >= self.until.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            let event = match self.events.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(event))) => event,
                Poll::Ready(_) => return Poll::Ready(()),
            };
            // A panic in one callback is reported by the panic hook and harms nobody else.
            let called = catch_unwind(AssertUnwindSafe(|| (self.callback)(&event)));
            if called.is_err() {
                tracing::error!(kind = event.kind(), "an event callback panicked");
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("ended", &self.job.is_done())
            .finish()
    }
}
