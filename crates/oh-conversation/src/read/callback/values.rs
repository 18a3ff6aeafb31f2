//! Callbacks for values that are not in the log: tokens, and errors of the link.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use oh_protocol::ConversationId;
use tokio::{runtime::Handle, task};

use super::{BATCH, Callbacks, Inside, Place, Running, Shared, Subscription};
use crate::mirror::Mirror;

impl Callbacks {
    /// Starts a callback on a task that receives the values of a stream.
    pub(crate) fn start_values<T: Send + 'static>(
        &self,
        runtime: &Handle,
        mirror: Arc<Mirror>,
        values: impl Stream<Item = T> + Send + 'static,
        callback: impl FnMut(&T) + Send + 'static,
    ) -> Subscription {
        let shared = Arc::new(Shared::new(false));
        self.add(&shared);
        let drain = Drain {
            conversation: mirror.id,
            values: Box::pin(values),
            callback,
            running: Running(shared.clone()),
        };
        drop(runtime.spawn(drain.run()));
        Subscription {
            mirror,
            shared,
            detached: false,
        }
    }
}

/// A callback and its values. The fields are dropped in this order.
struct Drain<T, F> {
    conversation: ConversationId,
    values: Pin<Box<dyn Stream<Item = T> + Send>>,
    callback: F,
    running: Running,
}

impl<T: Send + 'static, F: FnMut(&T) + Send + 'static> Drain<T, F> {
    async fn run(mut self) {
        let mut called = 0;
        while let Some(value) = self.next().await {
            self.call(&value);
            called += 1;
            if called == BATCH {
                called = 0;
                task::yield_now().await;
            }
        }
    }

    /// Waits for the next value. After a request to end, only a value that has arrived is returned.
    async fn next(&mut self) -> Option<T> {
        loop {
            match self.running.0.until.load(Ordering::Acquire) {
                0 => return None,
                usize::MAX => {}
                _ => return self.values.next().now_or_never().flatten(),
            }
            tokio::select! {
                biased;
                () = self.running.0.wake.notified() => {}
                value = self.values.next() => return value,
            }
        }
    }

    fn call(&mut self, value: &T) {
        let inside = Inside::enter(Place::Task, self.running.0.address());
        let called = catch_unwind(AssertUnwindSafe(|| (self.callback)(value)));
        drop(inside);
        if called.is_err() {
            tracing::error!(conversation = %self.conversation, "a callback panicked");
        }
    }
}
