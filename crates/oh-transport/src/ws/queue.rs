//! A bounded queue between two tasks that accepts batches and holds no memory while it is empty.
//!
//! Tokio's channel allocates room for 32 items at once and keeps it, twice for every socket.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::coop};

/// Creates a queue with room for `capacity` items, at least one.
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

/// The sending half. Dropping it ends the queue after the remaining items.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving half. Dropping it drops the items in the queue.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// Marker error: the receiver was dropped, and the items to send were dropped with it.
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

    /// Moves all items into the queue once there is room for one; a batch is not split.
    /// Cancel-safe: a dropped call has sent nothing.
    pub(crate) async fn send_all(&self, items: &mut VecDeque<T>) -> Result<(), Gone> {
        loop {
            // Created before the check, so that room which is made right after the check is
            // noticed.
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
    /// Waits for the next item. Returns `None` when the sender was dropped and the queue is empty.
    /// Cancel-safe: a dropped call takes nothing.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        // A full queue must not keep other tasks from running.
        coop::consume_budget().await;
        loop {
            // Check `closed` first: the last item is in the queue before the queue is closed.
            let closed = self.0.lock().closed;
            let item = self.try_recv();
            if item.is_some() || closed {
                return item;
            }
            self.0.arrived.notified().await;
        }
    }

    /// Returns the next item, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let mut state = self.0.lock();
        let item = state.items.pop_front()?;
        let left = state.items.len();
        let emptied = (left == 0).then(|| mem::take(&mut state.items));
        drop(state);
        drop(emptied);
        // Senders wait only while the queue is full, and items are removed one by one.
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
    /// Ends the queue and drops its items, like dropping the receiver.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let unread = mem::take(&mut state.items);
        drop(state);
        // Dropping an item may notify its sender, so the lock must not be held here.
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
