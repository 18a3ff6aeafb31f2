//! The one error of this crate: what a kit could not do, or what a test's script was denied.

use std::fmt;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word that a test can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A port on the loopback interface could not be opened.
    Bind,
    /// What was expected of the program under test did not happen, or something else did.
    Unmet,
    /// Something was asked of a kit that it does not have, such as an unknown conversation.
    Missing,
    /// A value the test gave breaks a rule.
    Invalid,
}

/// Why a kit could not start, or how the program under test left the script.
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn bind(source: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::Bind,
            message: "could not listen on the loopback interface".into(),
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn unmet(message: impl Into<String>) -> Self {
        Self::plain(ErrorKind::Unmet, message)
    }

    pub(crate) fn plain(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into().into_boxed_str(),
            source: None,
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// As `Display`: `unwrap` in a test prints this, and the message is made for people.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Says something to a test's author that no return value can carry any more.
#[expect(
    clippy::print_stderr,
    reason = "test harnesses show it with the test that fails"
)]
pub(crate) fn tell(report: &str) {
    eprintln!("{report}");
}
