//! The future of an operation.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use crate::Result;

/// An operation on a conversation that has not started: see
/// [`RequestFuture`](oh_transport::RequestFuture).
pub type Request<T> = oh_transport::RequestFuture<T, crate::Error>;

/// The future of an operation with options. The operation starts when this is first polled; a clone
/// has not started.
// The mutex is never locked. It makes the options usable in futures that are `Send`.
pub(crate) struct Polled<T>(Mutex<Option<Request<T>>>);

impl<T> Polled<T> {
    fn request(&mut self) -> &mut Option<Request<T>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_started(&mut self) -> bool {
        self.request().is_some()
    }

    pub(crate) fn start(&mut self, operation: impl Future<Output = Result<T>> + Send + 'static) {
        *self.request() = Some(Request::new(operation));
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.request() {
            Some(request) => Pin::new(request).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T> Default for Polled<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Clone for Polled<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Polled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").finish_non_exhaustive()
    }
}

/// Implements `Future` for an operation with options. The operation starts at the first poll, with
/// what `$take` moves or clones out of the options.
macro_rules! operation {
    ($operation:ty, $output:ty, $take:expr, $start:expr) => {
        impl std::future::Future for $operation {
            type Output = $crate::Result<$output>;

            fn poll(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                if !self.polled.is_started() {
                    let options = $take(&mut *self);
                    self.polled.start($start(options));
                }
                self.polled.poll(cx)
            }
        }
    };
}

pub(crate) use operation;
