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
    /// The kind decides whether the client repeats a call. Return
    ///
    /// - [`ErrorKind::Connect`](crate::ErrorKind::Connect) only if the server cannot have seen the
    ///   request and a new attempt may succeed. The client repeats every call.
    /// - [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) or
    ///   [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the server may have acted and a new
    ///   attempt may succeed. The client repeats only calls that may be repeated.
    /// - Any other kind if a new attempt cannot succeed. The client does not repeat the call.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>>;

    /// Closes the idle connections: see [`Client::reset_connections`]. A wrapper passes this on.
    /// Default: does nothing, for transports without connections.
    ///
    /// [`Client::reset_connections`]: crate::Client::reset_connections
    fn reset_connections(&self) {}
}
