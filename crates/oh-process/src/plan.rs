//! All that stays the same over the restarts of one server: how to start its process and how to
//! know it again. Watches nothing.

use std::{
    borrow::Cow,
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
    keeper::{End, Job, Keeper, Running, config_path},
    logs::LogHub,
    probe::{self, Proof, Reservation},
    settings::{Settings, Source},
    startup::Startup,
    state::{Place, StateDir, random_key, start_directory},
    variables::module_directories,
};

/// How long the last lines of a server that is gone may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the server's module in its own interpreter. Notes the directories that the browser's
/// library makes in /tmp when it is imported, so that the keeper can remove them. Keeps session
/// keys, which the server writes into its environment for its own use, from every process that the
/// server starts. Keeps the server's libraries from reading variables out of `.env` files above
/// their own directory.
pub(crate) const LAUNCH: &str = include_str!("launch.py");

/// How a server is started, each time.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    pub(crate) keys: Vec<SecretString>,
    pub(crate) secret_key: SecretString,
    pub(crate) logs: LogHub,
    root: PathBuf,
    temporary: bool,
    /// Of the server's process.
    variables: Vec<(OsString, OsString)>,
    workspace: PathBuf,
    python_path: Vec<PathBuf>,
    config: SecretString,
    startup: Mutex<Startup>,
}

/// A process that has proven to be our server.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    pub(crate) end: End,
    drains: [JoinHandle<()>; 2],
    /// Where the process was started.
    _directory: TempDir,
}

/// What a server that was dormant is made active with, and by which client.
pub(crate) type Waking = (Client, Init);

impl Plan {
    /// Prepares everything but the process. Drop the state after the keeper.
    pub(crate) async fn new(settings: Settings) -> Result<(StateDir, Self, Keeper)> {
        // Whatever can be refused is refused before minutes are spent on an environment.
        settings.check()?;
        let environment = match &settings.source {
            Source::Environment(environment) => environment.clone(),
            Source::Provision(provisioner) => {
                let provisioner = provisioner.clone().reporting(settings.report.as_ref());
                provisioner.provision().await?
            }
        };
        if let Some(report) = &settings.report {
            report.tell(Progress::Starting);
        }
        let place = match &settings.state_dir {
            Some(path) => Place::kept(path)?,
            None => Place::temporary()?,
        };
        // Before anything is made that somebody would have to remove.
        let (keeper, startup) = start_keeper(&settings, &environment, &place).await?;
        let temporary = place.is_temporary();
        let unkept = |error| Error::directory("cannot hand the state to its keeper", error);
        if temporary {
            keeper.remove_at_end(place.root()).map_err(unkept)?;
        }
        let state = place.make(|lock, outside| {
            keeper.hold(lock)?;
            outside.map_or(Ok(()), |path| keeper.remove_at_end(path))
        })?;
        keep(&settings, &keeper, state.root()).map_err(unkept)?;
        let secret_key = match &settings.secret_key {
            Some(key) => key.clone(),
            None => state.secret_key()?,
        };
        let keys = match settings.keys.as_slice() {
            [] => vec![random_key().into()],
            keys => keys.to_vec(),
        };
        let workspace = match &settings.workspace_dir {
            Some(path) => workspace(path)?,
            None => state.workspace(),
        };
        let variables = settings
            .variables
            .build(ours(&settings, &state, &workspace), &settings.local()?)?;
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
        };
        Ok((state, plan, keeper))
    }

    /// Another keeper for the same state, where the first was killed.
    pub(crate) async fn keeper(&self, state: &StateDir) -> Result<Keeper> {
        let (keeper, startup) = start_keeper(&self.settings, &self.environment, state).await?;
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
        hand_over()
            .map_err(|error| Error::directory("cannot hand the state to its keeper", error))?;
        Ok(keeper)
    }

    /// How the present keeper starts the server.
    pub(crate) fn startup(&self) -> MutexGuard<'_, Startup> {
        self.startup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where conversations work that name no directory.
    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The environment of the server's process, without its secrets.
    pub(crate) fn public_variables(&self) -> Vec<(OsString, OsString)> {
        let variables = self.variables.clone();
        self.settings.variables.without_secrets(variables)
    }

    /// The key that is used; others are only accepted.
    pub(crate) fn key(&self) -> &SecretString {
        // There is always one: where none was given, one was made.
        self.keys.first().unwrap_or(&self.secret_key)
    }

    /// The URL of a server at this address, for this machine.
    pub(crate) fn url(address: SocketAddr) -> String {
        format!("http://{}", reachable(address))
    }

    /// A client for the server at this address, with this key.
    pub(crate) fn client(address: SocketAddr, key: &SecretString) -> Result<Client> {
        let builder = Client::builder(Self::url(address)).session_api_key(key.clone());
        builder.build().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "invalid client settings").with_source(error)
        })
    }

    /// Starts the process and waits until it is ready, and active where `waking` says so. On
    /// failure it is gone. `client` is the one to use; a new one is made where there is none.
    pub(crate) async fn launch(
        &self,
        keeper: &Keeper,
        port: &Reservation,
        client: Option<&Client>,
        waking: Option<&Waking>,
    ) -> Result<(Live, Client, Arc<ServerInfo>)> {
        let directory = start_directory(&self.root)?;
        keeper
            .remove_if_orphaned(directory.path())
            .map_err(|error| {
                Error::new(ErrorKind::Spawn, "the keeper is gone").with_source(error)
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
            // Loading certificates takes its time, so the client is made while the server starts.
            let (ready, client) = tokio::join!(probe::ready(address, keeper.pid(), proof), async {
                match client {
                    Some(client) => Ok(client.clone()),
                    None => Self::client(port.address, self.key()),
                }
            });
            ready?;
            keeper.wipe_config();
            let client = client?;
            let info = probe::version(&client).await?;
            if let Some((client, init)) = waking {
                probe::activate(client, init).await?;
            }
            Ok::<_, Error>((client, info))
        };
        let deadline = self.settings.deadline;
        let failed = tokio::select! {
            // An end is looked at first: a stranger may answer in the dead server's place.
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
        // A failed request may be the first sign of an end.
        let exit = match failed.exit() {
            Some(exit) => exit.clone(),
            None => {
                keeper.kill();
                live.finish().await
            }
        };
        live.finish().await;
        let failed = match failed.kind() {
            ErrorKind::Request if exit.signal != Some(9) => {
                self.exited(exit, port.address).with_source(failed)
            }
            _ => failed,
        };
        Err(failed.with_log_tail(self.logs.tail()))
    }

    fn exited(&self, exit: ExitReport, address: SocketAddr) -> Error {
        // The server exits with 3 when, having started up, it finds its port taken.
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
        // Isolated: neither the directory it starts in, nor variables, nor a user's own packages
        // add to what it imports. Flags, unlike variables, are not passed on to the agent.
        command.extend(["-I", "-u", "-X", "utf8", "-c", LAUNCH].map(OsString::from));
        command.push(browser_record(&self.root).into());
        command.extend(settings.arguments.iter().cloned());
        // Last, for the last one counts.
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
    /// Waits for the end and for the last lines.
    pub(crate) async fn finish(&mut self) -> ExitReport {
        let exit = self.end.wait().await;
        // Nothing holds the pipes any more, so this is what was still in them; unless the keeper
        // was killed and something escaped, whose output is not worth waiting for.
        let _nothing_more = timeout(LAST_WORDS, async {
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

/// Takes a keeper from the template, or starts one where that cannot be.
async fn start_keeper(
    settings: &Settings,
    environment: &Environment,
    place: &Place,
) -> Result<(Keeper, Startup)> {
    let mut startup = Startup::Cold;
    if let Some(template) = &settings.template {
        let workspace = settings.workspace_dir.clone();
        let workspace = workspace.unwrap_or_else(|| place.workspace());
        let ours = ours(settings, place, &workspace);
        let variables = settings.variables.build(ours, &settings.local()?)?;
        match template.keeper(environment, &variables).await {
            Ok(keeper) => return Ok((keeper, Startup::Forked)),
            Err(reason) => {
                info!(%reason, "the server is not forked from its template but started cold");
                startup = Startup::Fallback(reason);
            }
        }
    }
    let variables = settings.variables.build(Vec::new(), &[])?;
    let variables = settings.variables.without_secrets(variables);
    let keeper = Keeper::start(environment.python(), &variables).await?;
    Ok((keeper, startup))
}

/// Tells a keeper what each server of a state needs.
fn keep(settings: &Settings, keeper: &Keeper, root: &Path) -> std::io::Result<()> {
    keeper.grace(settings.orphan_grace())?;
    keeper.remove_browser_directories(&browser_record(root))
}

/// Where the server notes the directories its browser's library makes in /tmp.
fn browser_record(root: &Path) -> PathBuf {
    root.join("browser-directories")
}

fn config_file(root: &Path) -> PathBuf {
    root.join("server.json")
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

/// The address under which this machine reaches a server that listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What this crate sets; callers may override most of it. Nothing secret: the agent sees it.
pub(crate) fn ours(
    settings: &Settings,
    state: &Place,
    workspace: &Path,
) -> Vec<(Cow<'static, str>, OsString)> {
    let mut ours: Vec<(Cow<'static, str>, OsString)> = vec![
        ("OH_CONVERSATIONS_PATH".into(), state.conversations().into()),
        ("OH_WORKSPACE_PATH".into(), workspace.into()),
        ("OH_BASH_EVENTS_DIR".into(), state.bash_events().into()),
        ("OH_PERSISTENCE_DIR".into(), state.persistence().into()),
        (
            "OH_CONVERSATION_WORKTREE_ROOT".into(),
            state.worktrees().into(),
        ),
        (
            "OPENHANDS_AGENT_SERVER_CONFIG_PATH".into(),
            config_path(&config_file(state.root())).into(),
        ),
        ("TMUX_TMPDIR".into(), state.tmux().into()),
        // Whatever is left in there goes with the state.
        ("TMPDIR".into(), state.scratch().into()),
        ("TZ".into(), "UTC".into()),
        ("LOG_JSON".into(), "true".into()),
        ("LOG_LEVEL".into(), settings.log_level.as_str().into()),
        ("OPENHANDS_SUPPRESS_BANNER".into(), "1".into()),
        // The price list comes with the package; fetching it would delay every start.
        ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
        ("OH_ENABLE_VSCODE".into(), "false".into()),
        ("OH_PRELOAD_TOOLS".into(), "false".into()),
    ];
    if settings.variables.home().is_none() {
        ours.push(("HOME".into(), state.home().into()));
    }
    if settings.deferred_init {
        ours.push(("OH_DEFERRED_INIT".into(), "true".into()));
    }
    ours
}
