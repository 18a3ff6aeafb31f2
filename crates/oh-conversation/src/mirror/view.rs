//! The view of one handle on a mirror that other handles may share. Contains no I/O.

use std::sync::{Arc, Mutex, OnceLock};

use crate::{Error, ErrorKind, LinkStatus, lock::lock, mirror::Mirror};

/// A handle's view of a mirror, which other handles may share. The view ends with the handle.
pub(crate) struct View {
    pub(crate) mirror: Arc<Mirror>,
    closed: OnceLock<Error>,
    /// The newest error for which a callback of this handle has skipped events.
    skipped: Mutex<Option<Error>>,
}

impl View {
    pub(crate) fn new(mirror: Arc<Mirror>) -> Self {
        Self {
            mirror,
            closed: OnceLock::new(),
            skipped: Mutex::default(),
        }
    }

    /// Ends this view. Returns whether it was still open.
    pub(crate) fn close(&self) -> bool {
        let message = "this handle was closed";
        let error = Error::new(ErrorKind::Closed, self.mirror.id, message);
        let first = self.closed.set(error).is_ok();
        self.mirror.wake();
        first
    }

    /// Reports an error for which a callback skips events.
    pub(crate) fn skipped(&self, error: Error) {
        *lock(&self.skipped) = Some(error);
        self.mirror.wake();
    }

    /// Returns the newest error for which a callback has skipped events.
    pub(crate) fn last_skipped(&self) -> Option<Error> {
        lock(&self.skipped).clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Returns why no more events will arrive: this handle was closed, or the link has ended.
    pub(crate) fn ended(&self) -> Option<Error> {
        let closed = self.closed.get().cloned();
        closed.or_else(|| self.mirror.read().ended.clone())
    }

    pub(crate) fn link(&self) -> LinkStatus {
        match self.closed.get() {
            Some(_) => LinkStatus::Ended,
            None => self.mirror.read().link,
        }
    }
}

impl std::ops::Deref for View {
    type Target = Mirror;

    fn deref(&self) -> &Mirror {
        &self.mirror
    }
}
