//! [`ApptainerServer`], which owns a server in a container of Apptainer and gives access to it.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use oh_process::internal::{Keeper, LogHub};
use oh_protocol::calls::server::ServerInfo;
use oh_transport::Client;
use secrecy::SecretString;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    Error, ErrorKind, ExitReport, Result, Status,
    apptainer::{
        command::{EXTRA_BINDS, Settings, WORKSPACE},
        image,
        place::Place,
    },
    docker::{
        address::free_port,
        ended::{ended_early, explained},
        ready,
        remover::start_keeper,
    },
    running::{RunningServer, running_server},
};

/// Number of attempts to find a port that no other program takes.
const PORTS: usize = 5;
/// The server's exit status if its port is taken.
const PORT_TAKEN: i32 = 3;

/// A running server in a container of Apptainer, owned by this value. The container ends when this
/// value is dropped, when [`shutdown`](Self::shutdown) returns, and when this process ends for any
/// reason.
///
/// The container shares the network of this machine, and cannot be paused.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::ApptainerServer;
///
/// let server = ApptainerServer::builder().workspace("/home/me/project").start().await?;
/// println!("{} (process {})", server.url(), server.id());
/// server.shutdown(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
#[must_use = "the container ends when this is dropped"]
pub struct ApptainerServer {
    keeper: Owned,
    running: RunningServer,
    watcher: JoinHandle<ExitReport>,
}

running_server!(
    ApptainerServer,
    "Returns the id of the process that runs the container.",
    "process"
);

impl ApptainerServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        settings.check()?;
        let executable = find(&settings.executable)?;
        let keeper = Owned(start_keeper("").await?);
        let keys = settings.options.keys();
        let logs = settings.options.log_hub(&keys);
        let image = image::ensure(&settings, &executable, &keeper.0, &logs).await?;
        let place = Place::new(&keeper.0, &keys.session, &keys.secret)?;
        let start = Start {
            settings: &settings,
            executable: &executable,
            image: &image,
            place: &place,
            keeper: &keeper.0,
            key: &keys.first,
            logs: &logs,
        };
        let mut attempt = 1;
        let started = loop {
            match start.once().await {
                Err(error) if attempt < PORTS && port_taken(&error) => attempt += 1,
                started => break started,
            }
        };
        let (pid, client, info, running) = started.map_err(explained)?;
        place.wipe()?;
        let server = RunningServer::new(
            pid.to_string(),
            client,
            keys.first,
            info,
            logs,
            WORKSPACE.to_owned(),
        );
        let on_end = server.on_end();
        let watcher = tokio::spawn(async move {
            // Cannot fail: the task is not aborted before this one.
            let report = running.await;
            let report = report.unwrap_or_else(|_| ExitReport::of_container(None, false));
            on_end(&report);
            report
        });
        Ok(Self {
            keeper,
            running: server,
            watcher,
        })
    }

    /// Shuts the server down: sends SIGTERM, and after `grace` kills everything in the container.
    /// The server first pauses its conversations.
    ///
    /// Cancel-safe: dropping the future kills everything at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the runtime is shutting down. Everything is killed in that case.
    pub async fn shutdown(mut self, grace: Duration) -> Result<ExitReport> {
        let begun = Instant::now();
        self.running.reporter.set(Status::Stopping);
        self.keeper.0.terminate();
        let (mut killed, mut ended) = (false, timeout(grace, &mut self.watcher).await);
        if ended.is_err() {
            killed = true;
            self.keeper.0.kill();
            ended = Ok((&mut self.watcher).await);
        }
        let unseen = || Error::new(ErrorKind::Died, "cannot determine how the server ended");
        let mut report = match ended {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => return Err(unseen().with_source(error)),
            Err(_) => return Err(unseen()),
        };
        report.killed = killed;
        report.duration = begun.elapsed();
        Ok(report)
    }
}

/// A keeper that ends with this value, although a task waits for its command.
struct Owned(Keeper);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.close_blocking();
    }
}

/// The parts of a start that each attempt uses.
struct Start<'a> {
    settings: &'a Settings,
    executable: &'a Path,
    image: &'a Path,
    place: &'a Place,
    keeper: &'a Keeper,
    key: &'a SecretString,
    logs: &'a LogHub,
}

type Started = (u32, Client, Arc<ServerInfo>, JoinHandle<ExitReport>);

impl Start<'_> {
    /// Starts the container on a free port, and waits until its server is verified. On failure the
    /// container has ended.
    async fn once(&self) -> Result<Started> {
        let port = free_port([127, 0, 0, 1].into())?;
        let extra = env::var(EXTRA_BINDS).unwrap_or_default();
        let config = self.place.path();
        let command = self
            .settings
            .command(self.executable, self.image, config, &extra, port);
        let environment = self.settings.environment(env::vars_os());
        let running = self.keeper.run(&command, &environment, config).await;
        let running = running.map_err(|error| Error::shared("cannot run apptainer", error))?;
        let pid = running.pid();
        let logs = self.logs.clone();
        let mut running = tokio::spawn(async move { running.finish(&logs).await });
        let url = format!("http://127.0.0.1:{port}");
        let begun = tokio::select! {
            biased;
            ended = &mut running => {
                let report = ended.unwrap_or_else(|_| ExitReport::of_container(None, false));
                return Err(ended_early(&report).with_log_tail(self.logs.tail()));
            }
            begun = ready::verified(&url, self.key, self.settings.options.server.deadline) => begun,
        };
        let client = begun.and_then(|info| {
            let network = ready::network()?;
            Ok((info, ready::client(&url, Some(self.key), &network)?))
        });
        match client {
            Ok((info, client)) => Ok((pid, client, info, running)),
            Err(error) => {
                self.keeper.kill();
                let _ended = running.await;
                Err(error.with_log_tail(self.logs.tail()))
            }
        }
    }
}

fn port_taken(error: &Error) -> bool {
    error
        .exit()
        .is_some_and(|exit| exit.code == Some(PORT_TAKEN))
}

fn find(executable: &Path) -> Result<PathBuf> {
    which::which(executable).map_err(|error| {
        let message = format!(
            "cannot run {}: install Apptainer, or set its path with `executable`",
            executable.display()
        );
        Error::new(ErrorKind::NoEngine, message).with_source(error)
    })
}

impl Drop for ApptainerServer {
    fn drop(&mut self) {
        // The order matters: first the processes, then the task that would report their end.
        self.keeper.0.close_blocking();
        self.watcher.abort();
        self.running.removed();
    }
}
