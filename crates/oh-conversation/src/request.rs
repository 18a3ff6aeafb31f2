//! The future of an operation.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::Result;

/// An operation that has not started. Await it for the result; until then nothing is sent.
///
/// Owns everything it needs, so that it can be moved into a task: `tokio::spawn(handle.pause())`.
#[must_use = "nothing is sent until it is awaited"]
pub struct Request<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T> Request<T> {
    pub(crate) fn new(request: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Box::pin(request))
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}
