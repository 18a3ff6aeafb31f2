//! The one error of this crate: what could not be provisioned, started or stopped, and the last
//! the server said.

use std::{fmt, path::Path};

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What failed, in one word that a program can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value the caller gave cannot be used.
    InvalidInput,
    /// No Python that fits, and no uv.
    NoInterpreter,
    /// The environment could not be made: the index is out of reach, a version does not exist,
    /// the disk is full.
    Provision,
    /// A file or directory could not be used.
    Io,
    /// The port asked for is taken.
    PortTaken,
    /// The server ended before it was ready.
    Died,
    /// The server did not get ready in time.
    NotReady,
    /// Another server answers on the port.
    Stranger,
    /// The server that answers cannot be used.
    Transport,
}

/// Why a local server is not there.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    exit: Option<String>,
    log: Vec<String>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: context.into(),
            exit: None,
            log: Vec::new(),
            source: None,
        }))
    }

    pub(crate) fn io(what: &str, path: &Path, error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {what} {}", path.display())).because(error)
    }

    pub(crate) fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_log(mut self, log: Vec<String>) -> Self {
        self.0.log = log;
        self
    }

    pub(crate) fn with_exit(mut self, exit: impl Into<String>) -> Self {
        self.0.exit = Some(exit.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// How the process ended, if it did.
    pub fn exit(&self) -> Option<&str> {
        self.0.exit.as_deref()
    }

    /// The last lines the process wrote, oldest first.
    pub fn log_tail(&self) -> &[String] {
        &self.0.log
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        if let Some(exit) = &self.0.exit {
            write!(f, " ({exit})")?;
        }
        if !self.0.log.is_empty() {
            write!(f, "; it last said:\n  {}", self.0.log.join("\n  "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("exit", &self.0.exit)
            .field("log", &self.0.log)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<oh_transport::Error> for Error {
    fn from(error: oh_transport::Error) -> Self {
        Self::new(ErrorKind::Transport, "the server cannot be used").because(error)
    }
}
