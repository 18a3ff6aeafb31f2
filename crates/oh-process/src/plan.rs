//! All that stays the same over the restarts of one server: how to start its process and how to
//! know it again. Watches nothing.

use std::{
    borrow::Cow,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oh_transport::Client;
use secrecy::{ExposeSecret, SecretString};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    Environment, Error, ErrorKind, ExitReport, Progress, Result,
    builder::{LocalServerBuilder, Source},
    keeper::{End, Keeper, Running, Spawn},
    logs::LogHub,
    probe::{self, Proof, Reservation},
    state::{StateDir, random_key},
};

/// How long the last lines of a server that is gone may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a server is started, each time.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: LocalServerBuilder,
    pub(crate) environment: Environment,
    pub(crate) keys: Vec<SecretString>,
    pub(crate) secret_key: SecretString,
    pub(crate) logs: LogHub,
    variables: Vec<(OsString, OsString)>,
    directory: PathBuf,
    doomed: Option<PathBuf>,
}

/// A process that has proven to be our server.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    pub(crate) end: End,
    drains: [JoinHandle<()>; 2],
}

/// Where the keeper of the running process is found by who must end it now. Once closed, no
/// process can be entered any more.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Entry>);

#[derive(Debug, Default)]
enum Entry {
    #[default]
    Empty,
    Held(Keeper),
    Closed,
}

impl Slot {
    /// Enters a keeper; false when closed.
    fn enter(&self, keeper: &Keeper) -> bool {
        let mut entry = self.entry();
        if matches!(*entry, Entry::Closed) {
            return false;
        }
        *entry = Entry::Held(keeper.clone());
        true
    }

    pub(crate) fn keeper(&self) -> Option<Keeper> {
        match &*self.entry() {
            Entry::Held(keeper) => Some(keeper.clone()),
            _ => None,
        }
    }

    /// Closes it and gives what was held.
    pub(crate) fn close(&self) -> Option<Keeper> {
        match std::mem::replace(&mut *self.entry(), Entry::Closed) {
            Entry::Held(keeper) => Some(keeper),
            _ => None,
        }
    }

    fn entry(&self) -> MutexGuard<'_, Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    pub(crate) async fn new(settings: LocalServerBuilder) -> Result<(Self, StateDir)> {
        settings.check()?;
        settings.ip()?;
        // A bad variable is found before minutes are spent on an environment.
        settings.variables.build(Vec::new())?;
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
        let state = match &settings.state_dir {
            Some(path) => StateDir::kept(path)?,
            None => StateDir::temporary()?,
        };
        let secret_key = match &settings.secret_key {
            Some(key) => key.clone(),
            None => state.secret_key()?,
        };
        let keys = match settings.keys.as_slice() {
            [] => vec![random_key().into()],
            keys => keys.to_vec(),
        };
        let directory = match &settings.workspace_dir {
            Some(path) => workspace(path)?,
            None => state.workspace(),
        };
        let variables =
            settings
                .variables
                .build(ours(&settings, &state, &directory, &keys, &secret_key))?;
        let mut secrets = keys.clone();
        secrets.push(secret_key.clone());
        secrets.extend(settings.variables.secrets());
        secrets.extend(
            settings
                .webhooks
                .iter()
                .flat_map(|webhook| webhook.secrets()),
        );
        let plan = Self {
            environment,
            keys,
            secret_key,
            logs: LogHub::new(secrets),
            variables,
            directory,
            doomed: state.doomed(),
            settings,
        };
        Ok((plan, state))
    }

    /// Where the process runs.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
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

    pub(crate) fn client(&self, address: SocketAddr) -> Result<Client> {
        Self::client_with(address, self.key())
    }

    /// A client for the server at this address, with this key.
    pub(crate) fn client_with(address: SocketAddr, key: &SecretString) -> Result<Client> {
        let builder = Client::builder(Self::url(address)).session_api_key(key.clone());
        builder.build().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "no such server").with_source(error)
        })
    }

    /// Starts the process and waits until it is ready. On failure it is gone.
    pub(crate) async fn launch(&self, port: &Reservation, slot: &Slot) -> Result<Live> {
        let spawn = Spawn {
            python: self.environment.python().to_owned(),
            command: self.command(port.address),
            environment: self.variables.clone(),
            directory: self.directory.clone(),
            doomed: self.doomed.clone(),
        };
        let running = spawn.start_with(|keeper| slot.enter(keeper)).await?;
        let keeper = running.keeper.clone();
        let mut live = self.follow(running);
        let proof = match self.settings.deferred_init {
            true => Proof::Dormant(&self.secret_key),
            false => Proof::Session(self.key()),
        };
        let ready = probe::ready(reachable(port.address), proof);
        let deadline = self.settings.deadline;
        let failed = tokio::select! {
            // An end is looked at first: a stranger may answer in the dead server's place.
            biased;
            exit = live.end.wait() => self.exited(exit, port.address),
            ready = timeout(deadline, ready) => match ready {
                Ok(Ok(())) => return Ok(live),
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
        keeper.kill();
        live.finish().await;
        Err(failed.with_log_tail(self.logs.tail()))
    }

    fn exited(&self, exit: ExitReport, address: SocketAddr) -> Error {
        // The server exits with 3 when, having started up, it finds its port taken.
        if exit.code == Some(3) {
            return probe::port_taken(address).with_exit(exit);
        }
        Error::new(ErrorKind::Died, "the server ended before it was ready").with_exit(exit)
    }

    fn follow(&self, running: Running) -> Live {
        let (out, err) = (self.logs.clone(), self.logs.clone());
        let (stdout, stderr) = (running.stdout, running.stderr);
        Live {
            pid: running.pid,
            end: running.end,
            drains: [
                tokio::spawn(async move { out.drain(stdout).await }),
                tokio::spawn(async move { err.drain(stderr).await }),
            ],
        }
    }

    fn command(&self, address: SocketAddr) -> Vec<OsString> {
        let settings = &self.settings;
        let mut command: Vec<OsString> = vec![self.environment.python().into()];
        command.extend(["-m", "openhands.agent_server", "--host"].map(OsString::from));
        command.push(address.ip().to_string().into());
        command.push("--port".into());
        command.push(address.port().to_string().into());
        if !settings.import_modules.is_empty() {
            command.push("--import-modules".into());
            command.push(settings.import_modules.join(",").into());
        }
        if let Ok(paths) = std::env::join_paths(&settings.python_path)
            && !paths.is_empty()
        {
            command.push("--extra-python-path".into());
            command.push(paths);
        }
        command.extend(settings.arguments.iter().cloned());
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
                let _ended = drain.await;
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

/// What this crate sets; callers may override most of it.
fn ours(
    settings: &LocalServerBuilder,
    state: &StateDir,
    workspace: &Path,
    keys: &[SecretString],
    secret_key: &SecretString,
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
        // A file in the working directory must not configure the server behind our back.
        (
            "OPENHANDS_AGENT_SERVER_CONFIG_PATH".into(),
            state.root().join("server.json").into(),
        ),
        ("TMUX_TMPDIR".into(), state.tmux().into()),
        // Whatever is left in there goes with the state.
        ("TMPDIR".into(), state.scratch().into()),
        ("TZ".into(), "UTC".into()),
        ("OH_SECRET_KEY".into(), secret_key.expose_secret().into()),
        ("LOG_JSON".into(), "true".into()),
        ("LOG_LEVEL".into(), settings.log_level.as_str().into()),
        ("OPENHANDS_SUPPRESS_BANNER".into(), "1".into()),
        ("PYTHONUNBUFFERED".into(), "1".into()),
        // The price list comes with the package; fetching it would delay every start.
        ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
        ("OH_ENABLE_VSCODE".into(), "false".into()),
        ("OH_PRELOAD_TOOLS".into(), "false".into()),
    ];
    let keys: Vec<_> = keys.iter().map(|key| key.expose_secret()).collect();
    let numbered = keys.into_iter().enumerate();
    // Under these very names the server keeps the keys from the agent's shell.
    ours.extend(numbered.map(|(n, key)| (format!("OH_SESSION_API_KEYS_{n}").into(), key.into())));
    if settings.deferred_init {
        ours.push(("OH_DEFERRED_INIT".into(), "true".into()));
    }
    if !settings.webhooks.is_empty() {
        let webhooks: Vec<_> = settings
            .webhooks
            .iter()
            .map(|webhook| webhook.wire())
            .collect();
        ours.push((
            "OH_WEBHOOKS".into(),
            serde_json::Value::from(webhooks).to_string().into(),
        ));
    }
    ours
}
