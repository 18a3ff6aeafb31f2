//! The one error of this crate: which operation failed, and how to go on.

use std::fmt;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, in one word that a program can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value the caller gave cannot be used; nothing was sent.
    InvalidInput,
    /// The server could not be asked, or refused. A command may be running all the same:
    /// see [`Error::command_id`].
    Transport,
    /// The command could not be started on the server, for example in a directory that is not
    /// there.
    NotStarted,
}

/// Why an operation failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    command_id: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: context.into(),
            command_id: None,
            source: None,
        }))
    }

    pub(crate) fn transport(context: impl Into<String>, source: oh_transport::Error) -> Self {
        let kind = match source.kind() {
            oh_transport::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
            _ => ErrorKind::Transport,
        };
        let mut error = Self::new(kind, context);
        error.0.source = Some(Box::new(source));
        error
    }

    pub(crate) fn of_command(mut self, id: &str) -> Self {
        self.0.command_id = Some(id.to_owned());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The command that was started before the failure; it may still run.
    pub fn command_id(&self) -> Option<&str> {
        self.0.command_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
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
