//! The crate's error type: what failed, in which conversation.

use std::{fmt, sync::Arc};

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
    /// The session key is missing or wrong. Create the client with the server's key, and attach
    /// again.
    Unauthorized,
    /// The server reports that it does not have the conversation, or no longer has it. Check the id
    /// and the server's URL, or start another conversation.
    Gone,
    /// The conversation exists, but not the event, profile, plugin or parent that was named.
    /// Correct the name or id.
    NotFound,
    /// The agent has a tool that the server does not have; nothing was sent. The server would
    /// accept the agent, and fail at the first message. Use a tool from the list in the message, or
    /// start the server with the module that defines the tool.
    UnknownTool,
    /// The message has an image, but the agent's model does not support images; nothing was sent.
    /// Switch the model, or use [`SendMessage::even_if_blind`](crate::SendMessage::even_if_blind).
    NoVision,
    /// The server rejected a value (status 400 or 422). The message contains the server's
    /// explanation. Correct the value.
    Validation,
    /// The server's version does not support this. Use a newer server.
    Unsupported,
    /// Another live server holds the conversation's lease. Use that server, or stop it.
    Leased,
    /// The connection failed after the server may have acted. The request was not repeated: check
    /// the log before repeating it.
    Ambiguous,
    /// The conversation exists with another kind of agent than requested. Attach to it, or use
    /// another id.
    AgentMismatch,
    /// An action waits for approval, and a run would execute it. Approve or reject it first.
    PendingConfirmation,
    /// No action waits for approval; nothing was sent. Another program may have answered. See
    /// [`Approvals::pending`](crate::Approvals::pending) for the actions that wait now.
    NothingPending,
    /// The run ended although the agent has not finished: see
    /// [`RunOutcome::ensure_finished`](crate::RunOutcome::ensure_finished). To react to each
    /// ending, use [`RunOutcome::status`](crate::RunOutcome::status) instead.
    NotFinished,
    /// The server now has another conversation under this id: the original was deleted and created
    /// again, or restored from a backup. Attach again.
    Replaced,
    /// The server has ended permanently, as reported by its supervisor. Conversations survive only
    /// in a kept state directory: start another server on it, and attach again.
    ServerGone,
    /// The program closed the conversation. Attach again to continue.
    Closed,
    /// The model returned no usable answer. Try again, or use another model.
    NoAnswer,
    /// The state of the conversation does not allow the operation, such as a goal while a run is in
    /// progress, or an approval of actions that no longer wait. Wait for the run to end, or look at
    /// the pending actions again.
    Conflict,
    /// The server accepts no more runs at the moment. Try again later; [`Bulk`](crate::Bulk) does
    /// this automatically.
    RateLimited,
    /// The address responds, but not with the response of an agent server. Correct the client's
    /// URL. If the URL is correct, a gateway responded in the server's place, for example with a
    /// login page: repeat the operation later, or log in at the gateway.
    NotAnAgentServer,
    /// The connection could not be opened. The server has not seen the request. Check that the
    /// server runs at this address, and try again later.
    Connect,
    /// The proxy rejected the request. The server has not seen the request. Correct the proxy's URL
    /// or its credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed. The server has not seen the request. Check the URL and the
    /// certificate.
    Tls,
    /// A time limit expired. The server may have acted, unless the message says that nothing was
    /// sent. Raise the limit that the message names, or check the connection.
    Timeout,
    /// The connection ended before the response was complete, or no events arrive. The server may
    /// have acted. Check the connection; the link reconnects automatically.
    Interrupted,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The server failed, or is overloaded, restarting or dormant (status 5xx). Try again later, or
    /// activate a dormant server. If the error persists, look for the transport error's
    /// [`error_id`](oh_transport::Error::error_id) in the server's log.
    Server,
    /// Any other 3xx or 4xx status. See [`Error::status`], and check the URL and the gateway.
    Status,
    /// The response or an event could not be decoded. Check that the URL is the agent server's, and
    /// that this crate supports its version.
    Decode,
    /// The WebSocket handshake failed: the response is not an upgrade. Check that the URL and any
    /// proxy support WebSocket.
    Handshake,
    /// The program cancelled the operation: see [`BulkHandle::cancel`](crate::BulkHandle::cancel).
    /// A conversation that did not run can be started again; one whose run continues can be
    /// attached to.
    Cancelled,
    /// The fleet has no server for the task of a batch, and could not start one. The message has
    /// the reason. Correct it, and run the batch again.
    NoServer,
    /// The journal of a batch cannot be read or written, has an invalid line, or is in use by
    /// another program. The message contains its path. Free some space, correct the path, or wait
    /// for the other program.
    Journal,
}

/// The error of an operation on a conversation. Cheap to clone, because one failure can end many
/// waits.
///
/// `Display` shows what failed, in which conversation, why, and what to do about it. The reason is
/// on one line, without secrets and control characters; [`source`](std::error::Error::source)
/// returns the cause. `Debug` shows the kind and the same text.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    /// The remedy, or the work that is still to be done. Shown last.
    advice: Option<&'static str>,
    conversation: Option<ConversationId>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, id: ConversationId, context: impl Into<String>) -> Self {
        Self::of(kind, Some(id), context.into())
    }

    fn of(kind: ErrorKind, conversation: Option<ConversationId>, context: String) -> Self {
        Self(Arc::new(Inner {
            kind,
            context,
            advice: None,
            conversation,
            source: None,
        }))
    }

    /// Changes an error that nothing else refers to.
    fn changed(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    /// Creates an error that names no conversation.
    pub(crate) fn without_conversation(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self::of(kind, None, context.into())
    }

    /// Creates an error of the same kind with this one as its cause.
    pub(crate) fn in_context(self, context: &str) -> Self {
        Self::of(self.kind(), self.0.conversation, context.to_owned()).with_source(self)
    }

    /// Adds what the caller can do about the failure, or the work that is still to be done.
    pub(crate) fn advise(self, advice: &'static str) -> Self {
        self.changed(|inner| inner.advice = Some(advice))
    }

    /// Creates the error of a failed request for a conversation. `what` names the request, such as
    /// "start a run".
    pub(crate) fn transport(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        Self::failed(Some(id), what, source)
    }

    /// Adds the cause.
    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.changed(|inner| inner.source = Some(source.into()))
    }

    /// Creates the error of a failed request that belongs to no conversation.
    pub(crate) fn server(what: &str, source: oh_transport::Error) -> Self {
        Self::failed(None, what, source)
    }

    fn failed(
        conversation: Option<ConversationId>,
        what: &str,
        source: oh_transport::Error,
    ) -> Self {
        let kind = match source.kind() {
            oh_transport::ErrorKind::NotFound if is_own_word(&source) => ErrorKind::Gone,
            kind => oh_transport::same_kind!(kind; Handshake),
        };
        let error = Self::of(kind, conversation, format!("cannot {what}")).with_source(source);
        match kind {
            ErrorKind::Gone => error.advise("check its id and the server's URL"),
            _ => error,
        }
    }

    /// Creates the error of a failed request that names another resource besides the conversation.
    /// The detail of a 404 shows which of the two is missing.
    pub(crate) fn naming(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        let bare = |detail: &str| {
            detail == "Not Found" || detail.to_lowercase().contains("conversation not found")
        };
        let named = source.kind() == oh_transport::ErrorKind::NotFound
            && source.detail().is_some_and(|detail| !bare(detail));
        Self::failed(Some(id), what, source).of_kind(|kind| match kind {
            ErrorKind::Gone if named => ErrorKind::NotFound,
            kind => kind,
        })
    }

    /// Replaces the conversation.
    pub(crate) fn of_conversation(self, id: ConversationId) -> Self {
        self.changed(|inner| inner.conversation = Some(id))
    }

    /// Replaces the kind. The advice for a missing conversation fits no other kind.
    pub(crate) fn of_kind(self, kind: impl FnOnce(ErrorKind) -> ErrorKind) -> Self {
        self.changed(|inner| {
            let kind = kind(inner.kind);
            if inner.kind == ErrorKind::Gone && kind != ErrorKind::Gone {
                inner.advice = None;
            }
            inner.kind = kind;
        })
    }

    /// Creates the error of a request that must not be repeated and whose result is unclear.
    pub(crate) fn ambiguous(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        let what = format!("cannot tell whether the server {what}");
        Self::new(ErrorKind::Ambiguous, id, what)
            .advise("check before you repeat the request")
            .with_source(source)
    }

    /// Returns whether both are clones of one error.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message. Leaves the conversation out if it is the one of the outer error.
    fn message(&self, outer: Option<ConversationId>) -> String {
        let mut message = oh_protocol::printable(&self.0.context).into_owned();
        if let Some(id) = self.0.conversation.filter(|id| outer != Some(*id)) {
            message.push_str(&format!(" (conversation {id})"));
        }
        if let Some(source) = self.0.source.as_deref() {
            let reason = match source.downcast_ref::<Self>() {
                Some(inner) => inner.message(self.0.conversation.or(outer)),
                None => oh_protocol::reason::of(source),
            };
            oh_protocol::reason::append(&mut message, &reason);
        }
        if let Some(advice) = self.0.advice {
            message.push_str("; ");
            message.push_str(advice);
        }
        message
    }

    /// Returns whether the server's detail contains this text.
    pub(crate) fn says(&self, words: &str) -> bool {
        let detail = self.transport_error().and_then(|error| error.detail());
        detail.is_some_and(|detail| detail.contains(words))
    }

    /// Returns the id of the conversation that the error is about.
    pub fn conversation_id(&self) -> Option<ConversationId> {
        self.0.conversation
    }
}

/// Returns whether a 404 has the explanation of an agent server, or is its close of a socket. A
/// gateway returns a page or an empty body.
fn is_own_word(error: &oh_transport::Error) -> bool {
    let own = error.body().is_some_and(|body| body["detail"].is_string());
    own || error.close_code().is_some()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(None))
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref();
    timeout:; transient:);

#[cfg(test)]
mod tests {
    use oh_transport::{Error as Wire, ErrorKind as Theirs};

    use super::*;

    #[test]
    fn an_unclear_result_is_never_reported_as_safe_to_repeat() {
        let wire = Wire::new(Theirs::Timeout, "no response");
        let error = Error::ambiguous(ConversationId::random(), "started the run", wire);
        assert!(error.is_timeout() && !error.is_transient());
    }
}

#[cfg(test)]
oh_transport::request_tests!(wire => Error::server("ask", wire).in_context("outer"); Handshake);
