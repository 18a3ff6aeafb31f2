//! The crate's error type: what failed, for which conversation, and why.

use std::fmt;

use oh_protocol::ConversationId;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed an invalid value; nothing was sent. Correct the value that the message
    /// names.
    InvalidInput,
    /// The session key is missing or wrong. Create the client with the server's key.
    Unauthorized,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The server reports that it does not have the conversation. Check the id and the server's
    /// URL, or create the conversation.
    Gone,
    /// The server rejected a value (status 400 or 422). Correct the value; the message contains the
    /// server's explanation.
    Validation,
    /// The server's version does not support this. Use a newer server.
    Unsupported,
    /// The connection failed after the server may have acted. The request was not repeated. Look at
    /// the conversation before you repeat the operation.
    Ambiguous,
    /// The conversation exists with another kind of agent than requested. Use another id.
    AgentMismatch,
    /// An action waits for approval, or may wait for it, and a run would execute it. Nothing was
    /// sent. Answer it with `oh-conversation`.
    PendingConfirmation,
    /// The state of the conversation does not allow the operation (status 409). Try again after its
    /// run has ended.
    Conflict,
    /// The server accepts no more runs at the moment (status 429). Wait for at least the transport
    /// error's [`retry_after`](oh_transport::Error::retry_after), then try again.
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
    /// A time limit expired. Raise the limit that the message names, or check the connection. What
    /// was sent can be repeated; otherwise the kind is [`Ambiguous`](Self::Ambiguous).
    Timeout,
    /// The connection ended before the response was complete. What was sent can be repeated;
    /// otherwise the kind is [`Ambiguous`](Self::Ambiguous).
    Interrupted,
    /// The server returned any other 3xx or 4xx status. See [`Error::status`]. Redirects are not
    /// followed: use the final URL.
    Status,
    /// The response could not be decoded. Check that the URL is the agent server's, and that this
    /// crate supports its version.
    Decode,
}

/// The error of an operation. Contains no key, no message and no URL with credentials.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    conversation: ConversationId,
    context: String,
    advice: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        conversation: ConversationId,
        context: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            conversation,
            context: context.into(),
            advice: None,
            source: None,
        }))
    }

    /// Adds what to do.
    pub(crate) fn advise(mut self, advice: &'static str) -> Self {
        self.0.advice = Some(advice);
        self
    }

    /// Creates the error of a failed request. `what` completes "cannot …".
    pub(crate) fn transport(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        use oh_transport::ErrorKind as Theirs;
        let own = source.body().is_some_and(|body| body["detail"].is_string());
        let kind = match source.kind() {
            Theirs::NotFound if own => ErrorKind::Gone,
            kind => oh_transport::same_kind!(kind;),
        };
        let mut error = Self::new(kind, id, format!("cannot {what}"));
        error.0.source = Some(source.into());
        match kind {
            ErrorKind::Gone => error.advise("check its id and the server's URL"),
            _ => error,
        }
    }

    /// Creates the error of a request that must not be repeated and whose result is unclear.
    pub(crate) fn ambiguous(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        let what = format!("cannot tell whether the server {what}");
        let mut error = Self::new(ErrorKind::Ambiguous, id, what);
        error.0.source = Some(source.into());
        error.advise("look at the conversation before you repeat this")
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the conversation.
    pub fn conversation(&self) -> ConversationId {
        self.0.conversation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            conversation,
            context,
            advice,
            source,
            ..
        } = &*self.0;
        let context = oh_protocol::printable(context);
        let mut message = format!("{context} (conversation {conversation})");
        if let Some(source) = source.as_deref() {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(source));
        }
        if let Some(advice) = advice {
            message.push_str("; ");
            message.push_str(advice);
        }
        f.write_str(&message)
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref(); timeout:; transient:);

#[cfg(test)]
mod tests {
    use oh_transport::Error as Wire;

    use super::*;

    oh_transport::request_tests!(
        wire => Error::transport(ConversationId::random(), "ask", wire););

    #[test]
    fn an_unclear_result_is_never_reported_as_safe_to_repeat() {
        let wire = Wire::new(oh_transport::ErrorKind::Timeout, "no response");
        let id = ConversationId::random();
        let error = Error::ambiguous(id, "started the run", wire);
        assert!(error.is_timeout() && !error.is_transient());
        let said = format!(
            "cannot tell whether the server started the run (conversation {id}): no response; \
             look at the conversation before you repeat this"
        );
        assert_eq!(error.to_string(), said);
    }
}
