//! A local server: the guard that ends it, and the endpoint that work goes to.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, Liveness};
use secrecy::SecretString;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::debug;
use url::Url;

use crate::{
    Environment, Error, ErrorKind, ExitReport, Logs, Result, Startup, Status, StatusWatch,
    activation::Activation,
    keeper::Keeper,
    plan::{Live, Plan},
    probe::{self, Reservation},
    settings::Settings,
    shared::Shared,
    shell, supervise,
};

/// How often another port is tried when the one chosen is lost.
const PORTS: usize = 5;

/// A server of our own on this machine. It is gone, with everything it started, when this is
/// dropped, when [`shutdown`](Self::shutdown) returns, and when this process ends in whatever way.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_process::Error> {
/// use std::time::Duration;
/// use oh_process::LocalServer;
///
/// let server = LocalServer::builder().start().await?;
/// println!("{} (process {})", server.url(), server.pid());
/// let report = server.shutdown(Duration::from_secs(5)).await?;
/// assert!(report.success());
/// # Ok(()) }
/// ```
#[must_use = "the server ends when this is dropped"]
pub struct LocalServer {
    shared: Arc<Shared>,
    client: Client,
    key: SecretString,
    info: Arc<ServerInfo>,
    status: watch::Receiver<Status>,
    stop: Option<oneshot::Sender<Duration>>,
    supervisor: Option<JoinHandle<ExitReport>>,
    state_path: PathBuf,
    shell_start: Option<Duration>,
    // The port stays ours over restarts, as far as the operating system lets us hold it.
    _reservation: Reservation,
}

impl LocalServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        // Boxed: provisioning and starting make large futures.
        let (state, plan, keeper) = Box::pin(Plan::new(settings)).await?;
        let launch = Box::pin(first_launch(&plan, &keeper));
        let (launched, shell_start) = Box::pin(shell::measured_during(&plan, launch)).await;
        let (live, client, info, reservation) = launched?;
        let address = reservation.address;
        let state_path = state.root().to_owned();
        let held = (keeper, state);
        let shared = Arc::new(Shared::new(plan, live.pid, address, client.clone(), held));
        shared.adopt(&client);
        let (status_sender, status) = watch::channel(Status::Ready);
        let (stop, stopped) = oneshot::channel();
        let supervisor = supervise::run(shared.clone(), live, status_sender, stopped);
        Ok(Self {
            client,
            key: shared.plan.key().clone(),
            info,
            status,
            stop: Some(stop),
            supervisor: Some(tokio::spawn(supervisor)),
            state_path,
            shell_start,
            shared,
            _reservation: reservation,
        })
    }

    /// The base URL, such as `http://127.0.0.1:43117`.
    pub fn url(&self) -> &Url {
        self.client.base_url()
    }

    /// A client with this server's key. Good over restarts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The key that [`client`](Self::client) uses.
    pub fn session_api_key(&self) -> &SecretString {
        &self.key
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// What the server said of itself when it became ready.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The directory that conversations work in unless they name another.
    pub fn workspace_dir(&self) -> &Path {
        self.shared.plan.workspace()
    }

    /// How long an interactive shell takes to start in the home that the server was given, at
    /// least. `None` where the server has a home of its own, in which there is nothing to run. From
    /// half a second on, the server may report the first command of a terminal as finished while
    /// it still runs.
    pub fn shell_start(&self) -> Option<Duration> {
        self.shell_start
    }

    /// How the server was started: forked from a [`TemplateServer`](crate::TemplateServer), or cold
    /// and why. Stays as it is over restarts, unless the server's keeper was killed.
    pub fn startup(&self) -> Startup {
        self.shared.plan.startup().clone()
    }

    /// The environment it runs from.
    pub fn environment(&self) -> &Environment {
        &self.shared.plan.environment
    }

    /// The root of its state: conversations, files, keys.
    pub fn state_dir(&self) -> &Path {
        &self.state_path
    }

    /// Follows what the server is doing.
    pub fn status(&self) -> StatusWatch {
        StatusWatch(self.status.clone())
    }

    /// What the server writes from now on, without its secrets. The same goes to `tracing`, with
    /// target `openhands::server`.
    pub fn logs(&self) -> Logs {
        self.shared.plan.logs.subscribe()
    }

    /// The last lines it wrote, oldest first; at most 200.
    pub fn log_tail(&self) -> Vec<String> {
        self.shared.plan.logs.tail()
    }

    /// Its process; the last one, while there is none.
    pub fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::Acquire)
    }

    /// Ends the server in order: SIGTERM to its process group, after `grace` SIGKILL to all that
    /// it started. A server pauses its conversations first, which can take as long as a running
    /// tool does. Returns once all is gone, a temporary state directory too.
    ///
    /// Cancel safe: dropping the future kills the server at once.
    ///
    /// # Errors
    ///
    /// When the runtime is going down and the end could not be watched; everything is killed then.
    pub async fn shutdown(mut self, grace: Duration) -> Result<ExitReport> {
        if let Some(stop) = self.stop.take() {
            // Nobody listens any more when the server has exited for good.
            let _ = stop.send(grace);
        }
        let unseen = || Error::new(ErrorKind::Died, "the server's end could not be watched");
        let supervisor = self.supervisor.as_mut().ok_or_else(unseen)?;
        let report = supervisor
            .await
            .map_err(|error| unseen().with_source(error))?;
        debug!(%report, "the server has ended");
        Ok(report)
    }

    /// Activates a server started with [`deferred_init`](crate::LocalServerBuilder::deferred_init), with
    /// the keys and directories it was started with. A restarted one is activated again by itself.
    ///
    /// # Errors
    ///
    /// When the server refuses, such as for being active already.
    pub async fn activate(&self) -> Result<()> {
        let plan = &self.shared.plan;
        let init = Activation::default().call(&plan.secret_key, &plan.keys);
        probe::activate(&self.client, &init).await?;
        let _first = self.shared.activation.set((self.client.clone(), init));
        Ok(())
    }

    /// The same, with what whoever takes the server wants to be its own.
    pub(crate) async fn activate_as(&mut self, own: &Activation) -> Result<()> {
        let plan = &self.shared.plan;
        plan.logs.hide(own.secrets());
        let client = match &own.key {
            None => self.client.clone(),
            Some(key) => Plan::client(self.shared.address, key)?,
        };
        let init = own.call(&plan.secret_key, &plan.keys);
        probe::activate(&client, &init).await?;
        // Kept for a restart; whoever comes second was refused by the server.
        let _first = self.shared.activation.set((client.clone(), init));
        self.shared.adopt(&client);
        self.client = client;
        if let Some(key) = &own.key {
            self.key = key.clone();
        }
        Ok(())
    }

    /// Whether the server's process runs and has not ended, as far as is known.
    pub(crate) fn is_ready(&self) -> bool {
        *self.status.borrow() == Status::Ready
    }
}

async fn first_launch(
    plan: &Plan,
    keeper: &Keeper,
) -> Result<(Live, Client, Arc<ServerInfo>, Reservation)> {
    let wanted = SocketAddr::new(plan.settings.ip()?, plan.settings.port);
    let mut attempt = 1;
    loop {
        let reservation = probe::reserve(wanted)?;
        match plan.launch(keeper, &reservation, None, None).await {
            Ok((live, client, info)) => return Ok((live, client, info, reservation)),
            Err(error)
                if error.kind() == ErrorKind::PortTaken
                    && wanted.port() == 0
                    && attempt < PORTS =>
            {
                debug!(
                    port = reservation.address.port(),
                    "lost the port; trying another"
                );
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // In this order: the processes, the directories they use, the task that watched them.
        self.shared.let_go();
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        self.shared.plan.logs.close();
        if !matches!(*self.status.borrow(), Status::Exited(_)) {
            let stopped = "stopped by its owner";
            self.shared.tell(Liveness::Gone(stopped.into()));
        }
    }
}

impl AsRef<Client> for LocalServer {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalServer")
            .field("url", &self.url().as_str())
            .field("pid", &self.pid())
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
