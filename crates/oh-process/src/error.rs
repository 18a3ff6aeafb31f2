//! Contains the error type of this crate: what failed, and the last output of the process.

use std::{fmt, sync::Arc};

use crate::status::ExitReport;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value from the caller is invalid. Nothing was started. Correct the value that the message
    /// names.
    InvalidInput,
    /// No interpreter can run the server, and there is no uv to download one. Install Python 3.12
    /// or newer, or uv, or allow downloads. The message lists the interpreters that were found.
    NoInterpreter,
    /// The chosen environment lacks the server, or cannot run it. Create one with
    /// [`Provisioner`](crate::Provisioner), or install the packages that the message names.
    BadEnvironment,
    /// An environment or interpreter could not be checked this time: it was killed, is too slow or
    /// may not be run. Nothing was changed. The message contains the reason. A retry may succeed.
    CheckFailed,
    /// The package index cannot be reached. No partial installation was kept. Check the network and
    /// the index settings of pip or uv. When offline, create the environment beforehand with `oh
    /// provision`.
    IndexUnreachable,
    /// The package index does not have this version. Use a published version of the server, or
    /// another index.
    UnknownVersion,
    /// The device has no space left. Make room, or use another directory, such as with
    /// `OPENHANDS_CACHE_DIR`.
    DiskFull,
    /// A directory cannot be created, read or written. Correct its permissions, or use another
    /// directory. The message contains its path.
    Directory,
    /// The environment could not be created, for another reason. [`Error::log_tail`] has the
    /// installer's last lines. If pinned packages do not fit your requirements, set
    /// [`Provisioner::pinned`](crate::Provisioner::pinned) to false.
    Provision,
    /// Another process is using this state directory. Give each server a separate directory, or
    /// wait until the other server has ended.
    StateInUse,
    /// The requested port is taken. End the other program, or set no port, so that a free one is
    /// chosen. The source is of kind `Stranger` if another process answered on the port.
    PortTaken,
    /// Another process answers at the server's address. This error is the source of a `PortTaken`
    /// error, which says what to do.
    Stranger,
    /// The process could not be started, or the server was dropped while it was starting. The
    /// message has the reason of the operating system.
    Spawn,
    /// The server ended before it was ready, or while it was working. [`Error::exit`] and
    /// [`Error::log_tail`] show why.
    Died,
    /// The server was not ready by its deadline and was stopped, or a server to attach to was not
    /// ready or is dormant. Set a longer deadline with `ready_within`, or activate the server.
    NotReady,
    /// The server to attach to rejects the session key. Create the client with the server's key.
    Unauthorized,
    /// The server's version is not supported by this crate. Use server 1.40 or newer.
    UnsupportedVersion,
    /// A request to the server failed. The message contains the reason.
    Request,
    /// Not supported on this operating system: local servers need Linux or macOS, templates need
    /// Linux. Attach to a server that runs elsewhere, or start the server cold.
    Unsupported,
}

/// An error about a local server.
///
/// Never contains a key or the value of an environment variable.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    context: String,
    exit: Option<ExitReport>,
    log_tail: Vec<String>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: context.into(),
            exit: None,
            log_tail: Vec::new(),
            source: None,
        }))
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into().into());
        self
    }

    pub(crate) fn with_exit(mut self, exit: ExitReport) -> Self {
        self.0.exit = Some(exit);
        self
    }

    pub(crate) fn with_log_tail(mut self, lines: Vec<String>) -> Self {
        self.0.log_tail = lines;
        self
    }

    /// Creates an error from an I/O error about a directory or file. A full disk becomes
    /// [`ErrorKind::DiskFull`].
    pub(crate) fn directory(context: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::DiskFull
            }
            _ => ErrorKind::Directory,
        };
        let context = context.into();
        Self::new(kind, format!("{context}: {error}")).with_source(error)
    }

    /// Returns the message and the reason. How the process ended or that the port is taken is a
    /// reason itself: the source is then only what was noticed of it.
    fn with_reason(&self) -> String {
        let mut message = self.0.context.clone();
        if let Some(source) = &self.0.source
            && self.0.kind != ErrorKind::PortTaken
        {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(&**source));
        }
        message
    }

    /// Returns what failed.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns how the process ended, if it did.
    pub fn exit(&self) -> Option<&ExitReport> {
        self.0.exit.as_ref()
    }

    /// Returns the last lines that the process wrote, oldest first, without its secrets.
    pub fn log_tail(&self) -> &[String] {
        &self.0.log_tail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.exit {
            Some(exit) => write!(f, "{} ({exit})", self.0.context)?,
            None => f.write_str(&self.with_reason())?,
        }
        if !self.0.log_tail.is_empty() {
            f.write_str("; last output:")?;
            // Keeps the message readable; `log_tail` returns all lines.
            let skipped = self.0.log_tail.len().saturating_sub(12);
            for line in &self.0.log_tail[skipped..] {
                write!(f, "\n  {line}")?;
            }
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
            .field("log_tail", &self.0.log_tail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_distinguished_from_other_errors_of_directories() {
        // ENOSPC and EDQUOT, as the operating system formats them.
        for code in [28, 122] {
            let error = Error::directory("cannot write", io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), ErrorKind::DiskFull);
            assert!(error.to_string().starts_with("cannot write: "), "{error}");
        }
        let error = Error::directory("cannot write", io::Error::from_raw_os_error(13));
        assert_eq!(error.kind(), ErrorKind::Directory);
    }

    #[test]
    fn the_message_has_the_source_once() {
        let cause = || io::Error::other("no\nroute");
        let error = Error::new(ErrorKind::Request, "cannot activate").with_source(cause());
        assert_eq!(error.to_string(), "cannot activate: no route");
        let error = Error::directory("cannot write", io::Error::from_raw_os_error(13));
        assert_eq!(error.to_string().matches("denied").count(), 1, "{error}");
        let outer = Error::new(ErrorKind::Provision, format!("no uv: {error}")).with_source(error);
        assert_eq!(outer.to_string().matches("denied").count(), 1, "{outer}");
        let stranger = Error::new(ErrorKind::Stranger, "another program answers");
        let taken = Error::new(ErrorKind::PortTaken, "port 1 is taken").with_source(stranger);
        assert_eq!(taken.to_string(), "port 1 is taken");
    }

    #[test]
    fn the_message_has_the_end_and_the_last_lines_but_not_the_source() {
        let error = Error::new(ErrorKind::Died, "the server ended")
            .with_exit(ExitReport::from_code(3, 0))
            .with_log_tail(vec!["one".into(), "two".into()])
            .with_source("the cause");
        let shown = error.to_string();
        assert_eq!(
            shown,
            "the server ended (exit status 3); last output:\n  one\n  two"
        );
    }
}
