//! The trait for HTTP transports.

use std::fmt;

use async_trait::async_trait;
use http::{Request, Response};

use crate::{Body, Result};

/// A transport for HTTP requests. The default is [`Network`](crate::Network); tests and programs
/// can replace or wrap it.
#[async_trait]
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URL and returns the response once its head has arrived,
    /// regardless of its status.
    ///
    /// # Errors
    ///
    /// Return [`ErrorKind::Connect`](crate::ErrorKind::Connect) only if the server cannot have seen
    /// the request and a new attempt may succeed: the client retries every call after this error.
    /// Return [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the server may have acted and a new
    /// attempt may succeed: the client retries only calls that may be repeated. Any other error is
    /// final.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>>;
}
