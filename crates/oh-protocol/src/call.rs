//! Typed operations, requests and responses. Contains no I/O.
//!
//! A [`Call`] is a typed operation. It defines the route, whether the operation may be repeated,
//! how the request is built and how the response is decoded. A transport sends the [`Request`] and
//! returns the [`Answer`].

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::{Result, config::REFUSED};

/// A typed operation of the server's REST API.
pub trait Call: Send + Sync {
    /// The decoded content of a successful response.
    type Output: Send;

    /// Returns the operation, including whether it may be repeated.
    fn operation(&self) -> Operation;

    /// Creates the request to send.
    ///
    /// # Errors
    ///
    /// Returns an error if a value breaks a rule of the server or cannot be encoded. Nothing is
    /// sent in that case.
    fn request(&self) -> Result<Request>;

    /// Returns whether [`decode`](Self::decode) supports a response with this status. The transport
    /// converts all other responses to errors. Default: all 2xx statuses.
    fn accepts(&self, status: StatusCode) -> bool {
        status.is_success()
    }

    /// Decodes an accepted response.
    ///
    /// # Errors
    ///
    /// Returns an error if the body does not have the expected form.
    fn decode(&self, answer: Answer) -> Result<Self::Output>;
}

/// A reference to a call is a call too, so that a call can be sent again.
impl<C: Call + ?Sized> Call for &C {
    type Output = C::Output;

    fn operation(&self) -> Operation {
        (**self).operation()
    }

    fn request(&self) -> Result<Request> {
        (**self).request()
    }

    fn accepts(&self, status: StatusCode) -> bool {
        (**self).accepts(status)
    }

    fn decode(&self, answer: Answer) -> Result<Self::Output> {
        (**self).decode(answer)
    }
}

/// The operation of a [`Call`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// The HTTP method.
    pub method: Method,
    /// The route as in the server's OpenAPI document, such as
    /// `/api/conversations/{conversation_id}/run`. Never contains values, so it is safe to log.
    pub route: &'static str,
    /// Whether the operation may be sent again.
    pub repeat: Repeat,
}

impl Operation {
    /// Creates an operation.
    pub const fn new(method: Method, route: &'static str, repeat: Repeat) -> Self {
        Self {
            method,
            route,
            repeat,
        }
    }
}

/// The effect of sending a request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// The operation changes nothing, or a repetition has no further effect. The request may be
    /// sent again after any failure.
    Idempotent,
    /// The request must not be sent again once the server may have seen it. It may be sent again
    /// only if no connection was made.
    Never,
}

/// A request without host and credentials, which the transport adds.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The path and query below the server's base URL, percent-encoded, starting with `/`.
    pub target: String,
    /// Additional headers, without the session's credentials.
    pub headers: HeaderMap,
    /// The JSON body, if there is one.
    pub body: Option<Bytes>,
}

impl Request {
    /// Creates a request without a body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Sets a JSON body.
    ///
    /// # Errors
    ///
    /// Returns an error if `body` cannot be serialized or contains a configuration value that
    /// breaks a rule of the server.
    pub fn json<T: serde::Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| crate::Error::encode(format!("body of {}", self.path()), error))?;
        if memchr::memmem::find(&bytes, REFUSED.as_bytes()).is_some() {
            let context = format!("body of {}", self.path());
            let why = "a value is invalid: call `check` of the configuration to find it";
            return Err(crate::Error::encode(context, why));
        }
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// Returns the target without its query, which may contain values that must not be logged.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

// The body may contain secrets in plain text, so only its size is shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("body_bytes", &self.body.as_ref().map_or(0, Bytes::len))
            .finish_non_exhaustive()
    }
}

/// A response with its whole body.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Creates a response.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// Decodes the body as JSON. `what` names the body in errors.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is not valid JSON for `T`.
    pub fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| crate::Error::decode(what, error))
    }

    /// Returns whether the body is a web page. Agent servers respond in JSON and in bytes, so a
    /// page with a status of success comes from a gateway in front of the server, for example a
    /// login page. Only the static files of a workspace may be pages.
    pub fn is_web_page(&self) -> bool {
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
        kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
    }

    /// Returns the body as bytes. `what` names the body in errors.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is a [web page](Self::is_web_page).
    pub fn bytes(self, what: &str) -> Result<Bytes> {
        match self.is_web_page() {
            true => Err(crate::Error::decode(what, "a web page instead")),
            false => Ok(self.body),
        }
    }

    /// Checks the body of a response whose content does not matter: it must be JSON or empty.
    /// A gateway in front of the server may respond with its own page and a status of success,
    /// for example a login page, without executing the request.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is neither empty nor valid JSON.
    pub fn done(&self, what: &str) -> Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.json::<serde::de::IgnoredAny>(what).map(drop)
    }
}

// A body may contain secrets (settings, stored secrets), so only its size is shown.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
