//! [`DockerServer`], which owns a server in a container and gives access to it.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use oh_process::internal::{self, Activation, LogHub};
use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, Network, WorkspaceHandle};
use secrecy::SecretString;
use tokio::{sync::watch, task::JoinHandle};
use tracing::debug;
use url::Url;

use crate::{
    Engine, Error, ErrorKind, ExitReport, Logs, Request, Result, Sandbox, Status, StatusWatch,
    docker::{
        address::{free_port, host_port, url_of},
        config,
        container::Container,
        ended::{ended_early, no_port},
        image,
        launch::{Launched, Prepared, failed},
        ready, refused,
        settings::{PORT, Settings},
        supervise::{Followed, Reporter},
    },
};

/// A running server in a container, owned by this value. The container is gone when this value is
/// dropped, when [`shutdown`](Self::shutdown) returns, and when this process ends for any reason.
///
/// Dropping waits until the container is removed, which usually takes less than half a second.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::DockerServer;
///
/// let server = DockerServer::builder().start().await?;
/// server.pause().await?;
/// server.resume().await?;
/// let report = server.shutdown(Duration::from_secs(5)).await?;
/// assert!(report.success());
/// # Ok(()) }
/// ```
#[must_use = "the container is removed when this is dropped"]
pub struct DockerServer {
    /// Not set if the container belongs to others, or was removed.
    container: Option<Container>,
    engine: Engine,
    id: String,
    client: Client,
    key: SecretString,
    info: Arc<ServerInfo>,
    logs: LogHub,
    published: Vec<(u16, SocketAddr)>,
    workspace: String,
    deadline: Duration,
    /// The image to remove at the end.
    image: Option<String>,
    reporter: Arc<Reporter>,
    status: watch::Receiver<Status>,
    watcher: JoinHandle<()>,
    ended: watch::Receiver<Option<ExitReport>>,
    /// Not set if the server accepts work.
    dormant: Option<Dormant>,
}

impl DockerServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        let prepared = Prepared::new(&settings).await?;
        let keys = match settings.keys.as_slice() {
            [] => vec![internal::random_key()],
            keys => keys.to_vec(),
        };
        let key = keys.first().cloned().unwrap_or_else(internal::random_key);
        let secret_key = settings
            .secret_key
            .clone()
            .unwrap_or_else(internal::random_key);
        let mut secrets = keys.clone();
        secrets.push(secret_key.clone());
        secrets.extend(
            settings
                .chosen_variables()
                .into_iter()
                .map(|(_, value)| value),
        );
        let logs = LogHub::new(secrets);
        let port = match settings.shares_network() {
            true => free_port(settings.published_on)?,
            false => PORT,
        };
        let files = config::archive(&keys, &secret_key)?;
        let Launched {
            engine,
            host,
            container,
            mut followed,
        } = prepared.start(&settings, port, files, &logs).await?;
        let begin = async {
            let mut ports = settings.ports.clone();
            ports.push(port);
            let published = ready::published(&engine, &container.id, &ports).await?;
            let url = match (settings.shares_network(), host_port(&published, port)) {
                (true, _) => url_of(host, port),
                (false, Some(published)) => url_of(host, published),
                (false, None) => return Err(no_port(&engine, &container.id).await),
            };
            let info = match settings.dormant {
                true => ready::verified_dormant(&url, &secret_key, settings.deadline).await?,
                false => ready::verified(&url, &key, settings.deadline).await?,
            };
            Ok((published, url, info))
        };
        let begun = tokio::select! {
            biased;
            end = followed.end() => Err(ended_early(&end)),
            begun = begin => begun,
        };
        let (published, url, info) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err(failed(container, &mut followed, &logs, error).await),
        };
        if !settings.keep {
            // A server that is restarted in this container accepts nobody's key.
            let unknown = config::archive(&[internal::random_key()], &internal::random_key())?;
            container.upload(unknown).await?;
        }
        let id = container.id.clone();
        let network = ready::network()?;
        let parts = Parts {
            client: ready::client(&url, Some(&key), &network)?,
            engine,
            id,
            key,
            info,
            logs,
            published,
            workspace: settings.workspace.clone(),
            deadline: settings.deadline,
            image: settings.remove_image.then(|| settings.image.clone()),
            dormant: settings.dormant.then_some(Dormant {
                init_key: secret_key,
                keys,
                port,
                network: network.clone(),
            }),
        };
        let container = match settings.keep {
            true => {
                container.keep().await?;
                None
            }
            false => Some(container),
        };
        Ok(Self::supervised(parts, container, followed))
    }

    pub(crate) fn supervised(
        parts: Parts,
        container: Option<Container>,
        mut followed: Followed,
    ) -> Self {
        let (reporter, status) = Reporter::new(parts.client.clone());
        let ended = followed.ended.clone();
        let (reporting, logs) = (reporter.clone(), parts.logs.clone());
        let watcher = tokio::spawn(async move {
            let report = followed.end().await;
            debug!(%report, "the container has ended");
            reporting.set(Status::Exited(report));
            logs.close();
        });
        Self {
            container,
            engine: parts.engine,
            id: parts.id,
            client: parts.client,
            key: parts.key,
            info: parts.info,
            logs: parts.logs,
            published: parts.published,
            workspace: parts.workspace,
            deadline: parts.deadline,
            image: parts.image,
            reporter,
            status,
            watcher,
            ended,
            dormant: parts.dormant,
        }
    }

    /// Returns the base URL, such as `http://127.0.0.1:32768`.
    pub fn url(&self) -> &Url {
        self.client.base_url()
    }

    /// Returns a client with this server's key.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the key that [`client`](Self::client) uses.
    pub fn session_api_key(&self) -> &SecretString {
        &self.key
    }

    /// Returns the information that the server sent when it became ready.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Returns the directory in the container of conversations that do not name one.
    pub fn workspace_dir(&self) -> &str {
        &self.workspace
    }

    /// Returns the id of the container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the engine that runs the container.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the address at which a port of the container is published. See
    /// [`publish`](crate::DockerServerBuilder::publish).
    pub fn published(&self, port: u16) -> Option<SocketAddr> {
        let mut ports = self.published.iter();
        ports
            .find(|(known, _)| *known == port)
            .map(|(_, address)| *address)
    }

    /// Returns a watch on the server's status.
    pub fn status(&self) -> StatusWatch {
        internal::status_watch(self.status.clone())
    }

    /// Returns a stream of the lines that the server writes from now on, without its secrets. The
    /// same lines are sent to `tracing`, with target `openhands::server`. After a restart of the
    /// engine, lines of one second may be repeated.
    pub fn logs(&self) -> Logs {
        self.logs.subscribe()
    }

    /// Returns the last lines that the server wrote, oldest first; at most 200.
    pub fn log_tail(&self) -> Vec<String> {
        self.logs.tail()
    }

    /// Freezes all processes of the container. They keep their memory, and use no CPU time. The
    /// status is [`Status::Paused`] until [`resume`](Self::resume). A run that waits for the server
    /// continues to wait.
    ///
    /// # Errors
    ///
    /// Returns an error if the container does not run, or is paused already.
    pub fn pause(&self) -> Request<()> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        let reporter = self.reporter.clone();
        Request::new(async move {
            let paused = engine.docker.pause_container(&id).await;
            paused.map_err(|error| refused::error("cannot pause the container", error))?;
            reporter.set(Status::Paused);
            Ok(())
        })
    }

    /// Continues the processes of a paused container, and waits until the server is ready and
    /// verified again.
    ///
    /// # Errors
    ///
    /// Returns an error if the container is not paused, or if the server is not ready within the
    /// time of [`ready_within`](crate::DockerServerBuilder::ready_within).
    pub fn resume(&self) -> Request<()> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        let (reporter, deadline) = (self.reporter.clone(), self.deadline);
        let (url, key) = (self.url().clone(), self.key.clone());
        Request::new(async move {
            let resumed = engine.docker.unpause_container(&id).await;
            resumed.map_err(|error| refused::error("cannot resume the container", error))?;
            reporter.set(Status::Starting);
            ready::verified(url.as_str(), &key, deadline).await?;
            reporter.set(Status::Ready);
            Ok(())
        })
    }

    /// Shuts the server down: sends SIGTERM, after `grace` kills everything in the container, and
    /// removes the container, unless it is to be [kept](crate::DockerServerBuilder::keep). The
    /// server first pauses its conversations. A paused container is resumed first.
    ///
    /// Cancel-safe: dropping the future removes the container at once, unless it is to be kept.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not stop or remove the container. A keeper process then
    /// tries again for some minutes.
    pub async fn shutdown(mut self, grace: Duration) -> Result<ExitReport> {
        let begun = Instant::now();
        let mut report = self.stop(grace).await?;
        report.duration = begun.elapsed();
        if let Some(container) = self.container.take() {
            container.remove().await?;
        }
        if let Some(image) = self.image.take() {
            image::remove(&self.engine, &image).await?;
        }
        Ok(report)
    }

    /// Stops and removes the container, even if it was to be
    /// [kept](crate::DockerServerBuilder::keep).
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub async fn remove(self, grace: Duration) -> Result<ExitReport> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        let report = self.shutdown(grace).await?;
        engine.remove(&id).await?;
        Ok(report)
    }

    /// Activates a dormant server, and verifies that it accepts the new key and no other.
    pub(crate) async fn activate_as(&mut self, own: &Activation) -> Result<()> {
        let Some(dormant) = &self.dormant else {
            let message = "the server is not dormant";
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        // The keys are for this container only: another program may have got the port of a
        // container that has ended.
        if !self.engine_has(dormant.port).await? {
            let message = "the container of the dormant server has ended";
            return Err(Error::new(ErrorKind::Died, message));
        }
        self.logs.hide(own.secrets());
        let url = self.url().as_str();
        let client = match own.key() {
            None => self.client.clone(),
            Some(key) => ready::client(url, Some(key), &dormant.network)?,
        };
        let init = own.call(&dormant.init_key, &dormant.keys);
        let failed = |error| Error::shared("cannot activate the server in the container", error);
        internal::activate(&client, &init).await.map_err(failed)?;
        let key = own.key().unwrap_or(&self.key).clone();
        let anonymous = ready::client(url, None, &dormant.network)?;
        let accepts = internal::accepts_only(&anonymous, &key).await;
        match accepts.map_err(failed)? {
            Some(true) => {}
            Some(false) => {
                let message = "the activated server accepts other keys than its own";
                return Err(Error::new(ErrorKind::NotAnAgentServer, message));
            }
            None => {
                let message = "the server ended during its activation";
                return Err(Error::new(ErrorKind::Died, message));
            }
        }
        self.dormant = None;
        self.key = key;
        self.reporter.adopt(&client);
        self.client = client;
        Ok(())
    }

    /// Asks the engine whether the container runs and has the port of this server's address.
    async fn engine_has(&self, port: u16) -> Result<bool> {
        let Some(known) = self.published.iter().find(|(known, _)| *known == port) else {
            // With the network of the machine, nothing is published.
            return Ok(self.engine.end_of(&self.id).await?.is_none());
        };
        // Empty if the container does not run.
        let found = ready::published(&self.engine, &self.id, &[port]).await?;
        Ok(found.contains(known))
    }

    pub(crate) fn status_now(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    async fn stop(&mut self, grace: Duration) -> Result<ExitReport> {
        if let Status::Paused = &*self.status.borrow() {
            debug!("resuming the paused container to stop it");
        }
        self.reporter.set(Status::Stopping);
        self.engine.stop(&self.id, grace).await?;
        // Cannot fail: the task sets the report before it ends.
        let _ended = (&mut self.watcher).await;
        let report = self.ended.borrow().clone();
        let mut report = report.unwrap_or_else(|| ExitReport::of_container(None, false));
        report.killed = report.signal == Some(9) && !report.out_of_memory;
        Ok(report)
    }
}

/// The parts of a running server.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) id: String,
    pub(crate) client: Client,
    pub(crate) key: SecretString,
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) logs: LogHub,
    pub(crate) published: Vec<(u16, SocketAddr)>,
    pub(crate) workspace: String,
    pub(crate) deadline: Duration,
    pub(crate) image: Option<String>,
    pub(crate) dormant: Option<Dormant>,
}

/// Values that activate a dormant server.
pub(crate) struct Dormant {
    /// The secret key that the server was started with.
    pub(crate) init_key: SecretString,
    /// The session keys that it accepts if the activation sets no other.
    pub(crate) keys: Vec<SecretString>,
    /// The server's port in the container.
    pub(crate) port: u16,
    /// The network of the server's clients, whose connections are open.
    pub(crate) network: Network,
}

impl Drop for DockerServer {
    fn drop(&mut self) {
        // The order matters: first the container, then the task that would report its end.
        drop(self.container.take());
        self.watcher.abort();
        self.logs.close();
        self.reporter.removed();
    }
}

impl WorkspaceHandle for DockerServer {
    fn client(&self) -> &Client {
        &self.client
    }

    fn working_dir(&self) -> &str {
        &self.workspace
    }
}

impl AsRef<Client> for DockerServer {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl Sandbox for DockerServer {
    fn id(&self) -> &str {
        self.id()
    }

    fn info(&self) -> &ServerInfo {
        self.info()
    }

    fn status(&self) -> StatusWatch {
        self.status()
    }

    fn logs(&self) -> Logs {
        self.logs()
    }

    fn log_tail(&self) -> Vec<String> {
        self.log_tail()
    }

    fn pause(&self) -> Request<()> {
        self.pause()
    }

    fn resume(&self) -> Request<()> {
        self.resume()
    }

    fn shutdown(self: Box<Self>, grace: Duration) -> Request<ExitReport> {
        Request::new((*self).shutdown(grace))
    }
}

impl fmt::Debug for DockerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerServer")
            .field("url", &self.url().as_str())
            .field("container", &self.id)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
