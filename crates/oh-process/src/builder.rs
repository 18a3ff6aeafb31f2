//! Collects what a local server is to be like.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    Environment, LocalServer, LogLevel, Progress, Provisioner, RestartPolicy, Result,
    TemplateServer, TemplateServerBuilder, Webhook,
    provision::Report,
    settings::{Settings, Source},
    variables::Value,
};

/// Makes a [`LocalServer`].
///
/// # What the server and its agents see of this machine
///
/// The agent's commands see every variable of the server's environment, so little is in it. Of
/// this process's environment the server gets an allow-list only (`PATH`, certificates, proxies
/// without a password …), never a Python or pip variable. Precedence, lowest first: that list and
/// [`inherit_env`](Self::inherit_env), what this crate sets, [`env`](Self::env) and
/// [`secret_env`](Self::secret_env). The locale is always UTF-8, loopback addresses are always
/// exempt from proxies, and relative directories are taken out of `PATH`.
///
/// Keys and the headers of webhooks are in no variable and, on Linux, in no file: the server reads
/// them from memory once. An agent runs as the same user as the server, so this protects from
/// what an agent prints or sends by accident, not from one that debugs the server's process.
///
/// The server starts in an empty directory made for that start and imports modules from its own
/// environment and from [`python_path`](Self::python_path) only, whatever lies in the workspace.
///
/// `HOME` is a directory in the state directory: histories, caches and configuration go there, and
/// shells find none of this user's start-up files. See [`inherit_home`](Self::inherit_home).
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct LocalServerBuilder {
    settings: Settings,
}

impl LocalServer {
    /// Begins a server with everything at its default.
    pub fn builder() -> LocalServerBuilder {
        LocalServerBuilder::default()
    }
}

impl LocalServerBuilder {
    /// Finds or makes the environment with this. Default: [`Provisioner::new`].
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.settings.source = Source::Provision(provisioner);
        self
    }

    /// Runs the server from this environment.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.settings.source = Source::Environment(environment);
        self
    }

    /// Sets a callback for start-up progress: [`Provisioner::on_progress`], and
    /// [`Progress::Starting`].
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.report = Some(Report::new(report));
        self
    }

    /// The address to listen on: an IP address or `localhost`. Default `127.0.0.1`. Always handed
    /// to the server, whose own default is every interface. One that other machines can reach
    /// must be allowed by [`expose`](Self::expose).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.settings.host = host.into();
        self
    }

    /// Allows a [`host`](Self::host) that other machines can reach. Who holds the session key can
    /// run anything on this machine, and the key travels in the clear.
    pub fn expose(mut self, yes: bool) -> Self {
        self.settings.expose = yes;
        self
    }

    /// The port. Default 0: a free one, and another should that be lost.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = port;
        self
    }

    /// Keeps conversations, files and keys in this directory, which is made when missing. Default:
    /// a temporary directory that goes with the server.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.state_dir = Some(path.into());
        self
    }

    /// The directory that conversations work in unless they name another; made when missing.
    /// Default: a directory in the state directory. The server itself does not run in it.
    pub fn workspace_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.workspace_dir = Some(path.into());
        self
    }

    /// A session key the server accepts; the first is the one [`LocalServer::client`] uses.
    /// Default: a random one. At least 16 characters.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.keys.push(key.into());
        self
    }

    /// The key that encrypts what the server stores. Default: a random one; with
    /// [`state_dir`](Self::state_dir), one that is kept in that directory, where an agent of the
    /// same user could read it.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.secret_key = Some(key.into());
        self
    }

    /// A [`secret_key`](Self::secret_key) of before, with which what is stored can still be read.
    pub fn previous_secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.previous_secret_keys.push(key.into());
        self
    }

    /// Sets an environment variable of the server and of the agent's shell. The server's own
    /// Python ignores variables that begin with `PYTHON`; the agent's does not.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let value = Value::Plain(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// Like [`env`](Self::env); the value is cut out of logs. The agent can read it.
    pub fn secret_env(mut self, name: impl Into<OsString>, value: impl Into<SecretString>) -> Self {
        let value = Value::Secret(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// Passes on a variable of this process. Names that [`env`](Self::env) refuses are refused
    /// here, too.
    pub fn inherit_env(mut self, name: impl Into<OsString>) -> Self {
        self.settings.variables.inherit.push(name.into());
        self
    }

    /// Passes on all variables of this process but the server's own settings, the locale, those of
    /// Python, pip and uv, and those that belong to this user's home. The agent can read them all.
    pub fn inherit_all_env(mut self) -> Self {
        self.settings.variables.inherit_all = true;
        self
    }

    /// Lets the server and the agent's shell use this user's home. The agent then finds this
    /// user's Git identity, credentials and tools, and writes its histories and caches there.
    ///
    /// Shells then run this user's start-up files. Where that takes long, the server reports the
    /// first command of a terminal as finished while it still runs: the time is measured
    /// ([`LocalServer::shell_start`]), and a warning is logged from half a second on.
    pub fn inherit_home(mut self) -> Self {
        self.settings.variables.inherit_home = true;
        self
    }

    /// A Python module to import at start, such as one that registers custom tools. It is looked
    /// for in the server's environment and in [`python_path`](Self::python_path).
    pub fn import_module(mut self, module: impl Into<String>) -> Self {
        self.settings.import_modules.push(module.into());
        self
    }

    /// A directory to find such modules in, before all others. Who can write to it runs code in
    /// the server. It must exist, and its path must not hold a colon.
    pub fn python_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.python_path.push(path.into());
        self
    }

    /// What the server logs. Default [`LogLevel::Info`].
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.settings.log_level = level;
        self
    }

    /// Where the server posts events to.
    pub fn webhook(mut self, webhook: Webhook) -> Self {
        self.settings.webhooks.push(webhook);
        self
    }

    /// Starts dormant: the server takes no work until [`LocalServer::activate`]. Default false.
    pub fn deferred_init(mut self, yes: bool) -> Self {
        self.settings.deferred_init = yes;
        self
    }

    /// How long the server may take to be ready. Default 180 s; 12 to 16 s are usual.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long the server may take to shut down in order (SIGTERM) when this process has ended
    /// without shutting it down, by Ctrl-C or `kill -9` for example. It is killed then. Default:
    /// 10 s with [`state_dir`](Self::state_dir), so that running conversations are saved as
    /// paused; zero without, where nothing is kept.
    pub fn orphan_grace(mut self, grace: Duration) -> Self {
        self.settings.orphan_grace = Some(grace);
        self
    }

    /// One more argument of the command line. What a method of this builder sets is refused.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.settings.arguments.push(argument.into());
        self
    }

    /// What to do when the server ends by itself. Default: nothing.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.settings.restart = policy;
        self
    }

    /// Forks the server from this template where it can be, which takes some 1.5 s instead of 12 s,
    /// and runs it from the template's environment. Where it cannot be forked it is started cold;
    /// [`LocalServer::startup`] says which, and why. Does not keep the template alive.
    pub fn template(mut self, template: &TemplateServer) -> Self {
        self.settings.source = Source::Environment(template.environment().clone());
        self.settings.template = Some(template.handle());
        self.settings.never_forked = false;
        self
    }

    /// Starts the server cold, also where a [`WarmPool`](crate::WarmPool) would fork it.
    pub fn without_template(mut self) -> Self {
        self.settings.template = None;
        self.settings.never_forked = true;
        self
    }

    /// The template that servers like this could be forked from, where they have none.
    pub(crate) fn own_template(&self) -> Option<TemplateServerBuilder> {
        let wanted = self.settings.template.is_none() && !self.settings.never_forked;
        wanted.then(|| TemplateServerBuilder::like(&self.settings))
    }

    /// Starts the server and waits until it is ready and has proven to be ours.
    ///
    /// The server is supervised by tasks of the runtime that this is called on. When that runtime
    /// ends, the server is no longer restarted and its output is no longer read: a server that
    /// several tests share must not be started on the runtime of one of them.
    ///
    /// Cancel safe: dropping the future ends what was started.
    ///
    /// # Errors
    ///
    /// When the environment cannot be had (see [`Provisioner::provision`]), a setting cannot be
    /// used, the port is taken, or the server ends ([`ErrorKind::Died`](crate::ErrorKind::Died))
    /// or stays silent ([`ErrorKind::NotReady`](crate::ErrorKind::NotReady)): these two with its
    /// last lines. Nothing is left behind.
    pub async fn start(self) -> Result<LocalServer> {
        LocalServer::start(self.settings).await
    }
}
