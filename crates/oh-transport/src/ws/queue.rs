//! A bounded queue from one task to another: takes batches, and holds no memory while it is empty.
//! Knows nothing of what it carries.
//!
//! Tokio's channel takes room for 32 items at once and keeps it, for every socket twice.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Makes a queue for so many items, at least one.
pub(crate) fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Mutex::new(State {
            items: VecDeque::new(),
            closed: false,
        }),
        arrived: Notify::new(),
        room: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Dropping it ends the queue, after what is in it.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Dropping it drops what is in the queue.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// The receiver is gone, and with it what was to be sent.
#[derive(Debug)]
pub(crate) struct Gone;

struct Shared<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    arrived: Notify,
    room: Notify,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Adds an item once there is room. Cancel-safe: a dropped call has sent nothing.
    pub(crate) async fn send(&self, item: T) -> Result<(), Gone> {
        self.send_all(&mut VecDeque::from([item])).await
    }

    /// Moves items over once there is room for one: a batch is not taken apart. Cancel-safe: a
    /// dropped call has sent nothing.
    pub(crate) async fn send_all(&self, items: &mut VecDeque<T>) -> Result<(), Gone> {
        loop {
            // Made before the look at the queue: it hears of room that is made right after it.
            let room = self.0.room.notified();
            {
                let mut state = self.0.lock();
                if state.closed {
                    return Err(Gone);
                }
                if state.items.len() < self.0.capacity {
                    state.items.append(&mut mem::take(items));
                    break;
                }
            }
            room.await;
        }
        self.0.arrived.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next item; none when the sender is gone and nothing is left. Cancel-safe: a dropped
    /// call takes nothing.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        loop {
            // In this order: what is sent last is in the queue before it ends.
            let closed = self.0.lock().closed;
            let item = self.try_recv();
            if item.is_some() || closed {
                return item;
            }
            self.0.arrived.notified().await;
        }
    }

    /// The next item, if it is there.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let mut state = self.0.lock();
        let item = state.items.pop_front()?;
        let left = state.items.len();
        let emptied = (left == 0).then(|| mem::take(&mut state.items));
        drop(state);
        drop(emptied);
        // Nobody waits for room but while it is full, and it is left item by item.
        if left + 1 == self.0.capacity {
            self.0.room.notify_waiters();
        }
        Some(item)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

impl<T> Receiver<T> {
    /// Ends the queue and drops what is in it, as dropping the receiver does.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let unread = mem::take(&mut state.items);
        drop(state);
        // An item may tell its sender that it is dropped.
        drop(unread);
        self.0.room.notify_waiters();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
