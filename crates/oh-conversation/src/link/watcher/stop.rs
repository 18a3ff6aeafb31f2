//! The request to end a watcher.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Ends one watcher, once. Smaller than a channel: every live conversation has one.
#[derive(Default)]
pub(crate) struct Stop {
    asked: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Requests the end.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Returns whether the end was requested.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Waits until the end is requested. Cancel-safe. At most one task may wait at a time.
    pub(super) async fn asked(&self) {
        // A notification in between is stored.
        while !self.is_asked() {
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_a_wait_that_is_in_progress_and_every_later_one() {
        let stop = Stop::default();
        let early = timeout(Duration::from_secs(1), stop.asked()).await;
        assert!(early.is_err() && !stop.is_asked());
        tokio::join!(stop.asked(), async { stop.ask() });
        stop.asked().await;
        stop.asked().await;
        assert!(stop.is_asked());
    }
}
