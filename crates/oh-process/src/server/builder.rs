//! What a local server is started with.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use secrecy::SecretString;

use super::{LocalServer, start};
use crate::{Environment, Progress, Provisioner, Result};

/// Starts a [`LocalServer`].
#[must_use = "a builder does nothing until it is started"]
pub struct LocalServerBuilder {
    pub(super) provisioner: Provisioner,
    pub(super) environment: Option<Environment>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) workspace_dir: Option<PathBuf>,
    pub(super) session_api_key: Option<SecretString>,
    pub(super) env: BTreeMap<String, OsString>,
    pub(super) inherited: Vec<String>,
    pub(super) arguments: Vec<OsString>,
    pub(super) deadline: Duration,
}

impl LocalServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            provisioner: Provisioner::new(),
            environment: None,
            host: "127.0.0.1".to_owned(),
            port: None,
            state_dir: None,
            workspace_dir: None,
            session_api_key: None,
            env: BTreeMap::new(),
            inherited: Vec::new(),
            arguments: Vec::new(),
            deadline: Duration::from_secs(120),
        }
    }

    /// Where the Python environment comes from.
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.provisioner = provisioner;
        self
    }

    /// Uses an environment you made, and provisions nothing.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Tells what is being done while provisioning and starting.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.provisioner = self.provisioner.on_progress(report);
        self
    }

    /// The address to listen on. Default 127.0.0.1; it is always named to the server, whose own
    /// default with a key is every interface.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// The port to listen on. Default: a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps conversations, settings and the secret key here, also after the server's end; a
    /// later server can go on with them. Default: a temporary directory, removed at the end.
    pub fn state_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(directory.into());
        self
    }

    /// The server's directory for work. Default: one within the state directory.
    pub fn workspace_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.workspace_dir = Some(directory.into());
        self
    }

    /// The key that opens the server. Default: a fresh random one.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.session_api_key = Some(key.into());
        self
    }

    /// An environment variable for the server. The agent's shell sees it too.
    ///
    /// It wins over defaults, but not over what the supervisor decides itself: paths, keys.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Passes a variable of this process on, by name. By default only a short list is passed
    /// (path, home, locale, certificates, proxies), since the agent's shell sees them all.
    pub fn inherit_env(mut self, name: impl Into<String>) -> Self {
        self.inherited.push(name.into());
        self
    }

    /// An extra argument for the server's command line.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// How long the server may take to get ready. Default 120 s; 8 to 16 s are usual.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Provisions if need be, starts the server, and waits until it has proven itself ready.
    ///
    /// Dropping the future ends whatever was started.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`](crate::ErrorKind): what is wrong with the input, the environment, the
    /// port, or the server, whose exit status and last log lines the error then holds.
    pub async fn start(self) -> Result<LocalServer> {
        start::start(self).await
    }
}

impl IntoFuture for LocalServerBuilder {
    type Output = Result<LocalServer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for LocalServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of variables may be secrets.
        f.debug_struct("LocalServerBuilder")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("state_dir", &self.state_dir)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
