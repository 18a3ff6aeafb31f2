//! The error type of this crate, for kits that fail and expectations that are not met.

use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for tests to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A port on the loopback interface could not be opened. Check that tests may open loopback
    /// ports, and that file descriptors are left.
    Bind,
    /// Another process uses the port, for example because it took the port while the kit was down.
    /// End the other process, or start another kit.
    PortTaken,
    /// The program under test did not meet an expectation. The message lists the differences.
    /// Correct the program, or the expectations of the test.
    Unmet,
    /// A requested item does not exist, such as an unknown conversation. Correct the id, path or
    /// number that the message names.
    NotFound,
    /// A value passed by the test is invalid. Correct the value that the message names.
    InvalidInput,
}

/// Why a kit could not start, or how the program under test deviated from the script.
///
/// `Display` shows what failed and why, including the text of the
/// [source](std::error::Error::source).
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn bind(source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::AddrInUse => ErrorKind::PortTaken,
            _ => ErrorKind::Bind,
        };
        Self {
            kind,
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

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = self.message.to_string();
        if let Some(source) = self.source.as_deref() {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(source));
        }
        f.write_str(&message)
    }
}

oh_protocol::no_requests!(Error, error => error.source.as_deref());

/// Prints a report for the author of a test when it can no longer be returned.
#[expect(
    clippy::print_stderr,
    reason = "test harnesses show it with the test that fails"
)]
pub(crate) fn tell(report: &str) {
    eprintln!("{report}");
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn display_and_debug_have_the_reason_once() {
        let taken = io::Error::new(io::ErrorKind::AddrInUse, "the port\nis \u{1b}[2Jtaken");
        let error = Error::bind(taken);
        let shown = "could not listen on the loopback interface: the port is \u{241b}[2Jtaken";
        assert_eq!(error.to_string(), shown);
        assert_eq!(format!("{error:?}"), format!("PortTaken: {shown}"));
        let unmet = Error::unmet("two differences:\n  one\n  two");
        assert_eq!(unmet.to_string(), "two differences:\n  one\n  two");
    }
}
