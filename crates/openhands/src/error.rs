//! The error of all crates behind the facade, for programs that use several of them.

use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`]: the kinds of all crates. The same failure has the same kind in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value from the caller is invalid. Nothing was sent. Correct the value that the message
    /// names.
    InvalidInput,
    /// The connection could not be opened. The server has not seen the request. Check that the
    /// server runs at this address, and try again later.
    Connect,
    /// The proxy rejected the request or the tunnel. The server has not seen the request. Correct
    /// the proxy's URL or its credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed because of the certificate, the host name or the protocol. Check
    /// the URL; trust a private certificate authority with `root_certificate`.
    Tls,
    /// A time limit expired. The server may have acted. Raise the limit that the message names, or
    /// find out whether the request was executed before you repeat it.
    Timeout,
    /// The connection ended before the response was complete. The server may have acted. Find out
    /// whether the request was executed before you repeat it.
    Interrupted,
    /// Status 401 or close code 4001: the session key is missing or wrong. Set the server's key
    /// with [`ClientBuilder::session_api_key`](oh_transport::ClientBuilder::session_api_key).
    Unauthorized,
    /// Status 403. For sockets also: the path is unknown or the server is dormant. Check the
    /// session key and the gateway in front of the server, or activate the server.
    Forbidden,
    /// Status 404 or close code 4004. Check the path and the ids. The conversation may also be
    /// temporarily leased to another server: try again after a minute.
    NotFound,
    /// Status 409: the state of the conversation does not allow the operation, such as a second run
    /// while one is active. Wait for the state to change, then try again.
    Conflict,
    /// Status 400 or 422: the server rejected the content of the request. Correct the fields in
    /// [`validation`](oh_transport::Error::validation) of the [`Error::transport_error`]; see also
    /// its [`detail`](oh_transport::Error::detail).
    Validation,
    /// Status 429: too many concurrent runs. Wait for at least
    /// [`retry_after`](oh_transport::Error::retry_after) of the [`Error::transport_error`], or run
    /// fewer conversations at the same time.
    RateLimited,
    /// Any other 3xx or 4xx status. See [`Error::status`], and
    /// [`detail`](oh_transport::Error::detail) of the [`Error::transport_error`]. Redirects are not
    /// followed: use the final URL.
    Status,
    /// Status 5xx. Try again later. If the error persists, look for the
    /// [`error_id`](oh_transport::Error::error_id) of the [`Error::transport_error`] in the
    /// server's log.
    Server,
    /// The response or the received data could not be decoded. Check that the URL is the agent
    /// server's, and that this crate supports its version. A socket message above `max_message` has
    /// this kind too: raise that limit.
    Decode,
    /// The server closed the socket; see [`close_code`](oh_transport::Error::close_code) and
    /// [`close_reason`](oh_transport::Error::close_reason) of the [`Error::transport_error`]. Open
    /// another socket if [`Error::is_transient`] is true.
    SocketClosed,
    /// The WebSocket handshake failed: the response is not an upgrade. Check that the URL and any
    /// proxy support WebSocket.
    Handshake,
    /// The code of a login has expired before the user entered it, or a logout has ended the login.
    /// Begin another login.
    LoginExpired,
    /// The server at the URL is not an OpenHands agent server. Correct the host, port or path
    /// prefix.
    NotAnAgentServer,
    /// The server or this build does not support the operation. Use a newer server, or enable the
    /// feature that the message names.
    Unsupported,
    /// No interpreter can run the server, and there is no uv to download one. Install Python 3.12
    /// or newer, or uv, or allow downloads. The message lists the interpreters that were found.
    NoInterpreter,
    /// The chosen environment lacks the server, or cannot run it. Create one with `Provisioner`, or
    /// install the packages that the message names.
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
    /// The environment could not be created, for another reason. The message has the installer's
    /// last lines, and [`log_tail`](oh_process::Error::log_tail) of the crate's error more of them.
    /// If pinned packages do not fit your requirements, set `Provisioner::pinned` to false.
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
    /// The server ended before it was ready, or while it was working. The message shows why;
    /// [`exit`](oh_process::Error::exit) and [`log_tail`](oh_process::Error::log_tail) of the
    /// crate's error have the details.
    Died,
    /// No container engine answers. Start Docker or Podman, or set `DOCKER_HOST`. The message lists
    /// the addresses that were tried.
    NoEngine,
    /// Access to the engine's socket is denied. Add this user to the group of the socket (for
    /// Docker, `docker`), or use a rootless engine.
    EngineDenied,
    /// The engine failed, for another reason. The message contains the engine's own message.
    Engine,
    /// There is no cluster, or it cannot be reached. Check the kubeconfig, its context, and the
    /// network.
    NoCluster,
    /// The cluster rejects the credentials of the kubeconfig, or does not permit the request. Log
    /// in again, or ask the owner of the cluster for the role in `docs/kubernetes.md`.
    ClusterDenied,
    /// The API of the cluster failed, for another reason. The message contains the cluster's own
    /// message.
    Cluster,
    /// The quota of the namespace does not permit another sandbox. End other sandboxes, or ask for
    /// a higher quota.
    Quota,
    /// The claim of a sandbox has failed. `Error::claim_failure` of `oh-sandbox` returns the
    /// reason, and the message says what to do.
    Claim,
    /// The engine does not have the image, and the registry does not have it or does not permit the
    /// download. Check the name and the tag, log in, or build the image.
    NoImage,
    /// The image could not be downloaded. Nothing was started. Check the network and the registry.
    PullFailed,
    /// The image is for another processor or operating system than the engine's. Use another image,
    /// or set `platform` if the engine can emulate it.
    WrongPlatform,
    /// A file, directory or named volume to mount does not exist. Create it first.
    NoVolume,
    /// The engine cannot give the container a GPU. Install the vendor's container toolkit, or do
    /// not ask for a GPU.
    NoGpu,
    /// The kernel killed the server because the memory limit of its container was reached. Set a
    /// higher limit with `memory`.
    OutOfMemory,
    /// The server was not ready by its deadline and was stopped, or a server to attach to was not
    /// ready. Set a longer deadline with `ready_within`.
    NotReady,
    /// The path has the wrong type, such as a directory where a file is expected, or it exists
    /// already. Use another path, or remove what is there.
    InvalidPath,
    /// The server's user lacks the permission, or a git provider rejected its token. Change the
    /// permissions on the server, or the token. See also `Forbidden`.
    PermissionDenied,
    /// The path is outside the conversation's workspace. Use a path inside it, or a workspace that
    /// is not limited to a conversation.
    OutsideWorkspace,
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
    /// Repeat the transfer; for a file that is appended to, use `Download::growing`.
    Changed,
    /// The file is not valid UTF-8. Read it with `bytes`.
    NotText,
    /// A directory on the server that held secrets or a command's output could not be removed. The
    /// message has its path: remove it. A directory with secrets is removed by the server
    /// within five minutes, unless the server's machine goes down in that time.
    NotRemoved,
    /// The directory is not in a git repository. Use another directory, or create or clone a
    /// repository there.
    NotARepository,
    /// The repository has no such branch, tag or commit. Check the name, or fetch it first.
    UnknownRef,
    /// Git on the server failed for another reason. The message or the source contains git's own
    /// message.
    Git,
    /// The server reports that it does not have the conversation, or no longer has it. Check the id
    /// and the server's URL, or start another conversation.
    Gone,
    /// The agent has a tool that the server does not have; nothing was sent. The server would
    /// accept the agent, and fail at the first message. Use a tool from the list in the message, or
    /// start the server with the module that defines the tool.
    UnknownTool,
    /// The message has an image, but the agent's model does not support images; nothing was sent.
    /// Switch the model, or use `SendMessage::even_if_blind`.
    NoVision,
    /// Another live server holds the conversation's lease. Use that server, or stop it.
    Leased,
    /// The connection failed after the server may have acted. The request was not repeated: check
    /// the log before repeating it.
    Ambiguous,
    /// The conversation exists with another kind of agent than requested. Attach to it, or use
    /// another id.
    AgentMismatch,
    /// An action waits for approval, and a run would execute it. Approve or reject it first.
    PendingConfirmation,
    /// No action waits for approval; nothing was sent. Another program may have answered. See
    /// `Approvals::pending` for the actions that wait now.
    NothingPending,
    /// The run ended although the agent has not finished: see `RunOutcome::ensure_finished`. To
    /// react to each ending, use `RunOutcome::status` instead.
    NotFinished,
    /// The server now has another conversation under this id: the original was deleted and created
    /// again, or restored from a backup. Attach again.
    Replaced,
    /// The program closed the conversation. Attach again to continue.
    Closed,
    /// The model returned no usable answer. Try again, or use another model.
    NoAnswer,
    /// The program cancelled the operation: see `BulkHandle::cancel`. A conversation that did not
    /// run can be started again; one whose run continues can be attached to.
    Cancelled,
    /// A fleet could not start a server. The message has the reason. Correct the provider of the
    /// fleet.
    NoServer,
    /// The journal of a batch cannot be read or written, has an invalid line, or is in use by
    /// another program. The message contains its path. Free some space, correct the path, or wait
    /// for the other program.
    Journal,
    /// A value could not be encoded as JSON or as a header, or a value inside a body breaks a rule
    /// of the server. Nothing was sent. Correct the value that the message names; `check` of a
    /// configuration names the field.
    Encode,
    /// A port on the loopback interface could not be opened. Check that tests may open loopback
    /// ports, and that file descriptors are left.
    Bind,
    /// The program under test did not meet an expectation. The message lists the differences.
    /// Correct the program, or the expectations of the test.
    Unmet,
}

/// An error of any crate behind the facade. `?` converts their errors to this type.
///
/// ```
/// fn configure(json: &str) -> openhands::Result<openhands::Event> {
///     Ok(openhands::Event::from_json(json.to_owned())?)
/// }
///
/// let error = configure("{").unwrap_err();
/// assert_eq!(error.kind(), openhands::ErrorKind::Decode);
/// assert!(!error.is_transient());
/// ```
///
/// `Display` shows what failed, why, and in many cases what to do. `Debug`, which `main` and
/// `unwrap` print, shows the kind and the same text. [`get_ref`](Self::get_ref) returns the crate's
/// own error, which has more methods.
pub struct Error(Inner);

/// Declares the conversion of one crate's error and of its kinds.
macro_rules! wrap {
    ($variant:ident, $krate:ident: $($kind:ident)+) => {
        impl From<$krate::Error> for Error {
            fn from(error: $krate::Error) -> Self {
                Self(Inner::$variant(error))
            }
        }

        impl From<$krate::ErrorKind> for ErrorKind {
            fn from(kind: $krate::ErrorKind) -> Self {
                match kind {
                    $($krate::ErrorKind::$kind => Self::$kind,)+
                    // A test checks that each kind is listed.
                    _ => Self::Status,
                }
            }
        }
    };
}

wrap!(Transport, oh_transport:
    InvalidInput Connect Proxy Tls Timeout Interrupted Unauthorized Forbidden NotFound
    Conflict Validation RateLimited Status Server Decode SocketClosed Handshake
    NotAnAgentServer Unsupported);
#[cfg(feature = "process")]
wrap!(Process, oh_process:
    InvalidInput NoInterpreter BadEnvironment CheckFailed IndexUnreachable UnknownVersion
    NoSpace Io Provision StateInUse PortTaken Stranger Spawn Died NotReady Connect Proxy Tls
    Timeout Interrupted Unauthorized Forbidden NotFound Conflict Validation RateLimited Status
    Server Decode NotAnAgentServer Unsupported);
#[cfg(feature = "fleet")]
wrap!(Sandbox, oh_sandbox:
    InvalidInput NoEngine EngineDenied Engine NoCluster ClusterDenied Cluster Quota Claim NoImage
    PullFailed WrongPlatform NoVolume NoGpu PortTaken NoSpace Spawn Died OutOfMemory NotReady
    Connect Proxy Tls Timeout Interrupted Unauthorized Forbidden NotFound Conflict Validation
    RateLimited Status Server Decode LoginExpired Io NotAnAgentServer NoServer
    Unsupported);
#[cfg(feature = "workspace")]
wrap!(Workspace, oh_workspace:
    InvalidInput NotFound InvalidPath PermissionDenied OutsideWorkspace NoSpace NotStarted
    OutputLost ServerRestarted ServerGone Changed NotText Io Connect Proxy Tls NotRemoved
    Interrupted Timeout NotARepository UnknownRef Git Unauthorized Forbidden Conflict
    RateLimited Server NotAnAgentServer Unsupported Validation Status Decode Handshake);
#[cfg(feature = "conversation")]
wrap!(Conversation, oh_conversation:
    InvalidInput Unauthorized Gone NotFound UnknownTool NoVision Validation Unsupported Leased
    Ambiguous AgentMismatch PendingConfirmation NothingPending NotFinished Replaced ServerGone
    Closed NoAnswer Conflict RateLimited NotAnAgentServer Connect Proxy Tls Timeout
    Interrupted Forbidden Server Status Decode Handshake Cancelled NoServer Journal);
#[cfg(feature = "admin")]
wrap!(Admin, oh_admin:
    InvalidInput NotFound Conflict Validation Unsupported Unauthorized Forbidden RateLimited
    Server NotAnAgentServer Connect Proxy Tls Timeout Interrupted LoginExpired Status Decode);
#[cfg(feature = "control")]
wrap!(Control, oh_control:
    InvalidInput Unauthorized Forbidden Gone Validation Unsupported Ambiguous AgentMismatch
    PendingConfirmation Conflict RateLimited Server NotAnAgentServer Connect Proxy Tls Timeout
    Interrupted Status Decode);
#[cfg(feature = "hooks")]
wrap!(Hooks, oh_hooks: Io NoSpace Decode InvalidInput Unsupported);
wrap!(Protocol, oh_protocol: Decode Encode InvalidInput Unsupported);
#[cfg(feature = "testkit")]
wrap!(Testkit, oh_testkit: Bind PortTaken Unmet NotFound InvalidInput);

enum Inner {
    Protocol(oh_protocol::Error),
    Transport(oh_transport::Error),
    #[cfg(feature = "process")]
    Process(oh_process::Error),
    #[cfg(feature = "fleet")]
    Sandbox(oh_sandbox::Error),
    #[cfg(feature = "workspace")]
    Workspace(oh_workspace::Error),
    #[cfg(feature = "conversation")]
    Conversation(oh_conversation::Error),
    #[cfg(feature = "admin")]
    Admin(oh_admin::Error),
    #[cfg(feature = "control")]
    Control(oh_control::Error),
    #[cfg(feature = "hooks")]
    Hooks(oh_hooks::Error),
    #[cfg(feature = "testkit")]
    Testkit(oh_testkit::Error),
}

/// Evaluates an expression on the error of the crate that failed.
macro_rules! each {
    ($this:expr, $error:ident => $value:expr) => {
        match &$this.0 {
            Inner::Protocol($error) => $value,
            Inner::Transport($error) => $value,
            #[cfg(feature = "process")]
            Inner::Process($error) => $value,
            #[cfg(feature = "fleet")]
            Inner::Sandbox($error) => $value,
            #[cfg(feature = "workspace")]
            Inner::Workspace($error) => $value,
            #[cfg(feature = "conversation")]
            Inner::Conversation($error) => $value,
            #[cfg(feature = "admin")]
            Inner::Admin($error) => $value,
            #[cfg(feature = "control")]
            Inner::Control($error) => $value,
            #[cfg(feature = "hooks")]
            Inner::Hooks($error) => $value,
            #[cfg(feature = "testkit")]
            Inner::Testkit($error) => $value,
        }
    };
}

impl Error {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        each!(self, error => error.kind().into())
    }

    /// Returns whether a time limit expired.
    pub fn is_timeout(&self) -> bool {
        each!(self, error => error.is_timeout())
    }

    /// Returns whether the same operation may succeed later without a change. Does not mean that
    /// repeating the operation is safe.
    pub fn is_transient(&self) -> bool {
        each!(self, error => error.is_transient())
    }

    /// Returns whether the server rejected the session key.
    pub fn is_auth(&self) -> bool {
        each!(self, error => error.is_auth())
    }

    /// Returns the HTTP status, if a response of the server is the cause.
    pub fn status(&self) -> Option<http::StatusCode> {
        each!(self, error => error.status())
    }

    /// Returns the transport error, if a failed request or socket is the cause: path, the server's
    /// explanation, rejected fields, `Retry-After`, and the code of a close frame.
    pub fn transport_error(&self) -> Option<&oh_transport::Error> {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(self.get_ref());
        while let Some(cause) = error {
            if let Some(found) = cause.downcast_ref() {
                return Some(found);
            }
            error = cause.source();
        }
        None
    }

    /// Returns the error of the crate that failed. Use `downcast_ref` to get its type.
    pub fn get_ref(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        each!(self, error => error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, error => fmt::Display::fmt(error, f))
    }
}

// `main` and `unwrap` print the `Debug` form, so it is the crate's, which has the message.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, error => fmt::Debug::fmt(error, f))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        each!(self, error => error.source())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        fs::read_to_string(root.join(path)).unwrap()
    }

    /// Returns the variants of the `ErrorKind` in a file.
    fn variants(path: &str) -> BTreeSet<String> {
        let text = read(path);
        let (_, body) = text.split_once("pub enum ErrorKind {").unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let lines = body.lines().map(|line| line.trim().trim_end_matches(','));
        let names = lines.filter(|line| !line.is_empty() && !line.starts_with('/'));
        names.map(str::to_owned).collect()
    }

    #[test]
    fn each_kind_of_each_crate_has_the_same_name_here() {
        let text = read("openhands/src/error.rs");
        let mut all = BTreeSet::new();
        for name in [
            "protocol",
            "transport",
            "process",
            "sandbox",
            "workspace",
            "conversation",
            "admin",
            "control",
            "hooks",
            "testkit",
        ] {
            let listed = text.split_once(&format!(", oh_{name}:")).unwrap().1;
            let listed = listed.split_once(')').unwrap().0.split_whitespace();
            let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
            let theirs = variants(&format!("oh-{name}/src/error.rs"));
            assert_eq!(listed, theirs, "oh-{name}");
            all.extend(theirs);
        }
        assert_eq!(variants("openhands/src/error.rs"), all);
    }

    #[test]
    fn an_error_keeps_its_kind_message_and_answers() {
        fn ask() -> Result<()> {
            let unauthorized = http::StatusCode::UNAUTHORIZED;
            Err(oh_transport::Error::from_status(unauthorized))?
        }
        let error = ask().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.is_auth() && !error.is_transient() && !error.is_timeout());
        assert_eq!(error.status().unwrap(), 401);
        let message = error.to_string();
        assert!(
            message.starts_with("the server returned 401 Unauthorized; set the"),
            "{message}"
        );
        assert_eq!(format!("{error:?}"), format!("Unauthorized: {message}"));
        assert_eq!(error.transport_error().unwrap().status().unwrap(), 401);
        assert!(error.get_ref().is::<oh_transport::Error>());
    }
}
