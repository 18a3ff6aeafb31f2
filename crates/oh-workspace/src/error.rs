//! The one error of this crate: which operation failed, on what, and how to go on.

use std::fmt;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, in one word that a program can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value the caller gave cannot be used; nothing was done.
    InvalidInput,
    /// The server knows no such file, directory, command, conversation or profile.
    NotFound,
    /// The path names the wrong kind of thing, such as a directory where a file is meant.
    InvalidPath,
    /// The server's user may not do that there.
    PermissionDenied,
    /// The path lies outside the conversation's workspace.
    OutsideWorkspace,
    /// There is no space left, on the server or, with an [`std::io::Error`] as source, here.
    NoSpace,
    /// The command could not be started on the server, for example in a directory that is not
    /// there, or because its line is longer than the system allows.
    NotStarted,
    /// Output of the command is gone from the server's history, so it cannot be told whole.
    OutputLost,
    /// The server ended and was started anew while the command ran, so how it ended is not
    /// known. What it wrote until then is in the history.
    ServerRestarted,
    /// The file changed while it was read, so its copy would be neither the old nor the new one.
    Changed,
    /// The file is no text in UTF-8.
    NotText,
    /// A file on this side could not be read or written; the source says why.
    Local,
    /// No connection could be made, so nothing was sent: the server refused it, or the proxy or TLS
    /// on the way failed.
    Connect,
    /// A directory on the server that held secrets, or a command's output, could not be removed.
    /// [`Error::path`] names it. One with secrets removes itself within five minutes, unless the
    /// server's machine stops it.
    NotRemoved,
    /// The connection was cut, or no answer came. What was asked may have happened all the same:
    /// see [`Error::command_id`] of a command.
    Interrupted,
    /// Nothing moved for too long.
    Timeout,
    /// The directory lies in no git repository.
    NotARepository,
    /// The repository has no such branch, tag or commit.
    UnknownRef,
    /// Git on the server refused otherwise; the source says why.
    Git,
    /// The server does not offer this, or has it switched off.
    Unsupported,
    /// The server refused otherwise; the source says how.
    Transport,
}

/// Why an operation failed.
///
/// Holds paths, never command lines, content, secrets or URLs with credentials.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    path: Option<String>,
    command_id: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: context.into(),
            path: None,
            command_id: None,
            source: None,
        }))
    }

    pub(crate) fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, context)
    }

    pub(crate) fn transport(context: impl Into<String>, source: oh_transport::Error) -> Self {
        Self::new(kind_of(&source), context).with_source(source)
    }

    /// A failure of the local file system.
    pub(crate) fn local(context: impl Into<String>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Local,
        };
        Self::new(kind, context).with_source(source)
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn of_command(mut self, id: &str) -> Self {
        self.0.command_id = Some(id.to_owned());
        self
    }

    pub(crate) fn at(mut self, path: &str) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// Adds what else went wrong to the description.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.context = format!("{}; {}", self.0.context, other.0.context);
        self
    }

    /// The error of something that goes on: that no connection could be made is an interruption
    /// then.
    pub(crate) fn midway(self) -> Self {
        match self.kind() {
            ErrorKind::Connect => self.of_kind(ErrorKind::Interrupted),
            _ => self,
        }
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The command that was started before the failure; it may still run. Find it with
    /// [`Workspace::command`](crate::Workspace::command).
    pub fn command_id(&self) -> Option<&str> {
        self.0.command_id.as_deref()
    }

    /// The path on the server that it was about.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// What the server, or the connection to it, said, where that is the cause.
    pub fn transport_error(&self) -> Option<&oh_transport::Error> {
        self.0.source.as_ref()?.downcast_ref()
    }
}

/// What a refusal means here. The server tells some apart only in words.
fn kind_of(error: &oh_transport::Error) -> ErrorKind {
    use oh_transport::ErrorKind as Theirs;
    let detail = error.detail().unwrap_or_default();
    if error.kind() == Theirs::Server
        && let Some(kind) = errno(detail)
    {
        return kind;
    }
    match error.kind() {
        Theirs::InvalidInput => ErrorKind::InvalidInput,
        Theirs::NotFound => ErrorKind::NotFound,
        Theirs::Forbidden => ErrorKind::PermissionDenied,
        Theirs::Timeout => ErrorKind::Timeout,
        Theirs::Connect | Theirs::Proxy | Theirs::Tls => ErrorKind::Connect,
        Theirs::Interrupted | Theirs::Closed => ErrorKind::Interrupted,
        Theirs::Unsupported => ErrorKind::Unsupported,
        Theirs::Validation if detail.contains("inside the conversation workspace") => {
            ErrorKind::OutsideWorkspace
        }
        Theirs::Validation => ErrorKind::InvalidInput,
        Theirs::Server if error.status() == Some(http::StatusCode::SERVICE_UNAVAILABLE) => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Transport,
    }
}

/// What the number means with which the server's system refused.
fn errno(detail: &str) -> Option<ErrorKind> {
    let (_, rest) = detail.split_once("[Errno ")?;
    Some(match rest.split_once(']')?.0 {
        // EPERM, EACCES, EROFS.
        "1" | "13" | "30" => ErrorKind::PermissionDenied,
        // ENOSPC, EDQUOT.
        "28" | "122" => ErrorKind::NoSpace,
        // ENAMETOOLONG, ELOOP.
        "36" | "40" => ErrorKind::InvalidPath,
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        if let Some(path) = &self.0.path {
            write!(f, " ({path})")?;
        }
        match &self.0.command_id {
            Some(id) => write!(f, " (command {id})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("path", &self.0.path)
            .field("command_id", &self.0.command_id)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
