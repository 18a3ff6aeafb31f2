//! The errors of a link as a stream, for callbacks.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::watch;

use crate::{Error, ErrorKind, mirror::view::View};

/// The errors that a callback has not received.
struct Failures {
    view: Arc<View>,
    changes: watch::Receiver<u64>,
    /// The newest errors received: of the link, and of events that were skipped.
    link: Option<Error>,
    skipped: Option<Error>,
    over: bool,
}

/// Returns each error that interrupts the link or makes a callback skip events, and last the one
/// that ends the link. `past`: whether the present error of the link is included.
pub(crate) fn stream(view: Arc<View>, past: bool) -> impl Stream<Item = Error> + Send + 'static {
    let changes = view.changes();
    let present = view.read().last_error.clone();
    let failures = Failures {
        changes,
        link: present.filter(|_| !past),
        skipped: view.last_skipped(),
        over: false,
        view,
    };
    stream::unfold(failures, |mut failures| async move {
        let error = failures.next().await?;
        Some((error, failures))
    })
}

impl Failures {
    async fn next(&mut self) -> Option<Error> {
        while !self.over {
            self.changes.borrow_and_update();
            let skipped = self.view.last_skipped();
            if let Some(error) = newer(skipped, &mut self.skipped) {
                return Some(error);
            }
            if let Some(error) = self.view.ended() {
                self.over = true;
                // The program has closed the handle, or dropped all handles.
                return (error.kind() != ErrorKind::Closed).then_some(error);
            }
            let present = self.view.read().last_error.clone();
            if let Some(error) = newer(present, &mut self.link) {
                return Some(error);
            }
            _ = self.changes.changed().await;
        }
        None
    }
}

/// Returns an error that differs from the last one received.
fn newer(error: Option<Error>, last: &mut Option<Error>) -> Option<Error> {
    let error = error?;
    if last.as_ref().is_some_and(|last| last.is_same(&error)) {
        return None;
    }
    *last = Some(error.clone());
    Some(error)
}
