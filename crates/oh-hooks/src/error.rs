//! The error type of this crate. Messages name the file, pattern or hook and what to change.

use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written. Check that the path exists and that this user has
    /// access; the source is the [`std::io::Error`].
    Io,
    /// The device has no space left for a file. Free some space, or use another directory.
    NoSpace,
    /// A file is not a valid hook configuration. The message contains line and column for invalid
    /// JSON, and otherwise the path of the invalid value. Correct the file at this position.
    Decode,
    /// A hook breaks one of the server's rules, cannot be stored in a file, or cannot run on the
    /// client. Change the hook that the message names.
    InvalidInput,
    /// Only the server can evaluate a pattern. Use a simpler pattern, or test it on a server.
    Unsupported,
}

/// Why a configuration could not be loaded, saved, checked or matched.
///
/// `Display` shows what failed and why, including the text of the
/// [source](std::error::Error::source).
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>, source: Option<Source>) -> Self {
        Self {
            kind,
            context: context.into().into_boxed_str(),
            source,
        }
    }

    /// Creates the error of a failed file operation. A full disk becomes [`ErrorKind::NoSpace`].
    pub(crate) fn io(context: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match oh_protocol::errors::is_out_of_space(&error) {
            true => ErrorKind::NoSpace,
            false => ErrorKind::Io,
        };
        Self::new(kind, context, Some(Box::new(error)))
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = oh_protocol::printable(&self.context).into_owned();
        if let Some(source) = self.source.as_deref() {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(source));
        }
        f.write_str(&message)
    }
}

oh_protocol::no_requests!(Error, error => error.source.as_deref());
