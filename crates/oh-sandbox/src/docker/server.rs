//! [`DockerServer`], which owns a server in a container and gives access to it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use oh_process::internal::{self, Activation};
use oh_transport::Network;
use secrecy::SecretString;
use tokio::{sync::watch, task::JoinHandle};
use tracing::debug;

use crate::{
    Engine, Error, ErrorKind, ExitReport, Request, Result, Status,
    docker::{
        address::{free_port, host_port, url_of},
        config,
        container::Container,
        ended::{ended_early, no_port},
        image,
        launch::{Launched, Prepared, failed},
        ready, refused,
        settings::{PORT, Settings},
        supervise::Followed,
    },
    running::{RunningServer, running_server},
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
    running: RunningServer,
    published: Vec<(u16, SocketAddr)>,
    deadline: Duration,
    /// The image to remove at the end.
    image: Option<String>,
    watcher: JoinHandle<()>,
    ended: watch::Receiver<Option<ExitReport>>,
    /// Not set if the server accepts work.
    dormant: Option<Dormant>,
}

running_server!(
    DockerServer,
    "Returns the id of the container.",
    "container",
    fn pause(&self) -> Request<()> {
        self.pause()
    },
    fn resume(&self) -> Request<()> {
        self.resume()
    }
);

impl DockerServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        let prepared = Prepared::new(&settings).await?;
        let keys = settings.options.keys();
        let logs = settings.options.log_hub(&keys);
        let port = match settings.shares_network() {
            true => free_port(settings.published_on)?,
            false => PORT,
        };
        let files = config::archive(&keys.session, &keys.secret)?;
        let Launched {
            engine,
            host,
            container,
            mut followed,
        } = prepared.start(&settings, port, files, &logs).await?;
        let deadline = settings.options.server.deadline;
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
                true => ready::verified_dormant(&url, &keys.secret, deadline).await?,
                false => ready::verified(&url, &keys.first, deadline).await?,
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
        let client = ready::client(&url, Some(&keys.first), &network)?;
        let workspace = settings.workspace.clone();
        let parts = Parts {
            engine,
            running: RunningServer::new(id, client, keys.first, info, logs, workspace),
            published,
            deadline,
            image: settings.remove_image.then(|| settings.image.clone()),
            dormant: settings.dormant.then_some(Dormant {
                init_key: keys.secret,
                keys: keys.session,
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
        let ended = followed.ended.clone();
        let on_end = parts.running.on_end();
        let watcher = tokio::spawn(async move { on_end(&followed.end().await) });
        Self {
            container,
            engine: parts.engine,
            running: parts.running,
            published: parts.published,
            deadline: parts.deadline,
            image: parts.image,
            watcher,
            ended,
            dormant: parts.dormant,
        }
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

    /// Freezes all processes of the container. They keep their memory, and use no CPU time. The
    /// status is [`Status::Paused`] until [`resume`](Self::resume). A run that waits for the server
    /// continues to wait.
    ///
    /// # Errors
    ///
    /// Returns an error if the container does not run, or is paused already.
    pub fn pause(&self) -> Request<()> {
        let (engine, id) = (self.engine.clone(), self.running.id.clone());
        let reporter = self.running.reporter.clone();
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
        let (engine, id) = (self.engine.clone(), self.running.id.clone());
        let (reporter, deadline) = (self.running.reporter.clone(), self.deadline);
        let (url, key) = (self.url().clone(), self.running.key.clone());
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
        let (engine, id) = (self.engine.clone(), self.running.id.clone());
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
        self.running.logs.hide(own.secrets());
        let url = self.url().as_str();
        let client = match own.key() {
            None => self.client().clone(),
            Some(key) => ready::client(url, Some(key), &dormant.network)?,
        };
        let init = own.call(&dormant.init_key, &dormant.keys);
        let failed = |error| Error::shared("cannot activate the server in the container", error);
        internal::activate(&client, &init).await.map_err(failed)?;
        let key = own.key().unwrap_or(self.session_api_key()).clone();
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
        self.running.key = key;
        self.running.reporter.adopt(&client);
        self.running.client = client;
        Ok(())
    }

    /// Asks the engine whether the container runs and has the port of this server's address.
    async fn engine_has(&self, port: u16) -> Result<bool> {
        let Some(known) = self.published.iter().find(|(known, _)| *known == port) else {
            // With the network of the machine, nothing is published.
            return Ok(self.engine.end_of(&self.running.id).await?.is_none());
        };
        // Empty if the container does not run.
        let found = ready::published(&self.engine, &self.running.id, &[port]).await?;
        Ok(found.contains(known))
    }

    pub(crate) fn status_now(&self) -> watch::Receiver<Status> {
        self.running.status.clone()
    }

    async fn stop(&mut self, grace: Duration) -> Result<ExitReport> {
        if let Status::Paused = &*self.running.status.borrow() {
            debug!("resuming the paused container to stop it");
        }
        self.running.reporter.set(Status::Stopping);
        self.engine.stop(&self.running.id, grace).await?;
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
    pub(crate) running: RunningServer,
    pub(crate) published: Vec<(u16, SocketAddr)>,
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
        self.running.removed();
    }
}
