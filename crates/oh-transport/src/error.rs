//! The error type of this crate: what failed, for which path, and the server's explanation.

use std::{fmt, time::Duration};

use http::StatusCode;

mod advice;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value from the caller is invalid. Nothing was sent. Correct the value that the message
    /// names.
    InvalidInput,
    /// The connection could not be opened. The server has not seen the request. Check that the
    /// server runs at this address, and try again later.
    Connect,
    /// The proxy rejected the request or the tunnel. The server has not seen the request. Correct
    /// the proxy's URL or its credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed because of the certificate, the host name or the protocol. Check
    /// the URL; trust a private certificate authority with `root_certificate`.
    Tls,
    /// A time limit expired. The server may have acted. Raise the limit that the message names, or
    /// find out whether the request was executed before you repeat it.
    Timeout,
    /// The connection ended before the response was complete. The server may have acted. Find out
    /// whether the request was executed before you repeat it.
    Interrupted,
    /// Status 401 or close code 4001: the session key is missing or wrong. Set the server's key
    /// with [`ClientBuilder::session_api_key`](crate::ClientBuilder::session_api_key).
    Unauthorized,
    /// Status 403. For sockets also: the path is unknown or the server is dormant. Check the
    /// session key and the gateway in front of the server, or activate the server.
    Forbidden,
    /// Status 404 or close code 4004 of an agent server. Check the path and the ids. The
    /// conversation may also be temporarily leased to another server: try again after a minute.
    NotFound,
    /// Status 409: the state of the conversation does not allow the operation, such as a second run
    /// while one is active. Wait for the state to change, then try again.
    Conflict,
    /// Status 400 or 422: the server rejected the content of the request. Correct the fields in
    /// [`Error::validation`]; see also [`Error::detail`].
    Validation,
    /// Status 429: too many concurrent runs. Wait for at least [`Error::retry_after`], or run
    /// fewer conversations at the same time.
    RateLimited,
    /// Any other 3xx or 4xx status. See [`Error::status`] and [`Error::detail`]. Redirects are not
    /// followed: use the final URL.
    Status,
    /// Status 5xx. Try again later. If the error persists, look for [`Error::error_id`] in the
    /// server's log.
    Server,
    /// The response or the received data could not be decoded. Check that the URL is the agent
    /// server's, and that this crate supports its version. A socket message above `max_message` has
    /// this kind too: raise that limit.
    Decode,
    /// The server closed the socket; see [`Error::close_code`] and [`Error::close_reason`]. Open
    /// another socket if [`Error::is_transient`] is true.
    SocketClosed,
    /// The WebSocket handshake failed: the response is not an upgrade. Check that the URL and any
    /// proxy support WebSocket.
    Handshake,
    /// The response is not from an OpenHands agent server: a web page, or a status 404 without an
    /// agent server's explanation. Correct the host, port or path prefix. If the URL is correct, a
    /// gateway responded in the server's place, for example with a login page.
    NotAnAgentServer,
    /// The server or this build does not support the operation. Use a newer server, or enable the
    /// feature that the message names.
    Unsupported,
}

/// The reason why a request or a socket failed.
///
/// `Display` shows the reason, without control characters and truncated to 2,000 characters, and
/// for common failures what to do. `Debug` shows the kind and the same text. An error never
/// contains a session key or a query. It contains the server's response body only if that is JSON,
/// with secrets hidden by the rules of [`oh_protocol::redact`]: secret-named fields, environment
/// maps and headers, the user, password and query of URLs, and the client's own key.
///
/// ```no_run
/// # async fn show(client: &oh_transport::Client) -> Result<(), oh_transport::Error> {
/// use oh_transport::ErrorKind;
///
/// match client.server_info().await {
///     Ok(info) => println!("server {}", info.version),
///     Err(error) if error.kind() == ErrorKind::NotAnAgentServer => println!("wrong URL: {error}"),
///     Err(error) if error.is_transient() => println!("try again later: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
pub struct Error(Box<Inner>);

/// An entry of a 422 response: the rejected field and the reason. The value is not included.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidationEntry {
    /// The path of the field, from the outside in: `body`, field names, indices as text.
    pub location: Vec<String>,
    /// The server's name for the type of error, such as `missing`.
    pub kind: String,
    /// The explanation. Hidden if the field has a secret's name and the text could repeat the
    /// value.
    pub message: String,
}

impl fmt::Display for ValidationEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location.join("."), self.message)
    }
}

struct Inner {
    kind: ErrorKind,
    context: String,
    target: Option<String>,
    status: Option<StatusCode>,
    detail: Option<String>,
    error_id: Option<String>,
    entries: Vec<ValidationEntry>,
    body: Option<serde_json::Value>,
    close: Option<(u16, String)>,
    retry_after: Option<Duration>,
    /// Whether a request may have reached the server. `None` if the kind decides.
    sent: Option<bool>,
    timed_out: bool,
    /// Whether the rejected request had a session key. `None` if unknown.
    had_key: Option<bool>,
    source: Option<Source>,
}

impl Error {
    /// Creates an error of the given kind. `context` states what failed.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            sent: None,
            timed_out: false,
            had_key: None,
            context: context.into(),
            target: None,
            status: None,
            detail: None,
            error_id: None,
            entries: Vec::new(),
            body: None,
            close: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Creates the error for a close frame. The [`kind`](Self::kind) distinguishes codes 4001 and
    /// 4004.
    pub fn closed(code: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let kind = match code {
            4001 => ErrorKind::Unauthorized,
            4004 => ErrorKind::NotFound,
            _ => ErrorKind::SocketClosed,
        };
        let mut error = Self::new(
            kind,
            format!("the server closed the socket with code {code}"),
        );
        error.0.detail = (!reason.is_empty()).then(|| reason.clone());
        error.0.close = Some((code, reason));
        error
    }

    /// Creates the error for a response with this status.
    pub fn from_status(status: StatusCode) -> Self {
        let kind = match status.as_u16() {
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Forbidden,
            407 => ErrorKind::Proxy,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            400 | 422 => ErrorKind::Validation,
            429 => ErrorKind::RateLimited,
            500.. => ErrorKind::Server,
            _ => ErrorKind::Status,
        };
        let mut error = Self::new(kind, format!("the server returned {status}"));
        error.0.status = Some(status);
        error
    }

    /// Creates the error for a response of another kind of server.
    /// Hidden: only crates of this project use it.
    #[doc(hidden)]
    pub fn of_response(
        status: StatusCode,
        context: impl Into<String>,
        detail: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        Self::from_status(status)
            .with_context(context.into())
            .with_detail(Some(detail.into()))
            .with_retry_after(retry_after)
    }

    /// Sets the cause of the error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets the path of the request, without its query.
    #[must_use]
    pub fn with_target(mut self, target: &str) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        self.0.target.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Marks the request as possibly received by the server.
    pub(crate) fn sent(mut self) -> Self {
        self.0.sent = Some(true);
        self
    }

    /// Marks the request as not sent.
    pub(crate) fn unsent(mut self) -> Self {
        self.0.sent = Some(false);
        self
    }

    /// Marks a time limit as the cause.
    pub(crate) fn timed_out(mut self) -> Self {
        self.0.timed_out = true;
        self
    }

    /// Marks the response as one of a server or gateway that is not an agent server.
    pub(crate) fn of_another_server(mut self) -> Self {
        self.0.kind = ErrorKind::NotAnAgentServer;
        self.0.context = format!("not the response of an agent server: {}", self.0.context);
        self
    }

    /// Sets whether the rejected request had a session key.
    pub(crate) fn with_key(mut self, had_key: bool) -> Self {
        self.0.had_key = Some(had_key);
        self
    }

    pub(crate) fn with_context(mut self, context: String) -> Self {
        self.0.context = context;
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_detail(mut self, detail: Option<String>) -> Self {
        self.0.detail = detail;
        self
    }

    pub(crate) fn with_error_id(mut self, error_id: Option<String>) -> Self {
        self.0.error_id = error_id;
        self
    }

    pub(crate) fn with_entries(mut self, entries: Vec<ValidationEntry>) -> Self {
        self.0.entries = entries;
        self
    }

    pub(crate) fn with_body(mut self, body: serde_json::Value) -> Self {
        self.0.body = Some(body);
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Option<Duration>) -> Self {
        self.0.retry_after = delay;
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the path of the request, without its query.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// Returns the HTTP status, if there was a response.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the server's explanation: the `detail` of a response or the reason of a close frame.
    /// For a body that is not JSON, returns only its type and length.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Returns the id under which the server logged a 500 error.
    pub fn error_id(&self) -> Option<&str> {
        self.0.error_id.as_deref()
    }

    /// Returns the fields that the server rejected with a 422.
    pub fn validation(&self) -> &[ValidationEntry] {
        &self.0.entries
    }

    /// Returns the JSON body of the response, with secrets hidden.
    pub fn body(&self) -> Option<&serde_json::Value> {
        self.0.body.as_ref()
    }

    /// Returns the code of the close frame, if the server closed the socket.
    pub fn close_code(&self) -> Option<u16> {
        self.0.close.as_ref().map(|(code, _)| *code)
    }

    /// Returns the reason of the close frame, if the server closed the socket.
    pub fn close_reason(&self) -> Option<&str> {
        self.0.close.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// Returns how long the server asks to wait before the next attempt (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns whether the server has certainly not seen the request in any attempt. If true, even
    /// a request that must not be sent twice can be sent again.
    ///
    /// True for [`InvalidInput`](ErrorKind::InvalidInput), [`Connect`](ErrorKind::Connect),
    /// [`Proxy`](ErrorKind::Proxy), [`Tls`](ErrorKind::Tls) and
    /// [`Unsupported`](ErrorKind::Unsupported), unless an earlier attempt or the beginning of the
    /// body may have reached the server. Also true if no session key could be obtained.
    pub fn never_sent(&self) -> bool {
        let unsent = matches!(
            self.0.kind,
            ErrorKind::InvalidInput
                | ErrorKind::Connect
                | ErrorKind::Proxy
                | ErrorKind::Tls
                | ErrorKind::Unsupported
        );
        self.0.sent.map_or(unsent, |sent| !sent)
    }

    /// Returns whether the server may have acted on the request, although it failed: the connection
    /// was lost, a time limit expired, or a gateway returned a 5xx in the server's place.
    ///
    /// A 5xx is the server's own, and definite, if its body is JSON with a `detail`. The statuses
    /// 502, 504 and 520 to 530 are a gateway's in any case. False if
    /// [`never_sent`](Self::never_sent) is true.
    ///
    /// Do not repeat a request that is not idempotent after such an error, before you have checked
    /// whether the first one had its effect.
    pub fn is_unclear(&self) -> bool {
        if self.never_sent() {
            return false;
        }
        let explained = || self.body().is_some_and(|body| body.get("detail").is_some());
        match self.status().map(|status| status.as_u16()) {
            Some(502 | 504 | 520..=530) => true,
            Some(500..) => !explained(),
            Some(_) => false,
            None => matches!(
                self.0.kind,
                ErrorKind::Interrupted
                    | ErrorKind::Timeout
                    | ErrorKind::Connect
                    | ErrorKind::Proxy
                    | ErrorKind::Tls
            ),
        }
    }

    /// Returns whether a time limit expired: for the call, for connecting, or for progress.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout || self.0.timed_out
    }

    /// Returns whether the same request may succeed later without a change.
    ///
    /// True for a failed or broken connection, an expired time limit, 429, and 5xx other than 501
    /// and 505. Also true for a socket that the server closed because it restarts or is overloaded.
    ///
    /// Does not mean that repeating the request is safe; see [`never_sent`](Self::never_sent).
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::Connect
            | ErrorKind::Interrupted
            | ErrorKind::Timeout
            | ErrorKind::RateLimited => true,
            // 501 and 505: the server does not implement the method or the version.
            ErrorKind::Server => {
                !matches!(self.status().map(|status| status.as_u16()), Some(501 | 505))
            }
            ErrorKind::SocketClosed => {
                matches!(self.close_code(), Some(1001 | 1005 | 1006 | 1011..=1014))
            }
            _ => false,
        }
    }

    /// Returns whether the server rejected the session key: 401 or close code 4001.
    pub fn is_auth(&self) -> bool {
        self.0.kind == ErrorKind::Unauthorized
    }

    /// Returns the detail without the name of the status, which the context contains already.
    fn detail_beyond_status(&self) -> Option<&str> {
        let detail = self.0.detail.as_deref()?;
        let name = self.0.status.and_then(|status| status.canonical_reason());
        let rest = name.and_then(|name| detail.strip_prefix(name));
        let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with(": "));
        let detail = rest.map_or(detail, |rest| rest.trim_start_matches(": "));
        (!detail.is_empty()).then_some(detail)
    }

    /// Returns the reason to append to `Display`: errors of this crate in full, otherwise the
    /// innermost cause.
    fn reason(&self) -> Option<String> {
        let mut cause: &(dyn std::error::Error + 'static) = self.0.source.as_deref()?;
        while !cause.is::<Self>()
            && let Some(inner) = cause.source()
        {
            cause = inner;
        }
        let reason = cause.to_string();
        let known = reason.is_empty() || self.0.context.contains(&reason);
        (!known).then_some(reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = self.0.context.clone();
        if let Some(target) = &self.0.target {
            message.push_str(&format!(" ({target})"));
        }
        for reason in [self.detail_beyond_status(), self.reason().as_deref()] {
            let reason = oh_protocol::printable(reason.unwrap_or_default());
            oh_protocol::reason::append(&mut message, &reason);
        }
        if let Some(advice) = self.advice()
            && !message.contains(&*advice)
        {
            message.push_str("; ");
            message.push_str(&advice);
        }
        f.write_str(&message)
    }
}

oh_protocol::error_source!(Error, error => error.0.source.as_deref());

impl From<oh_protocol::Error> for Error {
    fn from(error: oh_protocol::Error) -> Self {
        match error.kind() {
            oh_protocol::ErrorKind::Decode => {
                Self::new(ErrorKind::Decode, "could not decode the response")
            }
            oh_protocol::ErrorKind::Unsupported => {
                Self::new(ErrorKind::Unsupported, error.context())
            }
            _ => Self::new(ErrorKind::InvalidInput, error.context()),
        }
        .with_source(error)
    }
}

#[cfg(test)]
mod tests;
