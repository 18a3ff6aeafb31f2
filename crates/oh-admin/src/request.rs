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
/// Owns everything it needs, so that it can be moved into a task:
/// `tokio::spawn(admin.profiles().list())`.
///
/// # Cancel safety
///
/// Dropping the future discards the response. The server continues to process a request that was
/// sent.
#[must_use = "nothing is sent until it is awaited"]
pub struct Request<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

pub(crate) fn new<T>(request: impl Future<Output = Result<T>> + Send + 'static) -> Request<T> {
    Request(Box::pin(request))
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
