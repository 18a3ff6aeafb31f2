//! The builder for a server in a sandbox of OpenHands Cloud.

use std::{fmt, time::Duration};

use oh_transport::Network;
use secrecy::SecretString;

use crate::{
    CloudServer, InsideSandbox, Result,
    hosted::{
        cloud::{api::Cloud, options::Options},
        settings::AtEnd,
    },
};

/// Configures and starts a [`CloudServer`].
///
/// ```no_run
/// # async fn start(key: oh_sandbox::secrecy::SecretString) -> oh_sandbox::Result<()> {
/// use oh_sandbox::{AtEnd, CloudServer};
///
/// let server = CloudServer::builder(key)
///     .at_end(AtEnd::Keep)
///     .start()
///     .await?;
/// println!("{} in sandbox {}", server.url(), server.id());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct CloudServerBuilder {
    options: Options,
}

impl CloudServer {
    /// Creates a builder for a sandbox of OpenHands Cloud, with an API key of the account, or with
    /// the token of a login.
    pub fn builder(key: impl Into<SecretString>) -> CloudServerBuilder {
        CloudServerBuilder {
            options: Options::new(Cloud::builder(key)),
        }
    }
}

impl CloudServerBuilder {
    /// Sets the base URL of the service. Default [`Cloud::URL`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.options.cloud = self.options.cloud.url(url);
        self
    }

    /// Sets the id of the organization that the sandbox belongs to. Default: the one that the
    /// service has stored for the key.
    pub fn organization(mut self, id: impl Into<String>) -> Self {
        self.options.cloud = self.options.cloud.organization(id);
        self
    }

    /// Attaches to the sandbox with this id instead of starting one. A paused sandbox is resumed.
    /// If the attachment fails, the sandbox stays as it is. At the end, [`at_end`](Self::at_end)
    /// applies, so by default the sandbox is deleted.
    pub fn sandbox_id(mut self, id: impl Into<String>) -> Self {
        self.options.sandbox_id = Some(id.into());
        self
    }

    /// Sets the id of the specification of a new sandbox, such as the name of an image. Default:
    /// that of the service.
    pub fn sandbox_spec(mut self, id: impl Into<String>) -> Self {
        self.options.spec = Some(id.into());
        self
    }

    /// Sets the directory in the sandbox of conversations that do not name one. Default
    /// `/workspace/project`.
    pub fn workspace(mut self, path: impl Into<String>) -> Self {
        self.options.workspace = path.into();
        self
    }

    /// Sets what happens to the sandbox at the end. Default [`AtEnd::Remove`], which deletes it.
    pub fn at_end(mut self, at_end: AtEnd) -> Self {
        self.options.at_end = at_end;
        self
    }

    /// Sets how long the service may take to answer the request that starts or resumes a sandbox.
    /// Default 300 s.
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.options.times.start = limit;
        self
    }

    /// Sets how long the sandbox may take from then on until its server is ready, also in
    /// [`CloudServer::resume`]. Default 300 s.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.options.times.ready = limit;
        self
    }

    /// Sets how long a request to the server may take, such as the first message of a conversation:
    /// it can take over a minute although the server is ready, because the agent's tools start with
    /// it. Default 300 s.
    pub fn first_message_within(mut self, limit: Duration) -> Self {
        self.options.times.first_message = limit;
        self
    }

    /// Sets how long each other request to the service may take. Default 60 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.options.times.request = limit;
        self.options.cloud = self.options.cloud.request_timeout(limit);
        self
    }

    /// Sets how long a request that may be repeated waits altogether because of `Retry-After`.
    /// Default 60 s.
    pub fn retry_after_within(mut self, limit: Duration) -> Self {
        self.options.cloud = self.options.cloud.retry_after_within(limit);
        self
    }

    /// Sets the delay between two requests for the state of a sandbox that is not ready. Default
    /// 2 s.
    pub fn poll_every(mut self, delay: Duration) -> Self {
        self.options.times.poll = delay;
        self
    }

    /// Sets the delay between two requests for the state of a sandbox that works. Default 10 s.
    pub fn watch_every(mut self, delay: Duration) -> Self {
        self.options.times.watch = delay;
        self
    }

    /// Sets the network for requests to the service and to the server, for example one with a proxy
    /// or a private certificate authority. Default: one with default settings.
    pub fn network(mut self, network: Network) -> Self {
        self.options.cloud = self.options.cloud.network(network);
        self
    }

    /// Starts a sandbox, or attaches to one, and waits until its server is ready. The server is
    /// verified: it must accept the key that the service reports, and no other.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput) if a setting is invalid.
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized) if the key is wrong or has expired:
    ///   log in again.
    /// - [`Forbidden`](crate::ErrorKind::Forbidden) if the account may not do this.
    /// - [`RateLimited`](crate::ErrorKind::RateLimited) if a quota is used up. The delay that the
    ///   service asks for is in `transport_error()`.
    /// - [`NotFound`](crate::ErrorKind::NotFound) if the sandbox does not exist, or vanishes.
    /// - [`Died`](crate::ErrorKind::Died) if the sandbox fails, with the reason that the
    ///   service gives.
    /// - [`NotReady`](crate::ErrorKind::NotReady) if it does not become ready in time.
    /// - [`Decode`](crate::ErrorKind::Decode) if the service's response is malformed.
    ///
    /// A new sandbox is deleted after an error, unless it is to be kept. There is one exception: if
    /// the response to the request that starts it is lost, its id is not known. The error is
    /// [`Interrupted`](crate::ErrorKind::Interrupted) or [`Timeout`](crate::ErrorKind::Timeout) in
    /// that case; [`Cloud::sandboxes`] shows what was started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future deletes the sandbox, unless it existed before or is to be kept.
    pub async fn start(self) -> Result<CloudServer> {
        self.options.check()?;
        CloudServer::start(self.options).await
    }

    /// Attaches to the server of the sandbox that this process runs in, at 127.0.0.1, and verifies
    /// it. The sandbox belongs to the process that has started it: nothing is paused or deleted at
    /// the end, and only the workspace, the limits and the access to the service of this builder
    /// have an effect.
    ///
    /// ```no_run
    /// # async fn attach(key: oh_sandbox::secrecy::SecretString) -> oh_sandbox::Result<()> {
    /// use oh_sandbox::{CloudServer, InsideSandbox};
    ///
    /// let builder = CloudServer::builder(key);
    /// let server = builder.attach_inside(InsideSandbox::from_env()?).await?;
    /// println!("{}", server.url());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a setting is invalid,
    /// [`NotReady`](crate::ErrorKind::NotReady) if the server is not ready in time, and
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized) if it rejects the session key.
    pub async fn attach_inside(self, sandbox: InsideSandbox) -> Result<CloudServer> {
        self.options.check()?;
        CloudServer::inside(self.options, sandbox).await
    }
}

impl fmt::Debug for CloudServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudServerBuilder")
            .field("sandbox_id", &self.options.sandbox_id)
            .field("sandbox_spec", &self.options.spec)
            .finish_non_exhaustive()
    }
}
