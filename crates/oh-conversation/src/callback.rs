//! Callbacks: streams drained by tasks of their own, so that none can hold up another.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::{FutureExt, StreamExt};
use oh_protocol::Event;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

use crate::{EventStream, mirror::Mirror};

/// So many events are given to a callback in a row, at most.
const BATCH: usize = 64;

/// A callback at work. Dropping this leaves it at work until the conversation ends.
#[must_use = "keep it to cancel the callback, or call `detach`"]
pub struct Subscription {
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

/// How a callback is ended.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    No,
    /// After the events that have arrived.
    Finish,
    /// Now.
    Quit,
}

impl Subscription {
    pub(crate) fn start(
        mirror: Arc<Mirror>,
        events: EventStream,
        callback: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let (stop, stopped) = watch::channel(Stop::No);
        let task = tokio::spawn(drain(mirror, events, callback, stopped));
        Self { stop, task }
    }

    /// Ends the callback after the events that have arrived by now; done when it has ended.
    pub async fn cancel(self) {
        let _ = self.stop.send(Stop::Finish);
        let _ = self.task.await;
    }

    /// Ends the callback without waiting, also from within itself: after the call at hand there
    /// is no other.
    pub fn stop(self) {
        let _ = self.stop.send(Stop::Quit);
    }

    /// Leaves the callback at work until the conversation ends.
    pub fn detach(self) {}
}

async fn drain(
    mirror: Arc<Mirror>,
    mut events: EventStream,
    mut callback: impl FnMut(&Event) + Send + 'static,
    mut stopped: watch::Receiver<Stop>,
) {
    let mut until = usize::MAX;
    let mut waiting = true;
    while events.position() < until {
        let event = tokio::select! {
            biased;
            asked = stopped.changed(), if waiting => {
                // Dropped, the subscription stays at work.
                waiting = asked.is_ok();
                match *stopped.borrow_and_update() {
                    // What had arrived before the cancel is still delivered.
                    Stop::Finish => until = mirror.read().log.end(),
                    Stop::Quit => return,
                    Stop::No => {}
                }
                continue;
            }
            event = events.next() => event,
        };
        let Some(Ok(event)) = event else { return };
        let mut batch = vec![event];
        while batch.len() < BATCH && events.position() < until {
            match events.next().now_or_never() {
                Some(Some(Ok(event))) => batch.push(event),
                Some(Some(Err(_)) | None) => {
                    until = 0;
                    break;
                }
                None => break,
            }
        }
        // User code may block; a thread that drives sockets must not.
        let asked = stopped.clone();
        let called = spawn_blocking(move || {
            for event in batch {
                if *asked.borrow() == Stop::Quit {
                    break;
                }
                // A panic in one callback is reported by the panic hook and harms nobody else.
                let called = catch_unwind(AssertUnwindSafe(|| callback(&event)));
                if called.is_err() {
                    tracing::error!(kind = event.kind(), "an event callback panicked");
                }
            }
            callback
        });
        let Ok(back) = called.await else { return };
        callback = back;
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("ended", &self.task.is_finished())
            .finish()
    }
}
