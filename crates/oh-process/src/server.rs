//! [`LocalServer`], which owns a running server and gives access to it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, Liveness, WorkspaceHandle};
use secrecy::SecretString;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::debug;
use url::Url;

use crate::{
    Environment, Error, ErrorKind, ExitReport, Logs, Request, Result, Startup, Status, StatusWatch,
    start::{
        activation::Activation,
        connection,
        plan::{Live, Plan},
        probe::{self, Reservation},
        settings::Settings,
        shell,
    },
    supervise,
    supervise::{keeper::Keeper, shared::Shared},
    template::TemplateHandle,
};

/// Number of attempts to start the server on a free port.
const PORTS: usize = 5;

/// A running server on this machine, owned by this value. The server and everything it started are
/// gone when this value is dropped, when [`shutdown`](Self::shutdown) returns, and when this
/// process ends for any reason.
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
    // Keeps the port for restarts, as far as the operating system allows.
    _reservation: Reservation,
}

impl LocalServer {
    pub(crate) async fn start(
        settings: Settings,
        template: Option<TemplateHandle>,
    ) -> Result<Self> {
        // Boxed because the futures of provisioning and starting are large.
        let (state, plan, keeper) = Box::pin(Plan::new(settings, template)).await?;
        let launch = Box::pin(first_launch(&plan, &keeper));
        let (launched, shell_start) = Box::pin(shell::measured_during(&plan, launch)).await;
        let (live, client, info, reservation) = launched?;
        let address = reservation.address;
        if let Some(path) = &plan.settings.connection_file {
            connection::write(path, &Plan::url(address), plan.key())?;
        }
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

    /// Returns the base URL, such as `http://127.0.0.1:43117`.
    pub fn url(&self) -> &Url {
        self.client.base_url()
    }

    /// Returns a client with this server's key. The client stays valid over restarts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the key that [`client`](Self::client) uses.
    pub fn session_api_key(&self) -> &SecretString {
        &self.key
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Returns the port that the server listens on.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// Returns the information that the server sent when it became ready.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Returns the working directory of conversations that do not name one.
    pub fn workspace_dir(&self) -> &Path {
        self.shared.plan.workspace()
    }

    /// Returns the measured start-up time of an interactive shell in the server's home directory,
    /// as a lower bound. Returns `None` if the server has its own home, which contains no start-up
    /// files, or if the shell could not be measured.
    ///
    /// From half a second on, the server may report the first command of a terminal as finished
    /// while it is still running.
    pub fn shell_start(&self) -> Option<Duration> {
        self.shell_start
    }

    /// Returns how the server was started: forked from a [`TemplateServer`](crate::TemplateServer),
    /// or cold and why. Restarts do not change the value, unless the server's keeper was killed.
    pub fn startup(&self) -> Startup {
        self.shared.plan.startup().clone()
    }

    /// Returns the environment that the server runs from.
    pub fn environment(&self) -> &Environment {
        &self.shared.plan.environment
    }

    /// Returns the root of the server's state: conversations, files, keys.
    pub fn state_dir(&self) -> &Path {
        &self.state_path
    }

    /// Returns a watch on the server's status.
    pub fn status(&self) -> StatusWatch {
        StatusWatch(self.status.clone())
    }

    /// Returns a stream of the lines that the server writes from now on, without its secrets. The
    /// same lines are sent to `tracing`, with target `openhands::server`.
    pub fn logs(&self) -> Logs {
        self.shared.plan.logs.subscribe()
    }

    /// Returns the last lines that the server wrote, oldest first; at most 200.
    pub fn log_tail(&self) -> Vec<String> {
        self.shared.plan.logs.tail()
    }

    /// Returns the server's process id. While no process runs, returns the last one.
    pub fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::Acquire)
    }

    /// Shuts the server down: sends SIGTERM to its process group, and after `grace` kills
    /// everything that it started (SIGKILL). The server first pauses its conversations, which can
    /// take as long as a running tool does. Returns when all processes are gone and a temporary
    /// state directory is removed.
    ///
    /// Cancel-safe: dropping the future kills the server at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the runtime is shutting down and the end could not be observed.
    /// Everything is killed in that case.
    pub async fn shutdown(mut self, grace: Duration) -> Result<ExitReport> {
        if let Some(stop) = self.stop.take() {
            // Fails when the server has exited permanently and the supervisor is gone.
            let _ = stop.send(grace);
        }
        let unseen = || Error::new(ErrorKind::Died, "cannot determine how the server ended");
        let supervisor = self.supervisor.as_mut().ok_or_else(unseen)?;
        let report = supervisor
            .await
            .map_err(|error| unseen().with_source(error))?;
        debug!(%report, "the server has ended");
        Ok(report)
    }

    /// Activates a server started with [`deferred_init`](crate::LocalServerBuilder::deferred_init),
    /// with the keys and directories it was started with. After a restart the server is activated
    /// again automatically.
    ///
    /// # Errors
    ///
    /// Returns an error if the server rejects the activation, for example because it is already
    /// active.
    pub fn activate(&self) -> Request<()> {
        let (client, shared) = (self.client.clone(), self.shared.clone());
        Request::new(async move {
            let plan = &shared.plan;
            let init = Activation::default().call(&plan.secret_key, &plan.keys);
            probe::activate(&client, &init).await?;
            let _first = shared.activation.set((client, init));
            Ok(())
        })
    }

    /// Activates the server with the keys, variables and directories in `own`.
    pub(crate) async fn activate_as(&mut self, own: &Activation) -> Result<()> {
        let plan = &self.shared.plan;
        plan.logs.hide(own.secrets());
        let client = match &own.key {
            None => self.client.clone(),
            Some(key) => Plan::client(self.shared.address, key)?,
        };
        let init = own.call(&plan.secret_key, &plan.keys);
        probe::activate(&client, &init).await?;
        // Kept for a restart. Cannot be set yet: the server rejects a second activation.
        let _first = self.shared.activation.set((client.clone(), init));
        self.shared.adopt(&client);
        self.client = client;
        if let Some(key) = &own.key {
            self.key = key.clone();
        }
        Ok(())
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
                    "the port was taken by another program; trying another port"
                );
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // The order matters: first the processes, then the directories they use, then the
        // supervisor task.
        self.shared.release();
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        self.shared.plan.logs.close();
        if !matches!(*self.status.borrow(), Status::Exited(_)) {
            let stopped = "stopped by its owner";
            self.shared.notify(Liveness::Gone(stopped.into()));
        }
    }
}

/// The server's workspace directory, so that conversations and commands need no other handle.
impl WorkspaceHandle for LocalServer {
    fn client(&self) -> &Client {
        &self.client
    }

    fn working_dir(&self) -> &str {
        // The plan accepts only directories whose path is UTF-8.
        self.shared.plan.workspace().to_str().unwrap_or_default()
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
