//! The one error of this crate: what failed, in which conversation.

use std::fmt;

use http::StatusCode;
use oh_protocol::ConversationId;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, in one word that a program can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value the caller gave cannot be used; nothing was sent.
    InvalidInput,
    /// The session key is missing or wrong.
    Unauthorized,
    /// The conversation is not there (any more).
    Gone,
    /// The conversation is there, but not the event, profile, plugin or parent that was named.
    NotFound,
    /// The agent has a tool that the server does not know; nothing was sent. The server would
    /// take it, and fail at the first message.
    UnknownTool,
    /// An image for an agent whose model sees none; nothing was sent.
    NoVision,
    /// The server refuses a value: 400 or 422, and what it says is in the source.
    Refused,
    /// The server's version does not have this.
    Unsupported,
    /// Another live server holds the conversation's lease.
    Leased,
    /// The connection failed after the server may have acted. Not repeated: look at the log
    /// before doing so.
    Ambiguous,
    /// The conversation exists with another kind of agent than the one asked for.
    AgentMismatch,
    /// An action waits for approval, and a run would execute it. Approve or reject it first.
    PendingConfirmation,
    /// Nothing waits for approval, so there is nothing to approve or reject; nothing was sent.
    NothingPending,
    /// The run ended without the agent being done: see
    /// [`RunOutcome::ensure_finished`](crate::RunOutcome::ensure_finished).
    NotFinished,
    /// The conversation on the server is not the one that was read: it was deleted and made again
    /// under the same id, or restored from a backup. Attach again.
    Replaced,
    /// The server has ended and will not come back, as its supervisor reports.
    ServerGone,
    /// The conversation was closed by this program.
    Closed,
    /// The model gave nothing to use.
    NoAnswer,
    /// The state of the conversation forbids it, such as a goal while a run is under way, or an
    /// approval of actions that do not wait any more.
    Conflict,
    /// The server takes no more runs at the moment.
    RateLimited,
    /// Something answers there, but it is no agent server.
    NotAnAgentServer,
    /// The server could not be asked, or refused.
    Transport,
    /// The program cancelled this: see [`BulkHandle::cancel`](crate::BulkHandle::cancel).
    Cancelled,
}

/// Why an operation on a conversation failed. Cheap to clone: one failure can end many waits.
#[derive(Clone)]
pub struct Error(std::sync::Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    conversation: Option<ConversationId>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, id: ConversationId, context: impl Into<String>) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind,
            context: context.into(),
            conversation: Some(id),
            source: None,
        }))
    }

    /// A failure that names no conversation.
    pub(crate) fn without_conversation(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind,
            context: context.into(),
            conversation: None,
            source: None,
        }))
    }

    /// The same failure, in words that say what it was part of.
    pub(crate) fn in_context(self, context: &str) -> Self {
        let cause = self.clone();
        Self(std::sync::Arc::new(Inner {
            kind: self.kind(),
            context: format!("{context}: {}", self.0.context),
            conversation: self.0.conversation,
            source: Some(Box::new(cause)),
        }))
    }

    /// A failed request of a conversation: `what` says which, such as "start a run".
    pub(crate) fn transport(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        Self::failed(Some(id), what, source)
    }

    /// The same failure with what caused it.
    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        match std::sync::Arc::try_unwrap(self.0) {
            Ok(inner) => Self(std::sync::Arc::new(Inner {
                source: Some(source.into()),
                ..inner
            })),
            Err(shared) => Self(shared),
        }
    }

    /// A failed request that belongs to no conversation.
    pub(crate) fn server(what: &str, source: oh_transport::Error) -> Self {
        Self::failed(None, what, source)
    }

    fn failed(
        conversation: Option<ConversationId>,
        what: &str,
        source: oh_transport::Error,
    ) -> Self {
        use oh_transport::ErrorKind as Kind;
        let kind = match source.kind() {
            Kind::InvalidInput => ErrorKind::InvalidInput,
            Kind::Unauthorized => ErrorKind::Unauthorized,
            Kind::NotFound => ErrorKind::Gone,
            Kind::RateLimited => ErrorKind::RateLimited,
            Kind::Conflict => ErrorKind::Conflict,
            Kind::NotAnAgentServer => ErrorKind::NotAnAgentServer,
            Kind::Unsupported => ErrorKind::Unsupported,
            Kind::Validation => ErrorKind::Refused,
            Kind::Status if source.status() == Some(StatusCode::BAD_REQUEST) => ErrorKind::Refused,
            _ => ErrorKind::Transport,
        };
        Self(std::sync::Arc::new(Inner {
            kind,
            context: format!("cannot {what}"),
            conversation,
            source: Some(Box::new(source)),
        }))
    }

    /// A failed request that names something besides the conversation: a 404 says which of the
    /// two is not there.
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

    /// The same failure, of another conversation.
    pub(crate) fn of_conversation(self, id: ConversationId) -> Self {
        match std::sync::Arc::try_unwrap(self.0) {
            Ok(inner) => Self(std::sync::Arc::new(Inner {
                conversation: Some(id),
                ..inner
            })),
            Err(shared) => Self(shared),
        }
    }

    /// The same failure by another kind.
    pub(crate) fn of_kind(self, kind: impl FnOnce(ErrorKind) -> ErrorKind) -> Self {
        match std::sync::Arc::try_unwrap(self.0) {
            Ok(inner) => Self(std::sync::Arc::new(Inner {
                kind: kind(inner.kind),
                ..inner
            })),
            Err(shared) => Self(shared),
        }
    }

    /// A request that must not be repeated and whose end is unclear.
    pub(crate) fn ambiguous(id: ConversationId, what: &str, source: oh_transport::Error) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind: ErrorKind::Ambiguous,
            context: format!("it is unclear whether the server did {what}: look before repeating"),
            conversation: Some(id),
            source: Some(Box::new(source)),
        }))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the transport saw, if it came from there: status, path, the server's detail.
    pub fn transport_error(&self) -> Option<&oh_transport::Error> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// Whether the server's answer says this.
    pub(crate) fn says(&self, words: &str) -> bool {
        let detail = self.transport_error().and_then(|error| error.detail());
        detail.is_some_and(|detail| detail.contains(words))
    }

    /// The conversation it belongs to.
    pub fn conversation_id(&self) -> Option<ConversationId> {
        self.0.conversation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        match self.0.conversation {
            Some(id) => write!(f, " (conversation {id})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("conversation", &self.0.conversation)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
