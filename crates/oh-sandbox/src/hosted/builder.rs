//! The builder for a server in a runtime of the Runtime API.

use std::{fmt, time::Duration};

use oh_transport::Network;
use secrecy::SecretString;

use crate::{
    HostedServer, Pull, Result,
    hosted::settings::{AtEnd, Settings},
};

/// Configures and starts a [`HostedServer`].
///
/// No variable of this process is passed on, unless [`forward_env`](Self::forward_env) names it.
/// Values of variables are sent to the Runtime API, which stores them with the runtime.
///
/// ```no_run
/// # async fn start(key: oh_sandbox::secrecy::SecretString) -> oh_sandbox::Result<()> {
/// use oh_sandbox::{AtEnd, HostedServer};
///
/// let server = HostedServer::builder("https://runtime.example.com", key)
///     .session_id("review-1234")
///     .at_end(AtEnd::Pause)
///     .start()
///     .await?;
/// println!("{}", server.url());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct HostedServerBuilder {
    settings: Settings,
}

impl HostedServer {
    /// Creates a builder for a runtime of the Runtime API at `url`, with the key that the service
    /// has given you (`X-API-Key`).
    pub fn builder(url: impl Into<String>, key: impl Into<SecretString>) -> HostedServerBuilder {
        HostedServerBuilder {
            settings: Settings::new(url.into(), key.into()),
        }
    }
}

impl HostedServerBuilder {
    /// Sets the session id: 1 to 128 letters, digits, `-`, `_` and `.`. Default: a random one.
    ///
    /// If the session has a runtime that works or is paused, the server in it is used, and the
    /// image and other settings have no effect. Otherwise a runtime is started. A paused runtime
    /// that cannot be resumed is an error. If the start fails, a runtime that existed before stays.
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.settings.session_id = Some(id.into());
        self
    }

    /// Sets the image, which the service must be able to download. Default:
    /// [`DockerServer::default_image`](crate::DockerServer::default_image).
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.settings.image = image.into();
        self
    }

    /// Sets when the image is downloaded. Default [`Pull::Missing`].
    pub fn pull(mut self, pull: Pull) -> Self {
        self.settings.pull = pull;
        self
    }

    /// Sets the command that starts the server in the image. Default:
    /// `/usr/local/bin/openhands-agent-server --port 60000`, which the published image has. The
    /// service expects the server at this port.
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.settings.command = command.into();
        self
    }

    /// Sets the id of the user that the server runs as, and of the group that owns its files.
    /// Default 10001, as in the published image.
    pub fn user(mut self, id: u32) -> Self {
        self.settings.user = id;
        self
    }

    /// Sets the directory in the runtime of conversations that do not name one. Default
    /// `/workspace`.
    pub fn workspace(mut self, path: impl Into<String>) -> Self {
        self.settings.workspace = path.into();
        self
    }

    /// Sets the multiple of the usual memory and processors: 1, 2, 4 or 8. Default 1.
    pub fn resource_factor(mut self, factor: u8) -> Self {
        self.settings.resource_factor = factor;
        self
    }

    /// Sets how the service isolates the runtime, or `None` for the service's default. Default
    /// `sysbox-runc`.
    pub fn runtime_class<'a>(mut self, class: impl Into<Option<&'a str>>) -> Self {
        self.settings.runtime_class = class.into().map(str::to_owned);
        self
    }

    /// Sets an environment variable of the server and of the agent's shell. The service can read
    /// the value.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        let variable = (name.into(), value.into());
        self.settings.variables.push(variable);
        self
    }

    /// Passes on a variable of this process, if it is set. No other variable is passed on.
    pub fn forward_env(mut self, name: impl Into<String>) -> Self {
        self.settings.forwarded.push(name.into());
        self
    }

    /// Sets what happens to the runtime at the end. Default [`AtEnd::Remove`].
    pub fn at_end(mut self, at_end: AtEnd) -> Self {
        self.settings.at_end = at_end;
        self
    }

    /// Sets how long the Runtime API may take to answer the request that starts or resumes a
    /// runtime. Default 300 s.
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.settings.times.start = limit;
        self
    }

    /// Sets how long the runtime may take from then on until its server is ready, also in
    /// [`HostedServer::resume`]. A pod that waits for a machine or for its image counts. Default
    /// 300 s.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.settings.times.ready = limit;
        self
    }

    /// Sets how long a request to the server may take, such as the first message of a conversation:
    /// it can take over a minute although the server is ready, because the agent's tools start with
    /// it. Default 300 s.
    pub fn first_message_within(mut self, limit: Duration) -> Self {
        self.settings.times.first_message = limit;
        self
    }

    /// Sets how long each other request to the Runtime API may take. Default 60 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.settings.times.request = limit;
        self
    }

    /// Sets the delay between two requests for the state of a runtime that is not ready. A
    /// `Retry-After` is respected. Default 2 s.
    pub fn poll_every(mut self, delay: Duration) -> Self {
        self.settings.times.poll = delay;
        self
    }

    /// Sets the delay between two requests for the state of a runtime that works. Default 10 s.
    pub fn watch_every(mut self, delay: Duration) -> Self {
        self.settings.times.watch = delay;
        self
    }

    /// Sets the network for requests to the Runtime API and to the server, for example one with a
    /// proxy or a private certificate authority. Default: one with default settings.
    pub fn network(mut self, network: Network) -> Self {
        self.settings.network = Some(network);
        self
    }

    /// Starts a runtime, or finds the one of the session, and waits until its server is ready. The
    /// server is verified: it must accept the key that the Runtime API reports, and no other.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput) if a setting is invalid.
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized) or
    ///   [`Forbidden`](crate::ErrorKind::Forbidden) if the Runtime API rejects the key.
    /// - [`RateLimited`](crate::ErrorKind::RateLimited) if a quota is used up. The delay that the
    ///   service asks for is in `transport_error()`.
    /// - [`Died`](crate::ErrorKind::Died), [`OutOfMemory`](crate::ErrorKind::OutOfMemory) or
    ///   [`NotFound`](crate::ErrorKind::NotFound) if the runtime fails or vanishes.
    /// - [`NotReady`](crate::ErrorKind::NotReady) if it does not become ready in time.
    /// - [`Decode`](crate::ErrorKind::Decode) if the Runtime API's response is malformed.
    ///
    /// The runtime is stopped after an error, unless it existed before or is to be kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the runtime, unless it existed before or is to be kept.
    pub async fn start(self) -> Result<HostedServer> {
        HostedServer::start(self.settings).await
    }
}

impl fmt::Debug for HostedServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedServerBuilder")
            .field("session_id", &self.settings.session_id)
            .field("image", &self.settings.image)
            .finish_non_exhaustive()
    }
}
