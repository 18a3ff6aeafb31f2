//! The error type of this crate, with the end and the last output of the container that failed.

use oh_process::ExitReport;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value from the caller is invalid, or the engine rejected it. Nothing was started. Correct
    /// the value that the message names.
    InvalidInput,
    /// No container engine answers. Start Docker or Podman, or set `DOCKER_HOST`. The message lists
    /// the addresses that were tried.
    NoEngine,
    /// Access to the engine is denied. For a socket, add this user to its group (for Docker,
    /// `docker`), or use a rootless engine. For TLS and ssh, use a certificate or a key that the
    /// engine's machine accepts.
    EngineDenied,
    /// The engine failed, for another reason. The message contains the engine's own message.
    Engine,
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
    /// The requested port is taken, or the engine has no free port left. Remove containers that
    /// publish ports, or widen the engine's range of ports.
    PortTaken,
    /// The device of the engine has no space left. Free some space: remove unused images and
    /// containers.
    NoSpace,
    /// The process that removes the container after the end of this program could not be started.
    /// Install Python 3.9 or newer, or call `without_keeper`.
    Spawn,
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
    /// The claim of a sandbox has failed. `Error::claim_failure` returns the reason, and the
    /// message says what to do.
    Claim,
    /// The code of a login has expired before the user confirmed it. Start another login.
    LoginExpired,
    /// The file of a login's token, or its directory, cannot be read or written. Correct its
    /// permissions. The message contains its path.
    Io,
    /// The server ended before it was ready, or while it was working. [`Error::exit`] and
    /// [`Error::log_tail`] show why.
    Died,
    /// The kernel killed the server because the memory limit of the container was reached. Set a
    /// higher limit with `memory`.
    OutOfMemory,
    /// The server was not ready by its deadline. Set a longer deadline with `ready_within`.
    NotReady,
    /// The connection could not be opened. The server has not seen the request. Check that the
    /// container runs, and try again later.
    Connect,
    /// The proxy rejected the request. The server has not seen the request. Correct the proxy's URL
    /// or its credentials, or list the host in `NO_PROXY`.
    Proxy,
    /// The TLS handshake failed. The server has not seen the request. Check the URL and the
    /// certificate.
    Tls,
    /// A request to the server or to the engine took too long, and may have been executed. Check
    /// whether the machine is overloaded, and try again.
    Timeout,
    /// The connection ended before the response was complete, or no response arrived. The server
    /// may have acted. Check that the container still runs, and try again.
    Interrupted,
    /// The server rejects the session key, or a hosted service its own key (status 401). Use the
    /// key that the server was started with, or a valid key of the service.
    Unauthorized,
    /// The server, or a gateway in front of it, does not permit the request (status 403). Check the
    /// session key and the gateway.
    Forbidden,
    /// The engine does not have the container, the server does not have the requested resource, or
    /// a hosted service does not have the sandbox any more. Check the id, or start another sandbox.
    NotFound,
    /// The name of the container is in use, or its state does not allow the operation. Use another
    /// name, or wait for the state to change.
    Conflict,
    /// The server rejected a value (status 400 or 422). Correct the value that the message names.
    Validation,
    /// The server accepts no more requests at the moment, or the quota of a hosted service is used
    /// up (status 429). Wait as long as `retry_after` of the transport error says.
    RateLimited,
    /// The server returned any other 3xx or 4xx status. The message contains it.
    Status,
    /// The server failed, or is overloaded, restarting or dormant (status 5xx). Try again later.
    Server,
    /// The response could not be decoded. Check that this crate supports the server's version.
    Decode,
    /// The image or the container has no OpenHands agent server, or has one that works differently.
    /// Correct the name of the image.
    NotAnAgentServer,
    /// The fleet could not start a server. The message has the reason. Correct the provider of the
    /// fleet.
    NoServer,
    /// Not supported: the server's version is too old (use server 1.40 or newer), or this build
    /// cannot connect to the engine in this way. The message has the reason.
    Unsupported,
}

oh_process::server_error!(
    /// An error about a server in a container.
    ///
    /// Never contains a key or the value of an environment variable.
);

impl Error {
    /// Creates the error of a part that is shared with local servers.
    pub(crate) fn shared(context: impl Into<String>, source: oh_process::Error) -> Self {
        match source.transport_error() {
            Some(wire) => {
                let kind = oh_transport::same_kind!(wire.kind(); NotFound);
                Self::new(kind, context).with_source(source)
            }
            None => {
                let kind = match source.kind() {
                    oh_process::ErrorKind::Unsupported => ErrorKind::Unsupported,
                    oh_process::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
                    _ => ErrorKind::Spawn,
                };
                Self::new(kind, context).with_source(source)
            }
        }
    }
}

/// Returns the failed request behind an error of a part that is shared with local servers.
fn behind_local<'a>(
    source: &'a (dyn std::error::Error + Send + Sync + 'static),
) -> &'a (dyn std::error::Error + Send + Sync + 'static) {
    let local = source.downcast_ref::<oh_process::Error>();
    match local.and_then(oh_process::Error::transport_error) {
        Some(wire) => wire,
        None => source,
    }
}

oh_transport::requests!(Error, error => error.0.source.as_deref().map(behind_local);
    timeout: NotReady; transient: NotReady PullFailed NoEngine NoCluster Quota);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_reason_the_end_and_the_last_lines() {
        let error = Error::new(ErrorKind::Died, "the server ended before it was ready")
            .with_exit(ExitReport::of_container(Some(137), true))
            .with_log_tail(vec!["one".into(), "two\x1b[2J".into()]);
        let shown = error.to_string();
        let expected = "the server ended before it was ready (killed by SIGKILL: out of memory); \
                        last output:\n  one\n  two";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}

#[cfg(test)]
oh_transport::request_tests!(wire => Error::transport("cannot ask", wire); NotFound);
