//! The future of an operation.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// An operation that has not started. Await it for the result; until then nothing happens.
///
/// Owns everything it needs, so that it can be moved into a task: `tokio::spawn(handle.pause())`.
#[must_use = "nothing happens until it is awaited"]
pub struct RequestFuture<T, E = crate::Error>(Pin<Box<dyn Future<Output = Result<T, E>> + Send>>);

impl<T, E> RequestFuture<T, E> {
    /// Creates an operation. Only crates of this project use this.
    #[doc(hidden)]
    pub fn new(request: impl Future<Output = Result<T, E>> + Send + 'static) -> Self {
        Self(Box::pin(request))
    }
}

impl<T, E> Future for RequestFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T, E> fmt::Debug for RequestFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture").finish_non_exhaustive()
    }
}
