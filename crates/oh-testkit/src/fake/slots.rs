//! How many conversations run at once, as the agent server counts them. What runs, and who is
//! told that nothing is free, is decided elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::StatusCode;

use super::routes::detail;
use crate::http::Response;

/// The places for runs of one server.
pub(super) struct Slots {
    most: AtomicUsize,
    taken: Arc<AtomicUsize>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: AtomicUsize::new(most),
            taken: Arc::default(),
        }
    }

    /// From now on so many may run at once.
    pub(super) fn allow(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<Slot> {
        let most = self.most.load(Ordering::SeqCst);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let taken = self.taken.fetch_update(set, fetch, one_more);
        taken.ok().map(|_| Slot::new(&self.taken))
    }

    /// A place, free or not: a test that starts a run itself is not to be refused.
    pub(super) fn insist(&self) -> Slot {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Slot::new(&self.taken)
    }
}

/// A place among the runs. A goal and its runs share one; it is free again when the last of them
/// is dropped.
#[derive(Clone)]
pub(super) struct Slot {
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

/// The refusal while every place is taken.
pub(super) fn full() -> Response {
    let text = "Conversation run limit reached. Retry the request later.";
    detail(StatusCode::TOO_MANY_REQUESTS, text)
}
