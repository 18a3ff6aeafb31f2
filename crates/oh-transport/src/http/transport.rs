//! The seam between a client and whatever carries its HTTP requests.

use std::fmt;

use async_trait::async_trait;
use http::{Request, Response};

use crate::{Body, Result};

/// Carries HTTP requests. [`Network`](crate::Network) is the usual one; a test or a program may
/// replace it, or wrap it.
#[async_trait]
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URL and returns the answer as soon as its head is there,
    /// whatever its status.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) only when the server cannot have seen the
    /// request, and a new attempt may succeed: every call is repeated then.
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when it may have acted, and a new attempt
    /// may succeed: calls that may be repeated are. Any other error is final.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>>;
}
