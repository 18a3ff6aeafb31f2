//! The plan of one server, which all its restarts share: how to start its process and how to
//! identify it.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oh_protocol::calls::{init::Init, server::ServerInfo};
use oh_transport::Client;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tracing::info;

use crate::{
    Environment, Error, ErrorKind, ExitReport, Progress, Result,
    provision::requirements,
    start::{
        connection,
        containers::ConversationContainers,
        launch::LAUNCH,
        probe::{self, Proof, Reservation, direct},
        settings::{Settings, Source, config_file},
        startup::Startup,
        state::{Place, StateDir, random_key, start_directory},
        variables::module_directories,
    },
    supervise::{
        keeper::{End, Job, Keeper, Running},
        logs::LogHub,
    },
    template::TemplateHandle,
};

/// Timeout for reading the last output of a server that has ended. The output ends by itself,
/// because everything that could write is gone, so this is only a bound for a very busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// The same if a process may have escaped a killed keeper. Its output is not worth waiting for.
const DRAIN_LIMIT_UNKEPT: Duration = Duration::from_millis(500);

/// How to start a server, the first time and after each end.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    template: Option<TemplateHandle>,
    pub(crate) environment: Environment,
    pub(crate) keys: Vec<SecretString>,
    pub(crate) secret_key: SecretString,
    pub(crate) logs: LogHub,
    root: PathBuf,
    temporary: bool,
    /// Environment of the server's process.
    variables: Vec<(OsString, OsString)>,
    workspace: PathBuf,
    python_path: Vec<PathBuf>,
    config: SecretString,
    startup: Mutex<Startup>,
}

/// A running process whose identity is verified.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    pub(crate) end: End,
    drains: [JoinHandle<()>; 2],
    /// Working directory of the process.
    _directory: TempDir,
}

/// Client and request that activate a dormant server after a restart.
pub(crate) type Reactivation = (Client, Init);

impl Plan {
    /// Prepares everything except the process. The returned state must be dropped after the keeper.
    pub(crate) async fn new(
        settings: Settings,
        template: Option<TemplateHandle>,
    ) -> Result<(StateDir, Self, Keeper)> {
        // Reject invalid settings before spending minutes on an environment.
        settings.check()?;
        let environment = match &settings.source {
            Source::Environment(environment) => environment.clone(),
            Source::Provision(provisioner) => {
                let provisioner = provisioner.clone().reporting(settings.report.as_ref());
                provisioner.provision().await?
            }
        };
        requirements::check_supported(environment.server_version())?;
        if let Some(report) = &settings.report {
            report.notify(Progress::Starting);
        }
        let place = match &settings.state_dir {
            Some(path) => Place::kept(path)?,
            None => Place::temporary()?,
        };
        // The keeper must exist before anything is created that needs cleaning up.
        let (keeper, startup) =
            start_keeper(&settings, template.as_ref(), &environment, &place).await?;
        let temporary = place.is_temporary();
        let unkept = |error| {
            Error::directory(
                "cannot register the state directory with the keeper process",
                error,
            )
        };
        if temporary {
            keeper.remove_at_end(place.root()).map_err(unkept)?;
        }
        let state = place.make(|lock, outside| {
            keeper.hold(lock)?;
            outside.map_or(Ok(()), |path| keeper.remove_at_end(path))
        })?;
        keep(&settings, &keeper, state.root()).map_err(unkept)?;
        let secret_key = match &settings.server.secret_key {
            Some(key) => key.clone(),
            None => state.secret_key()?,
        };
        let keys = match settings.server.keys.as_slice() {
            [] => vec![random_key().into()],
            keys => keys.to_vec(),
        };
        let workspace = match &settings.workspace_dir {
            Some(path) => workspace(path)?,
            None => state.workspace(),
        };
        if workspace.to_str().is_none() {
            let shown = workspace.display();
            let message = format!("the path of the workspace directory must be UTF-8: {shown}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let variables = settings
            .variables
            .build(settings.ours(&state, &workspace), &settings.local()?)?;
        let mut secrets = keys.clone();
        secrets.push(secret_key.clone());
        secrets.extend(settings.previous_secret_keys.iter().cloned());
        secrets.extend(settings.variables.secrets());
        let webhooks = settings.webhooks.iter();
        secrets.extend(webhooks.flat_map(|webhook| webhook.secrets()));
        let plan = Self {
            environment,
            config: settings.config(&keys, &secret_key),
            python_path: module_directories(&settings.python_path)?,
            keys,
            secret_key,
            logs: LogHub::new(secrets),
            root: state.root().to_owned(),
            temporary,
            variables,
            workspace,
            startup: Mutex::new(startup),
            settings,
            template,
        };
        plan.remove_containers(&keeper, &state, false).await?;
        Ok((state, plan, keeper))
    }

    /// Lets the keeper remove the conversations' containers when it ends. `settled`: the server has
    /// ended in order, so no container can appear any more.
    pub(crate) async fn remove_containers(
        &self,
        keeper: &Keeper,
        place: &Place,
        settled: bool,
    ) -> Result<()> {
        if self.settings.containers.is_none() {
            return Ok(());
        }
        let variables = self.public_variables();
        let script = ConversationContainers::removal(place, &variables, settled)?;
        keeper.at_end(&script).await.map(drop).map_err(|error| {
            let message = "cannot register the containers with the keeper process";
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })
    }

    /// Returns a new keeper for the same state, after the first one was killed.
    pub(crate) async fn keeper(&self, state: &StateDir) -> Result<Keeper> {
        let (keeper, startup) = start_keeper(
            &self.settings,
            self.template.as_ref(),
            &self.environment,
            state,
        )
        .await?;
        *self.startup() = startup;
        let hand_over = || {
            keeper.hold(state.lock())?;
            if self.temporary {
                keeper.remove_at_end(state.root())?;
            }
            if let Some(tmux) = state.tmux_apart() {
                keeper.remove_at_end(tmux)?;
            }
            keep(&self.settings, &keeper, state.root())
        };
        hand_over().map_err(|error| {
            Error::directory(
                "cannot register the state directory with the keeper process",
                error,
            )
        })?;
        self.remove_containers(&keeper, state, false).await?;
        Ok(keeper)
    }

    /// Returns how the current keeper starts the server.
    pub(crate) fn startup(&self) -> MutexGuard<'_, Startup> {
        self.startup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the working directory of conversations that do not name one.
    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Returns the environment of the server's process without its secrets.
    pub(crate) fn public_variables(&self) -> Vec<(OsString, OsString)> {
        let variables = self.variables.clone();
        self.settings.variables.without_secrets(variables)
    }

    /// Returns the session key that clients use. The server accepts the other keys as well.
    pub(crate) fn key(&self) -> &SecretString {
        // `keys` is never empty: `new` generates a key if none was set.
        self.keys.first().unwrap_or(&self.secret_key)
    }

    /// Returns the URL at which this machine reaches a server at this address.
    pub(crate) fn url(address: SocketAddr) -> String {
        format!("http://{}", reachable(address))
    }

    /// Returns a client for the server at this address, with this key.
    pub(crate) fn client(address: SocketAddr, key: &SecretString) -> Result<Client> {
        let failed = |error| {
            Error::new(ErrorKind::InvalidInput, "invalid client settings").with_source(error)
        };
        let network = direct().map_err(failed)?;
        Client::builder(Self::url(address))
            .session_api_key(key.clone())
            .http_transport(network.clone())
            .socket_transport(network)
            .build()
            .map_err(failed)
    }

    /// Starts the process, waits until it is ready, and activates it if `reactivation` is set. On
    /// failure the process is gone. Uses `client` if it is set, otherwise a new client.
    pub(crate) async fn launch(
        &self,
        keeper: &Keeper,
        port: &Reservation,
        client: Option<&Client>,
        reactivation: Option<&Reactivation>,
    ) -> Result<(Live, Client, Arc<ServerInfo>)> {
        let directory = start_directory(&self.root)?;
        keeper
            .remove_if_orphaned(directory.path())
            .map_err(|error| {
                Error::new(ErrorKind::Spawn, "the server's keeper process has ended")
                    .with_source(error)
            })?;
        let job = Job {
            command: &self.command(port.address),
            environment: &self.variables,
            directory: directory.path(),
            config: self.config.expose_secret().as_bytes(),
            config_file: &config_file(&self.root),
        };
        let running = keeper.run(job).await?;
        let mut live = self.follow(running, directory);
        let proof = match self.settings.deferred_init {
            true => Proof::Dormant(&self.secret_key),
            false => Proof::Session(self.key()),
        };
        let begin = async {
            let address = reachable(port.address);
            // Loading certificates takes time, so the client is created while the server starts.
            let (ready, client) = tokio::join!(probe::ready(address, keeper.pid(), proof), async {
                match client {
                    Some(client) => Ok(client.clone()),
                    None => Self::client(port.address, self.key()),
                }
            });
            ready?;
            keeper.wipe_config().await.map_err(|error| {
                let message = "cannot wipe the configuration that the server has read";
                Error::new(ErrorKind::Spawn, message).with_source(error)
            })?;
            let client = client?;
            let info = probe::version(&client).await?;
            if let Some((client, init)) = reactivation {
                probe::activate(client, init).await?;
            }
            Ok::<_, Error>((client, info))
        };
        let deadline = self.settings.server.deadline;
        let failed = tokio::select! {
            // Check for an end first: another process may answer on the port of the dead server.
            biased;
            exit = live.end.wait() => self.exited(exit, port.address),
            begun = timeout(deadline, begin) => match begun {
                Ok(Ok((client, info))) => return Ok((live, client, info)),
                Ok(Err(error)) if error.kind() == ErrorKind::Stranger => {
                    probe::port_taken(port.address).with_source(error)
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let seconds = deadline.as_secs_f32();
                    let message = format!("the server was not ready within {seconds} s");
                    Error::new(ErrorKind::NotReady, message)
                }
            },
        };
        // A failed request may be the first sign that the server has ended.
        let exit = match failed.exit() {
            Some(exit) => exit.clone(),
            None => {
                keeper.kill();
                live.finish().await
            }
        };
        live.finish().await;
        let failed = match failed.is_failed_request() {
            true if exit.signal != Some(9) => self.exited(exit, port.address).with_source(failed),
            _ => failed,
        };
        Err(failed.with_log_tail(self.logs.tail()))
    }

    fn exited(&self, exit: ExitReport, address: SocketAddr) -> Error {
        // After start-up the server exits with 3 if its port is taken.
        if exit.code == Some(3) {
            return probe::port_taken(address).with_exit(exit);
        }
        Error::new(ErrorKind::Died, "the server ended before it was ready").with_exit(exit)
    }

    fn follow(&self, running: Running, directory: TempDir) -> Live {
        let (out, err) = (self.logs.clone(), self.logs.clone());
        let (stdout, stderr) = (running.stdout, running.stderr);
        Live {
            pid: running.pid,
            end: running.end,
            drains: [
                tokio::spawn(async move { out.drain(stdout).await }),
                tokio::spawn(async move { err.drain(stderr).await }),
            ],
            _directory: directory,
        }
    }

    fn command(&self, address: SocketAddr) -> Vec<OsString> {
        let settings = &self.settings;
        let mut command: Vec<OsString> = vec![self.environment.python().into()];
        // Isolated mode: the working directory, variables and a user's own packages add nothing to
        // what the server imports. Flags, unlike variables, are not passed on to the agent.
        command.extend(["-I", "-u", "-X", "utf8", "-c", LAUNCH].map(OsString::from));
        command.push(browser_record(&self.root).into());
        command.extend(settings.arguments.iter().cloned());
        // Last, because the last occurrence of an option takes effect.
        command.push("--host".into());
        command.push(address.ip().to_string().into());
        command.push("--port".into());
        command.push(address.port().to_string().into());
        if !settings.import_modules.is_empty() {
            command.push("--import-modules".into());
            command.push(settings.import_modules.join(",").into());
        }
        if !self.python_path.is_empty() {
            let paths: Vec<_> = self
                .python_path
                .iter()
                .map(|path| path.as_os_str())
                .collect();
            command.push("--extra-python-path".into());
            command.push(paths.join(":".as_ref()));
        }
        command
    }
}

impl Live {
    /// Waits for the end of the process and for its last output.
    pub(crate) async fn finish(&mut self) -> ExitReport {
        let exit = self.end.wait().await;
        let limit = match self.end.may_have_escaped() {
            true => DRAIN_LIMIT_UNKEPT,
            false => DRAIN_LIMIT,
        };
        let _nothing_more = timeout(limit, async {
            for drain in &mut self.drains {
                if !drain.is_finished() {
                    let _ended = drain.await;
                }
            }
        })
        .await;
        exit
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for drain in &self.drains {
            drain.abort();
        }
    }
}

/// Forks a keeper from the template, or starts one if that is not possible.
async fn start_keeper(
    settings: &Settings,
    template: Option<&TemplateHandle>,
    environment: &Environment,
    place: &Place,
) -> Result<(Keeper, Startup)> {
    let mut startup = Startup::Cold;
    if let Some(template) = template {
        let workspace = settings.workspace_dir.clone();
        let workspace = workspace.unwrap_or_else(|| place.workspace());
        let ours = settings.ours(place, &workspace);
        let variables = settings.variables.build(ours, &settings.local()?)?;
        match template.keeper(environment, &variables).await {
            Ok(keeper) => return Ok((keeper, Startup::Forked)),
            Err(reason) => {
                info!(%reason, "cannot fork the server from its template; starting it cold");
                startup = Startup::Fallback(reason);
            }
        }
    }
    let variables = settings.variables.build(Vec::new(), &[])?;
    let variables = settings.variables.without_secrets(variables);
    let keeper = Keeper::start(environment.python(), &variables).await?;
    Ok((keeper, startup))
}

/// Configures a keeper for the servers of one state directory.
fn keep(settings: &Settings, keeper: &Keeper, root: &Path) -> std::io::Result<()> {
    keeper.grace(settings.orphan_grace())?;
    if let Some(path) = &settings.connection_file {
        connection::remove_at_end(keeper, path)?;
    }
    keeper.remove_browser_directories(&browser_record(root))
}

/// Returns the file in which the server records the directories that its browser's library creates
/// in /tmp.
fn browser_record(root: &Path) -> PathBuf {
    root.join("browser-directories")
}

fn workspace(path: &Path) -> Result<PathBuf> {
    let make = || {
        std::fs::create_dir_all(path)?;
        path.canonicalize()
    };
    make().map_err(|error| {
        let path = path.display();
        Error::directory(format!("cannot use workspace directory {path}"), error)
    })
}

/// Returns the address at which this machine reaches a server that listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
