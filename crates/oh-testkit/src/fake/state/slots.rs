//! The limit of concurrent runs, counted as on the agent server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The run slots of a server.
pub(crate) struct Slots {
    most: AtomicUsize,
    taken: Arc<AtomicUsize>,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: AtomicUsize::new(most),
            taken: Arc::default(),
        }
    }

    /// Changes the limit.
    pub(crate) fn allow(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    /// Returns a slot if one is free.
    pub(crate) fn take(&self) -> Option<Slot> {
        let most = self.most.load(Ordering::SeqCst);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let taken = self.taken.fetch_update(set, fetch, one_more);
        taken.ok().map(|_| Slot::new(&self.taken))
    }

    /// Returns a slot regardless of the limit, for runs that the test itself starts.
    pub(crate) fn take_beyond_limit(&self) -> Slot {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Slot::new(&self.taken)
    }
}

/// A run slot. A goal and its runs share one slot, which is freed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Slot {
    _held: Arc<Held>,
}

impl Slot {
    fn new(taken: &Arc<AtomicUsize>) -> Self {
        Self {
            _held: Arc::new(Held(Arc::clone(taken))),
        }
    }
}

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
