//! The crate's error type: which operation failed, on which path or command, and why.

use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed an invalid value. Nothing was done. Correct the value that the message
    /// names.
    InvalidInput,
    /// The server has no such file, directory, command, conversation or profile. Check the name; a
    /// relative path is relative to the workspace's directory on the server.
    NotFound,
    /// The path has the wrong type, such as a directory where a file is expected, or it exists
    /// already. Use another path, or remove what is there.
    InvalidPath,
    /// The server's user lacks the permission, or a git provider rejected its token. Change the
    /// permissions on the server, or the token. See also [`Forbidden`](Self::Forbidden).
    PermissionDenied,
    /// The path is outside the conversation's workspace. Use a path inside it, or a workspace that
    /// is not limited to a conversation.
    OutsideWorkspace,
    /// No space is left on the server or, when the source is an [`std::io::Error`], on this
    /// machine. Free some space, and repeat the operation.
    NoSpace,
    /// The command could not be started on the server: its directory does not exist, its line is
    /// longer than the system allows, or it could not read its secrets, for example. Correct what
    /// the message names.
    NotStarted,
    /// Output of the command was removed from the server's history, so the output is incomplete. Do
    /// not clear the history while commands run. The command itself may have succeeded.
    OutputLost,
    /// The server was restarted while the command ran, so how the command ended is unknown. The
    /// output until then is in the history. Check the effects of the command before you run it
    /// again.
    ServerRestarted,
    /// The server has ended permanently, as reported by its supervisor. How a running command ended
    /// is unknown; the processes of a local server end with it. Start another server.
    ServerGone,
    /// The file changed while it was being transferred, so the copy would match neither version.
    /// Repeat the transfer; for a file that is appended to, use
    /// [`Download::growing`](crate::Download::growing).
    Changed,
    /// The file is not valid UTF-8. Read it with `bytes`.
    NotText,
    /// A local file could not be read or written; the source has the cause. Check the path and its
    /// permissions.
    Io,
    /// The connection could not be opened, so nothing was sent. Check that the server runs at this
    /// address. The operation can be repeated.
    Connect,
    /// The proxy rejected the request, so nothing was sent. Correct the proxy's URL or its
    /// credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed, so nothing was sent. Check the URL and the certificate.
    Tls,
    /// A directory on the server that held secrets or a command's output could not be removed.
    /// [`Error::path`] returns its path: remove it. A directory with secrets is removed by the
    /// server within five minutes, unless the server's machine goes down in that time.
    NotRemoved,
    /// The connection was lost, or no response arrived. The operation may still have happened. Find
    /// a command with [`Error::command_id`] and [`Workspace::command`](crate::Workspace::command);
    /// a transfer can be repeated.
    Interrupted,
    /// There was no progress for too long, or a clone or a callback took too long. Raise the limit
    /// (`timeout` or `idle_timeout`), or check the connection. A command that reaches its own
    /// timeout is not an error.
    Timeout,
    /// The directory is not in a git repository. Use another directory, or create or clone a
    /// repository there.
    NotARepository,
    /// The repository has no such branch, tag or commit. Check the name, or fetch it first.
    UnknownRef,
    /// Git on the server failed for another reason. The message or the source contains git's own
    /// message.
    Git,
    /// The session key is missing or wrong (status 401). Create the client with the server's key.
    Unauthorized,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The state of the server does not allow the operation (status 409), such as a change while
    /// the conversation is being deleted. Wait for the state to change, then try again.
    Conflict,
    /// The server accepts no more requests at the moment (status 429). Wait for at least the
    /// transport error's [`retry_after`](oh_transport::Error::retry_after), then try again.
    RateLimited,
    /// The server failed, or is overloaded, restarting or dormant (status 5xx). Try again later, or
    /// activate a dormant server. If the error persists, look for the transport error's
    /// [`error_id`](oh_transport::Error::error_id) in the server's log.
    Server,
    /// The address responds, but not with the response of an agent server. Correct the client's
    /// URL. If the URL is correct, a gateway responded in the server's place, for example with a
    /// login page: repeat the operation later, or log in at the gateway.
    NotAnAgentServer,
    /// The server does not support this, or it is disabled or not configured on the server. The
    /// message or the source names what is missing.
    Unsupported,
    /// The server rejected a value (status 400 or 422). Correct the value; the message contains the
    /// server's explanation.
    Validation,
    /// The server returned any other 3xx or 4xx status. See [`Error::status`]. Redirects are not
    /// followed: use the final URL.
    Status,
    /// The response could not be decoded. Check that the URL is the agent server's, and that this
    /// crate supports its version.
    Decode,
    /// The WebSocket handshake failed: the response is not an upgrade. Check that the URL and any
    /// proxy support WebSocket.
    Handshake,
}

/// The error of a workspace operation.
///
/// Contains paths, but never command lines, content, secrets or URLs with credentials.
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

    /// Creates an error like [`transport`](Self::transport), for a request to an endpoint that
    /// names what it does not find. A server without the endpoint does not.
    pub(crate) fn endpoint(context: impl Into<String>, source: oh_transport::Error) -> Self {
        let is_missing = source.detail() == Some("Not Found");
        let error = Self::transport(context, source);
        match error.kind() {
            ErrorKind::NotFound if is_missing => error.of_kind(ErrorKind::Unsupported),
            _ => error,
        }
    }

    /// Creates the error of a failed local file operation.
    pub(crate) fn local(context: impl Into<String>, source: std::io::Error) -> Self {
        let kind = match oh_protocol::errors::is_out_of_space(&source) {
            true => ErrorKind::NoSpace,
            false => ErrorKind::Io,
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

    /// Appends another error's message to this one.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        if let Some(source) = self.0.source.as_deref() {
            oh_protocol::reason::append(&mut self.0.context, &oh_protocol::reason::of(source));
        }
        self.0.context = format!("{}; {other}", self.0.context);
        self
    }

    /// Marks the error of an operation that is in progress. A failure to connect then counts as an
    /// interruption.
    pub(crate) fn midway(self) -> Self {
        match self.kind() {
            ErrorKind::Connect | ErrorKind::Proxy | ErrorKind::Tls => {
                self.of_kind(ErrorKind::Interrupted)
            }
            _ => self,
        }
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Returns whether the server rejected the request with a status that is unrelated to the
    /// operation.
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Status
                | ErrorKind::Decode
                | ErrorKind::Handshake
                | ErrorKind::NotAnAgentServer
                | ErrorKind::Unauthorized
                | ErrorKind::Forbidden
                | ErrorKind::Conflict
                | ErrorKind::RateLimited
                | ErrorKind::Server
        )
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the id of the command that was started before the failure. The command may still be
    /// running: find it with [`Workspace::command`](crate::Workspace::command).
    pub fn command_id(&self) -> Option<&str> {
        self.0.command_id.as_deref()
    }

    /// Returns the path on the server that the operation was about.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }
}

/// Maps a transport error to a kind. The server distinguishes some causes only by their text.
fn kind_of(error: &oh_transport::Error) -> ErrorKind {
    use oh_transport::ErrorKind as Theirs;
    let detail = error.detail().unwrap_or_default();
    if error.kind() == Theirs::Server
        && let Some(kind) = errno(detail)
    {
        return kind;
    }
    match error.kind() {
        // The server returns 403 for files that its user may not read or write, in Python's words.
        Theirs::Forbidden if detail.starts_with("Permission denied") => ErrorKind::PermissionDenied,
        Theirs::Validation if detail.contains("inside the conversation workspace") => {
            ErrorKind::OutsideWorkspace
        }
        // The server also returns 503 for what its configuration does not enable.
        Theirs::Server if is_disabled(error) => ErrorKind::Unsupported,
        kind => oh_transport::same_kind!(kind; NotFound Handshake),
    }
}

/// Returns whether a 503 means that the operation is not enabled in the server's configuration. A
/// retry does not help in that case.
fn is_disabled(error: &oh_transport::Error) -> bool {
    let detail = error.detail().unwrap_or_default();
    error.status() == Some(http::StatusCode::SERVICE_UNAVAILABLE)
        && (detail.contains("disabled in configuration") || detail.contains("is not configured"))
}

/// Maps the errno in the server's error text to a kind.
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
        let mut message = self.0.context.clone();
        if let Some(path) = &self.0.path
            && !message.contains(&format!("({path})"))
        {
            message.push_str(&format!(" ({path})"));
        }
        if let Some(id) = &self.0.command_id {
            message.push_str(&format!(" (command {id})"));
        }
        let mut message = oh_protocol::printable(&message).into_owned();
        if let Some(source) = self.0.source.as_deref() {
            oh_protocol::reason::append(&mut message, &oh_protocol::reason::of(source));
        }
        f.write_str(&message)
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref();
    timeout:; transient:);

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(status: http::StatusCode) -> oh_transport::Error {
        oh_transport::Error::from_status(status).with_target("/api/file")
    }

    #[test]
    fn the_message_has_the_path_and_the_reason_once() {
        let error = Error::transport("cannot read the file", wire(http::StatusCode::UNAUTHORIZED));
        assert_eq!(
            error.at("/w/a\u{1b}").to_string(),
            "cannot read the file (/w/a\u{241b}): the server returned 401 Unauthorized \
             (/api/file); set the server's session key with `session_api_key`"
        );
        let denied = std::io::Error::from_raw_os_error(13);
        let error = Error::local("cannot write the file", denied).of_command("7");
        assert_eq!(
            error.to_string(),
            "cannot write the file (command 7): Permission denied (os error 13)"
        );
        let lost = Error::transport("cannot remove it", wire(http::StatusCode::BAD_GATEWAY));
        let refused = wire(http::StatusCode::CONFLICT);
        let error = Error::transport("cannot start", refused);
        assert_eq!(
            error.and(&lost.at("/t")).at("/t").to_string(),
            "cannot start: the server returned 409 Conflict (/api/file); cannot remove it \
             (/t): the server returned 502 Bad Gateway (/api/file)"
        );
    }
}

#[cfg(test)]
oh_transport::request_tests!(wire => Error::transport("cannot ask", wire); NotFound Handshake);
