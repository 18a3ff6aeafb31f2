//! The error type of this crate, with the last output of the process that failed.

use crate::supervise::status::ExitReport;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// The device has no space left. Free some space, or use another directory, for example with
    /// `OPENHANDS_CACHE_DIR`.
    NoSpace,
    /// A file or directory cannot be created, read or written. Correct its permissions, or use
    /// another directory. The message contains its path.
    Io,
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
    /// ready. Set a longer deadline with `ready_within`.
    NotReady,
    /// The connection could not be opened. The server has not seen the request. Check that the
    /// server runs at this address, and try again later.
    Connect,
    /// The proxy rejected the request. The server has not seen the request. Correct the proxy's URL
    /// or its credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed. The server has not seen the request. Check the URL and the
    /// certificate.
    Tls,
    /// A request to the server took too long. The server may have acted. Check whether the machine
    /// is overloaded, and start the server again.
    Timeout,
    /// The connection ended before the response was complete, or no response arrived. The server
    /// may have acted. Check that the server still runs, and try again.
    Interrupted,
    /// The server rejects the session key (status 401). Create the client with the server's key.
    Unauthorized,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The server does not have the requested resource (status 404). Check the server's version.
    NotFound,
    /// The server's state does not allow the operation (status 409). Wait for the state to change,
    /// then try again.
    Conflict,
    /// The server rejected a value (status 400 or 422). Correct the value that the message names.
    Validation,
    /// The server accepts no more requests at the moment (status 429). Try again later.
    RateLimited,
    /// The server returned any other 3xx or 4xx status. The message contains it.
    Status,
    /// The server failed, or is overloaded, restarting or dormant (status 5xx). Try again later, or
    /// activate a dormant server.
    Server,
    /// The response could not be decoded. Check that this crate supports the server's version.
    Decode,
    /// The address responds, but is not an OpenHands agent server. Correct the client's URL.
    NotAnAgentServer,
    /// Not supported: the server's version is too old (use server 1.40 or newer), or this operating
    /// system lacks what is needed (local servers need Linux or macOS, templates need Linux).
    Unsupported,
}

crate::server_error!(
    /// An error about a local server.
    ///
    /// Never contains a key or the value of an environment variable.
);

impl Error {
    /// Returns whether a request to the server failed, which may mean that the server has ended.
    pub(crate) fn is_failed_request(&self) -> bool {
        self.transport_error().is_some()
    }

    /// Creates an error from an I/O error about a directory or file. A full disk becomes
    /// [`ErrorKind::NoSpace`].
    pub(crate) fn directory(context: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match oh_protocol::errors::is_out_of_space(&error) {
            true => ErrorKind::NoSpace,
            false => ErrorKind::Io,
        };
        let context = context.into();
        Self::new(kind, format!("{context}: {error}")).with_source(error)
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref();
    timeout: NotReady; transient: NotReady CheckFailed IndexUnreachable);

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_distinguished_from_other_errors_of_directories() {
        // ENOSPC and EDQUOT, as the operating system formats them.
        for code in [28, 122] {
            let error = Error::directory("cannot write", io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert!(error.to_string().starts_with("cannot write: "), "{error}");
        }
        let error = Error::directory("cannot write", io::Error::from_raw_os_error(13));
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn the_message_has_the_source_once() {
        let cause = || io::Error::other("no\nroute");
        let error = Error::new(ErrorKind::Server, "cannot activate").with_source(cause());
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

    #[test]
    fn an_error_does_not_control_the_terminal() {
        let error = Error::new(ErrorKind::Died, "cannot run \x1b]0;title\x07")
            .with_source("\x1b[2J")
            .with_log_tail(vec!["\x1b[31mred\x1b[m \x1b[2J".into()]);
        let shown = error.to_string();
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
        assert!(shown.contains("red"), "{shown:?}");
    }
}

#[cfg(test)]
oh_transport::request_tests!(wire => Error::transport("cannot ask", wire); NotFound);
