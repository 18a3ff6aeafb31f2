//! What a request to the server is, without doing it.
//!
//! A [`Call`] is a typed operation: it knows its route, whether it may be repeated, how its
//! request looks and how its answer reads. A transport carries the [`Request`] and hands the
//! [`Answer`] back; this module knows nothing of connections.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::{Result, config::REFUSED};

/// A typed operation of the server's REST interface.
pub trait Call: Send + Sync {
    /// What a successful answer holds.
    type Output: Send;

    /// Which operation this is, and how safe it is to send it twice.
    fn operation(&self) -> Operation;

    /// The request to send.
    ///
    /// # Errors
    ///
    /// When a value breaks a rule of the server or does not encode; nothing was sent then.
    fn request(&self) -> Result<Request>;

    /// Whether [`decode`](Self::decode) understands an answer with this status. Anything else
    /// becomes the transport's error. Default: every 2xx.
    fn accepts(&self, status: StatusCode) -> bool {
        status.is_success()
    }

    /// Reads an accepted answer.
    ///
    /// # Errors
    ///
    /// When the body is not what the operation promises.
    fn decode(&self, answer: Answer) -> Result<Self::Output>;
}

/// Which operation a [`Call`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// The HTTP method.
    pub method: Method,
    /// The route as the server's OpenAPI document names it, such as
    /// `/api/conversations/{conversation_id}/run`. Never holds values, so it can be logged.
    pub route: &'static str,
    /// Whether sending it again is safe.
    pub repeat: Repeat,
}

impl Operation {
    /// Names an operation.
    pub const fn new(method: Method, route: &'static str, repeat: Repeat) -> Self {
        Self {
            method,
            route,
            repeat,
        }
    }
}

/// What happens when a request reaches the server twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// It changes nothing, or the second changes nothing more: may be sent again after any
    /// failure.
    Idempotent,
    /// It must not be sent again once the server may have seen it. It may be sent again only
    /// when the connection was never made.
    Never,
}

/// A request, ready for a transport to add host and credentials.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// Path and query below the server's base URL, percent-encoded, starting with `/`.
    pub target: String,
    /// Extra headers, without credentials of the session.
    pub headers: HeaderMap,
    /// A JSON body, if there is one.
    pub body: Option<Bytes>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Gives the request a JSON body.
    ///
    /// # Errors
    ///
    /// When `body` does not serialize, or holds a value of a configuration that breaks a rule of
    /// the server.
    pub fn json<T: serde::Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| crate::Error::encode(format!("body of {}", self.path()), error))?;
        if memchr::memmem::find(&bytes, REFUSED.as_bytes()).is_some() {
            let context = format!("body of {}", self.path());
            let why =
                "a value breaks a rule of the server: `check` of the configuration says which";
            return Err(crate::Error::encode(context, why));
        }
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// The target without its query, which may hold values that do not belong in a log.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

// The body may hold secrets in their wire form: only its size is shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("body_bytes", &self.body.as_ref().map_or(0, Bytes::len))
            .finish_non_exhaustive()
    }
}

/// An answer whose body has been read whole.
#[derive(Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Puts an answer together.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// Reads the body as JSON; `what` names it in the error.
    ///
    /// # Errors
    ///
    /// When the body is not that JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| crate::Error::decode(what, error))
    }
}

// A body may hold secrets (settings, stored secrets): only its size is shown.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
