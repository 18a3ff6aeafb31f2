//! The spares of a pool, and the results of the attempts to start some.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::source::Pooled;
use crate::Status;

/// State shared by the pool, the task that fills it and pending acquisitions.
pub(super) struct Store<S: Pooled> {
    pub(super) size: usize,
    pub(super) spares: Mutex<VecDeque<S>>,
    /// Results of the attempts to start a spare.
    pub(super) attempts: watch::Sender<Attempts<S::Error>>,
    /// Notified when a spare was taken, or an acquisition waits for one.
    pub(super) room: Notify,
    /// Notified when an acquisition waits, to end the delay after a failure.
    pub(super) wanted: Notify,
}

#[derive(Clone)]
pub(super) struct Attempts<E> {
    pub(super) made: u64,
    /// Number of failures since the last success.
    pub(super) failed: u64,
    /// The error of the last attempt, if it failed.
    pub(super) error: Option<E>,
    pub(super) closed: bool,
}

impl<S: Pooled> Store<S> {
    pub(super) fn new(size: usize) -> Self {
        let none = Attempts {
            made: 0,
            failed: 0,
            error: None,
            closed: false,
        };
        Self {
            size: size.max(1),
            spares: Mutex::default(),
            attempts: watch::Sender::new(none),
            room: Notify::new(),
            wanted: Notify::new(),
        }
    }

    pub(super) fn spares(&self) -> MutexGuard<'_, VecDeque<S>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ready(&self) -> usize {
        self.spares()
            .iter()
            .filter(|spare| is_ready(*spare))
            .count()
    }

    /// Removes and returns the oldest spare that is ready. The caller must announce the free place
    /// (see `Refill`).
    pub(super) fn take(&self) -> Option<S> {
        let mut spares = self.spares();
        let at = spares.iter().position(is_ready)?;
        spares.remove(at)
    }

    /// Removes the spares that have exited permanently.
    pub(super) fn dead(&self) -> Vec<S> {
        let mut spares = self.spares();
        let (dead, well): (Vec<_>, Vec<_>) = std::mem::take(&mut *spares)
            .into_iter()
            .partition(|spare| matches!(*spare.status_now().borrow(), Status::Exited(_)));
        *spares = well.into();
        dead
    }

    pub(super) fn has_room(&self) -> bool {
        self.spares().len() < self.size
    }

    /// Ends all pending acquisitions, and returns the spares.
    pub(super) fn close(&self) -> VecDeque<S> {
        self.attempts.send_modify(|attempts| attempts.closed = true);
        std::mem::take(&mut *self.spares())
    }

    pub(super) fn succeeded(&self) {
        self.attempts.send_modify(|attempts| {
            attempts.made += 1;
            attempts.failed = 0;
            attempts.error = None;
        });
    }

    /// Records a failure, and returns the number of failures in a row.
    pub(super) fn failed(&self, error: S::Error) -> u64 {
        self.attempts.send_modify(|attempts| {
            attempts.made += 1;
            attempts.failed += 1;
            attempts.error = Some(error);
        });
        self.attempts.borrow().failed
    }
}

fn is_ready<S: Pooled>(spare: &S) -> bool {
    *spare.status_now().borrow() == Status::Ready
}
