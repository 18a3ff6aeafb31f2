//! Callbacks: streams drained on tasks of their own, so that none can hold up another.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::StreamExt;
use oh_protocol::Event;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Cursor, EventStream, mirror::Mirror};

/// A callback at work. Dropping this leaves it at work until the conversation ends.
#[must_use = "keep it to cancel the callback, or call `detach`"]
pub struct Subscription {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Subscription {
    pub(crate) fn start(
        mirror: Arc<Mirror>,
        cursor: Cursor,
        mut callback: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        // Settled here: events that arrive before the task begins are "from now on" too.
        let mut seen = match cursor {
            Cursor::Start => 0,
            Cursor::After(position) => position,
            Cursor::Now => mirror.read().events.len(),
        };
        let task = tokio::spawn(async move {
            let mut events = EventStream::new(mirror.clone(), Cursor::After(seen));
            let mut until = usize::MAX;
            let stopped = async { stopped.await.is_ok() };
            let mut stopped = std::pin::pin!(stopped);
            let mut waiting = true;
            while seen < until {
                let event = tokio::select! {
                    biased;
                    asked = &mut stopped, if waiting => {
                        waiting = false;
                        if asked {
                            // What had arrived before the cancel is still delivered.
                            until = mirror.read().events.len();
                        }
                        continue;
                    }
                    event = events.next() => event,
                };
                let Some(Ok(event)) = event else { break };
                seen += 1;
                // A panic in one callback is reported by the panic hook and harms nobody else.
                let called = catch_unwind(AssertUnwindSafe(|| callback(&event)));
                if called.is_err() {
                    tracing::error!(kind = event.kind(), "an event callback panicked");
                }
            }
        });
        Self { stop, task }
    }

    /// Ends the callback after the events that have arrived by now; done when it has ended.
    pub async fn cancel(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }

    /// Leaves the callback at work until the conversation ends.
    pub fn detach(self) {}
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("ended", &self.task.is_finished())
            .finish()
    }
}
