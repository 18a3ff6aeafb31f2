//! The crate's error type: what failed, and why.

use std::{fmt, time::Duration};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed an invalid value, or a key that is the server's mask. Nothing was sent.
    /// Correct the value that the message names.
    InvalidInput,
    /// The server has no profile, connection, secret or MCP server with this name or id. Check the
    /// name.
    NotFound,
    /// The state of the server does not allow the operation (status 409): the name is in use, a
    /// limit is reached, or something refers to what would be deleted. Correct what the message
    /// names.
    Conflict,
    /// The server rejected a value (status 400 or 422). Correct the value; the message contains the
    /// server's explanation.
    Validation,
    /// The server does not have the operation, or it is disabled or not configured on the server.
    /// Use a newer server, or configure what the message names.
    Unsupported,
    /// The session key is missing or wrong (status 401). Create the client with the server's key.
    Unauthorized,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The server accepts no more requests at the moment (status 429). Wait for at least the
    /// transport error's [`retry_after`](oh_transport::Error::retry_after), then try again.
    RateLimited,
    /// The server failed, or is overloaded, restarting or dormant (status 5xx). Try again later, or
    /// activate a dormant server. If the error persists, look for the transport error's
    /// [`error_id`](oh_transport::Error::error_id) in the server's log.
    Server,
    /// The address responds, but not with the response of an agent server. Correct the client's
    /// URL. If the URL is correct, a gateway responded in the server's place, for example with a
    /// login page: repeat the operation later, or log in at the gateway.
    NotAnAgentServer,
    /// The connection could not be opened, so nothing was sent. Check that the server runs at this
    /// address. The operation can be repeated.
    Connect,
    /// The proxy rejected the request, so nothing was sent. Correct the proxy's URL or its
    /// credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed, so nothing was sent. Check the URL and the certificate.
    Tls,
    /// A time limit expired. The server may have acted. Raise the limit that the message names, or
    /// check the connection.
    Timeout,
    /// The connection ended before the response was complete. The server may have acted. Read what
    /// is stored before you repeat the operation.
    Interrupted,
    /// The code of a login has expired before the user entered it, or a logout has ended the login.
    /// Begin another login.
    LoginExpired,
    /// The server returned any other 3xx or 4xx status. See [`Error::status`]. Redirects are not
    /// followed: use the final URL.
    Status,
    /// The response could not be decoded. Check that the URL is the agent server's, and that this
    /// crate supports its version.
    Decode,
}

/// The error of an operation. Contains names, but never keys, secrets or URLs with credentials.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates the error of a failed request. `what` completes "cannot …".
    pub(crate) fn transport(what: &str, source: oh_transport::Error) -> Self {
        Self(Box::new(Inner {
            kind: kind_of(&source),
            context: format!("cannot {what}"),
            source: Some(source.into()),
        }))
    }

    /// Creates the error of a wait that reached its time limit. `what` completes "cannot …".
    pub(crate) fn timeout(what: &str, limit: Duration) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::Timeout,
            context: format!("cannot {what}: no result within {limit:?}"),
            source: None,
        }))
    }

    /// Creates the error of a login that the server does not have any more.
    pub(crate) fn expired(source: Self) -> Self {
        let context = "cannot complete the login: the code has expired; begin another login";
        Self(Box::new(Inner {
            kind: ErrorKind::LoginExpired,
            context: context.to_owned(),
            source: Some(source.into()),
        }))
    }

    /// Sets the cause, if there is one.
    pub(crate) fn with_cause(mut self, cause: Option<Self>) -> Self {
        self.0.source = cause.map(Into::into);
        self
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

/// Maps a transport error to a kind. The server distinguishes some causes only by their text.
fn kind_of(error: &oh_transport::Error) -> ErrorKind {
    use oh_transport::ErrorKind as Theirs;
    let detail = error.detail().unwrap_or_default();
    let status = error.status();
    match error.kind() {
        Theirs::InvalidInput => ErrorKind::InvalidInput,
        // The server's framework returns this text for a route that does not exist. All routes name
        // what they did not find.
        Theirs::NotFound if detail == "Not Found" => ErrorKind::Unsupported,
        Theirs::NotFound => ErrorKind::NotFound,
        Theirs::Conflict => ErrorKind::Conflict,
        Theirs::Validation => ErrorKind::Validation,
        Theirs::Unsupported => ErrorKind::Unsupported,
        _ if status == Some(http::StatusCode::METHOD_NOT_ALLOWED) => ErrorKind::Unsupported,
        // The server also returns 503 for encrypted secrets if it has no key for them.
        Theirs::Server if detail.contains("is not configured") => ErrorKind::Unsupported,
        kind => oh_transport::same_kind!(kind;),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = oh_protocol::printable(&self.0.context).into_owned();
        if let Some(source) = self.0.source.as_deref() {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(source));
        }
        f.write_str(&message)
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref(); timeout:; transient:);

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use oh_transport::Error as Wire;

    use super::*;

    oh_transport::request_tests!(wire => Error::transport("ask", wire););

    #[test]
    fn a_message_names_the_operation_and_the_reason() {
        let late = Error::timeout("wait", Duration::from_secs(2));
        assert!(late.is_timeout() && late.status().is_none());
        assert_eq!(late.to_string(), "cannot wait: no result within 2s");
        for (status, kind) in [
            (401, ErrorKind::Unauthorized),
            (405, ErrorKind::Unsupported),
            (503, ErrorKind::Server),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = Error::transport("ask", Wire::from_status(status));
            assert_eq!(error.kind(), kind);
            assert!(
                error
                    .to_string()
                    .starts_with("cannot ask: the server returned")
            );
        }
    }
}
