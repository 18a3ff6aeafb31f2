//! The builder for a local server.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    Environment, LocalServer, Progress, Provisioner, RestartPolicy, Result, TemplateServer,
    TemplateServerBuilder, Webhook,
    provision::Report,
    start::{
        containers::ConversationContainers,
        settings::{Settings, Source},
        variables::Value,
    },
    template::TemplateHandle,
};

/// Configures and starts a [`LocalServer`].
///
/// # What the server and its agents see of this machine
///
/// The agent's commands can read every variable of the server's environment, so the server gets
/// only a few. Only an allow-list of this process's variables is passed on (`PATH`, certificates,
/// proxies without a password …), and never a Python or pip variable. Precedence, lowest first: the
/// allow-list and [`inherit_env`](Self::inherit_env), the variables that this crate sets, then
/// [`env`](Self::env) and [`secret_env`](Self::secret_env). The locale is always UTF-8. Loopback
/// addresses always bypass proxies. Relative directories are removed from `PATH` and from the lists
/// of library directories. Relative paths of certificates become absolute.
///
/// Keys and webhook headers are not in any variable and, on Linux, not in any file: the server
/// reads them once from memory. An agent runs as the same user as the server. This protects against
/// secrets that an agent prints or sends by accident, not against an agent that debugs the server's
/// process.
///
/// The server starts in an empty directory that is created for this start. It imports modules only
/// from its own environment and from [`python_path`](Self::python_path), regardless of what the
/// workspace contains.
///
/// `HOME` is a directory in the state directory. Histories, caches and configuration go there, and
/// shells run none of this user's start-up files. See [`inherit_home`](Self::inherit_home).
///
/// ```no_run
/// # async fn start() -> oh_process::Result<()> {
/// use oh_process::{LocalServer, LogLevel, RestartPolicy};
///
/// let server = LocalServer::builder()
///     .state_dir("/var/lib/agents")
///     .log_level(LogLevel::Warning)
///     .restart(RestartPolicy::on_failure(3))
///     .on_progress(|step| eprintln!("{step}"))
///     .start()
///     .await?;
/// println!("{}", server.url());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct LocalServerBuilder {
    settings: Settings,
    template: Option<TemplateHandle>,
    /// Whether forking is disabled, for a pool as well.
    never_forked: bool,
}

impl LocalServer {
    /// Creates a builder with default settings.
    pub fn builder() -> LocalServerBuilder {
        LocalServerBuilder::default()
    }
}

impl LocalServerBuilder {
    /// Sets the provisioner that finds or creates the environment. Default: [`Provisioner::new`].
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.settings.source = Source::Provision(provisioner);
        self
    }

    /// Sets the environment to run the server from.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.settings.source = Source::Environment(environment);
        self
    }

    /// Sets a callback for start-up progress: the steps of [`Provisioner::on_progress`], and
    /// [`Progress::Starting`].
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.report = Some(Report::new(report));
        self
    }

    /// Sets the address to listen on: an IP address or `localhost`. Default `127.0.0.1`. The
    /// address is always passed to the server, whose own default is every interface. An address
    /// that other machines can reach must be allowed by [`expose`](Self::expose).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.settings.host = host.into();
        self
    }

    /// Allows a [`host`](Self::host) that other machines can reach. Anyone with the session key can
    /// run any command on this machine, and the key is sent unencrypted.
    pub fn expose(mut self, yes: bool) -> Self {
        self.settings.expose = yes;
        self
    }

    /// Sets the port. Default 0: a free port, and another one if that port is taken before the
    /// server listens.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = port;
        self
    }

    /// Sets the directory that keeps conversations, files and keys. A missing directory is created.
    /// Default: a temporary directory that is removed with the server.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.state_dir = Some(path.into());
        self
    }

    /// Sets the working directory of conversations that do not name one. A missing directory is
    /// created. Default: a directory in the state directory. The server itself does not run in this
    /// directory.
    pub fn workspace_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.workspace_dir = Some(path.into());
        self
    }

    /// Writes the server's URL and session key to this file as soon as the server is ready, so that
    /// other programs of this user can use it ([`AttachedServer::from_file`]). Only this user can
    /// read the file. The file is removed with the server, with a `kill -9` of this process as
    /// well. A file with this name is replaced. Default: no file.
    ///
    /// An agent of the same user can read the file too. Cannot be combined with
    /// [`deferred_init`](Self::deferred_init), so not with a [`WarmPool`](crate::WarmPool) either.
    /// Two servers must not use the same file.
    ///
    /// [`AttachedServer::from_file`]: crate::AttachedServer::from_file
    pub fn connection_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.connection_file = Some(path.into());
        self
    }

    crate::server_setters!(
        settings.server;
        /// With [`state_dir`](Self::state_dir), the default key is kept in that directory, where an
        /// agent of the same user can read it.
        secret_key;
        /// Sets how long the server may take to become ready. Default 180 s; 10 to 16 s are usual.
        ready_within
    );

    /// Adds a former [`secret_key`](Self::secret_key), so that data encrypted with it can be
    /// decrypted.
    pub fn previous_secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.previous_secret_keys.push(key.into());
        self
    }

    /// Sets an environment variable of the server and of the agent's shell. The server's own Python
    /// ignores variables that begin with `PYTHON`; the agent's Python does not.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let value = Value::Plain(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// Sets a variable like [`env`](Self::env), and removes its value from logs. The agent can read
    /// it.
    pub fn secret_env(mut self, name: impl Into<OsString>, value: impl Into<SecretString>) -> Self {
        let value = Value::Secret(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// Passes on a variable of this process. Names that [`env`](Self::env) rejects are rejected
    /// here, too.
    pub fn inherit_env(mut self, name: impl Into<OsString>) -> Self {
        self.settings.variables.inherit.push(name.into());
        self
    }

    /// Passes on all variables of this process except the server's own settings, the locale,
    /// variables of Python, pip and uv, and those that belong to this user's home. The agent can
    /// read them all.
    pub fn inherit_all_env(mut self) -> Self {
        self.settings.variables.inherit_all = true;
        self
    }

    /// Lets the server and the agent's shell use this user's home directory. The agent then finds
    /// this user's Git identity, credentials and tools, and writes its histories and caches there.
    ///
    /// Shells then run this user's start-up files. If these take long, the server reports the first
    /// command of a terminal as finished while it is still running. The start-up time is measured
    /// ([`LocalServer::shell_start`]), and a warning is logged if it is half a second or more.
    pub fn inherit_home(mut self) -> Self {
        self.settings.variables.inherit_home = true;
        self
    }

    /// Adds a Python module to import at start, such as one that registers custom tools. The module
    /// is searched in the server's environment and in [`python_path`](Self::python_path).
    pub fn import_module(mut self, module: impl Into<String>) -> Self {
        self.settings.import_modules.push(module.into());
        self
    }

    /// Adds a directory to search for such modules before all others. Anyone who can write to the
    /// directory can run code in the server. The directory must exist, and its path must not
    /// contain a colon.
    pub fn python_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.python_path.push(path.into());
        self
    }

    /// Adds a webhook that the server posts events to.
    pub fn webhook(mut self, webhook: Webhook) -> Self {
        self.settings.webhooks.push(webhook);
        self
    }

    /// Sets whether the server starts dormant: it accepts no work until [`LocalServer::activate`].
    /// Default false.
    pub fn deferred_init(mut self, yes: bool) -> Self {
        self.settings.deferred_init = yes;
        self
    }

    /// Runs each conversation in a separate container, through the command `docker`. The agent
    /// then sees only the image and the conversation's workspace, which is `/workspace` there.
    /// Default: agents run in the server's process, with this user's rights.
    ///
    /// When the server ends, in any way, the keeper removes the containers, with a `kill -9` of
    /// this process as well. The conversations are kept with the state. The engine must be on this
    /// machine, because directories of the state are mounted in the containers.
    ///
    /// Cannot be combined with [`deferred_init`](Self::deferred_init), so not with a
    /// [`WarmPool`](crate::WarmPool) either: the start fails with
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn conversation_containers(mut self, containers: ConversationContainers) -> Self {
        self.settings.containers = Some(containers);
        self
    }

    /// Sets how long the server may take to shut down (SIGTERM) after this process has ended
    /// without shutting it down, for example by Ctrl-C or `kill -9`. The server is killed after
    /// this time. Default: 10 s with [`state_dir`](Self::state_dir), so that running conversations
    /// are saved as paused; otherwise zero, because no state is kept.
    pub fn orphan_grace(mut self, grace: Duration) -> Self {
        self.settings.orphan_grace = Some(grace);
        self
    }

    /// Adds a command-line argument for the server. Arguments that a method of this builder sets
    /// are rejected.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.settings.arguments.push(argument.into());
        self
    }

    /// Sets the restart policy for a server that ends unexpectedly. Default: no restart.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.settings.restart = policy;
        self
    }

    /// Forks the server from this template where possible, which takes about 1.5 s instead of 12 s,
    /// and runs it from the template's environment. Otherwise the server is started cold.
    /// [`LocalServer::startup`] returns how it was started, and why. The builder does not keep the
    /// template alive.
    pub fn template(mut self, template: &TemplateServer) -> Self {
        self.settings.source = Source::Environment(template.environment().clone());
        self.template = Some(template.handle());
        self.never_forked = false;
        self
    }

    /// Starts the server cold, even where a [`WarmPool`](crate::WarmPool) would fork it.
    pub fn without_template(mut self) -> Self {
        self.template = None;
        self.never_forked = true;
        self
    }

    /// Returns a builder for a template for servers like this one. Returns `None` if a template is
    /// set or forking is disabled.
    pub(crate) fn own_template(&self) -> Option<TemplateServerBuilder> {
        let wanted = self.template.is_none() && !self.never_forked;
        wanted.then(|| TemplateServerBuilder::like(&self.settings))
    }

    /// Starts the server and waits until it is ready and its identity is verified.
    ///
    /// The server is supervised by tasks of the runtime that this is called on. When that runtime
    /// ends, the server is no longer restarted and its output is no longer read. A server that
    /// several tests share must not be started on the runtime of one of them.
    ///
    /// Cancel-safe: dropping the future stops everything that was started.
    ///
    /// # Errors
    ///
    /// - The errors of [`Provisioner::provision`] if the environment is not available.
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a setting is invalid, and
    ///   [`ErrorKind::PortTaken`](crate::ErrorKind::PortTaken).
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the server is older than this
    ///   crate supports.
    /// - [`ErrorKind::Died`](crate::ErrorKind::Died) if the server ends, and
    ///   [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) if it does not become ready in time.
    ///   Both errors include the last lines of the server's log.
    ///
    /// Everything that was started is cleaned up.
    pub async fn start(self) -> Result<LocalServer> {
        LocalServer::start(self.settings, self.template).await
    }
}
