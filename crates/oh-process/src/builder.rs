//! What a local server is to be like. Collects and checks; starts nothing itself.

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Environment, Error, ErrorKind, LocalServer, LogLevel, Progress, Provisioner, RestartPolicy,
    Result,
    provision::Report,
    variables::{Value, Variables},
};

/// Makes a [`LocalServer`].
///
/// Of the parent's environment the server gets an allow-list only (`PATH`, `HOME`, language,
/// certificates, proxies without a password …): the agent's commands see everything that the
/// server is given. Precedence, lowest first: that list and [`inherit_env`](Self::inherit_env),
/// what this crate sets, [`env`](Self::env) and [`secret_env`](Self::secret_env).
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct LocalServerBuilder {
    pub(crate) source: Source,
    pub(crate) host: String,
    pub(crate) expose: bool,
    pub(crate) port: u16,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) workspace_dir: Option<PathBuf>,
    pub(crate) keys: Vec<SecretString>,
    pub(crate) secret_key: Option<SecretString>,
    pub(crate) variables: Variables,
    pub(crate) import_modules: Vec<String>,
    pub(crate) python_path: Vec<PathBuf>,
    pub(crate) log_level: LogLevel,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) deferred_init: bool,
    pub(crate) deadline: Duration,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) restart: RestartPolicy,
    pub(crate) report: Option<Report>,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Provision(Provisioner),
    Environment(Environment),
}

impl Default for LocalServerBuilder {
    fn default() -> Self {
        Self {
            source: Source::Provision(Provisioner::new()),
            host: Ipv4Addr::LOCALHOST.to_string(),
            expose: false,
            port: 0,
            state_dir: None,
            workspace_dir: None,
            keys: Vec::new(),
            secret_key: None,
            variables: Variables::default(),
            import_modules: Vec::new(),
            python_path: Vec::new(),
            log_level: LogLevel::Info,
            webhooks: Vec::new(),
            deferred_init: false,
            deadline: Duration::from_secs(180),
            arguments: Vec::new(),
            restart: RestartPolicy::never(),
            report: None,
        }
    }
}

impl LocalServerBuilder {
    /// Finds or makes the environment with this. Default: [`Provisioner::new`].
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.source = Source::Provision(provisioner);
        self
    }

    /// Runs the server from this environment.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.source = Source::Environment(environment);
        self
    }

    /// Is told of each step of the start: [`Provisioner::on_progress`], and
    /// [`Progress::Starting`].
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Some(Report::new(report));
        self
    }

    /// The address to listen on: an IP address or `localhost`. Default `127.0.0.1`. Always handed
    /// to the server, whose own default is every interface. One that other machines can reach
    /// must be allowed by [`expose`](Self::expose).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Allows a [`host`](Self::host) that other machines can reach. Who holds the session key can
    /// run anything on this machine, and the key travels in the clear.
    pub fn expose(mut self, yes: bool) -> Self {
        self.expose = yes;
        self
    }

    /// The port. Default 0: a free one, and another should that be lost.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Keeps conversations, files and keys in this directory, which is made when missing. Default:
    /// a temporary directory that goes with the server.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Where the server runs, and where conversations and commands work that name no directory;
    /// made when missing. Default: a directory in the state directory.
    pub fn workspace_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.workspace_dir = Some(path.into());
        self
    }

    /// A session key the server accepts; the first is the one [`LocalServer::client`] uses.
    /// Default: a random one. At least 16 characters.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// The key that encrypts what the server stores. Default: one made with the state directory
    /// and kept in it.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.secret_key = Some(key.into());
        self
    }

    /// Sets an environment variable of the server and of the agent's shell.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables
            .set
            .push((name.into(), Value::Plain(value.into())));
        self
    }

    /// Like [`env`](Self::env); the value is cut out of logs. The agent can read it.
    pub fn secret_env(mut self, name: impl Into<OsString>, value: impl Into<SecretString>) -> Self {
        self.variables
            .set
            .push((name.into(), Value::Secret(value.into())));
        self
    }

    /// Passes on a variable of this process.
    pub fn inherit_env(mut self, name: impl Into<OsString>) -> Self {
        self.variables.inherit.push(name.into());
        self
    }

    /// Passes on all variables of this process but the server's own settings. The agent can read
    /// them all.
    pub fn inherit_all_env(mut self) -> Self {
        self.variables.inherit_all = true;
        self
    }

    /// A Python module to import at start, such as one that registers custom tools.
    pub fn import_module(mut self, module: impl Into<String>) -> Self {
        self.import_modules.push(module.into());
        self
    }

    /// A directory to find such modules in.
    pub fn python_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.python_path.push(path.into());
        self
    }

    /// What the server logs. Default [`LogLevel::Info`].
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    /// Where the server posts events to.
    pub fn webhook(mut self, webhook: Webhook) -> Self {
        self.webhooks.push(webhook);
        self
    }

    /// Starts dormant: it takes no work until [`LocalServer::activate`]. Default false.
    pub fn deferred_init(mut self, yes: bool) -> Self {
        self.deferred_init = yes;
        self
    }

    /// How long it may take to be ready. Default 180 s; 12 to 16 s are usual.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// One more argument of the command line.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// What to do when the server ends by itself. Default: nothing.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }

    /// Starts the server and waits until it is ready and has proven to be ours.
    ///
    /// Cancel safe: dropping the future ends what was started.
    ///
    /// # Errors
    ///
    /// When the environment cannot be had (see [`Provisioner::provision`]), a setting cannot be
    /// used, the port is taken, or the server ends ([`ErrorKind::Died`]) or stays silent
    /// ([`ErrorKind::NotReady`]): these two with its last lines. Nothing is left behind.
    pub async fn start(self) -> Result<LocalServer> {
        LocalServer::start(self).await
    }

    /// The address to listen on.
    pub(crate) fn ip(&self) -> Result<IpAddr> {
        let invalid = |why: &str| {
            let message = format!("host {:?} {why}", self.host);
            Err(Error::new(ErrorKind::InvalidInput, message))
        };
        let host = match self.host.as_str() {
            "localhost" => "127.0.0.1",
            host => host.trim_start_matches('[').trim_end_matches(']'),
        };
        match host.parse::<IpAddr>() {
            Err(_) => invalid("is no IP address; name one of this machine, such as 127.0.0.1"),
            Ok(ip) if !ip.is_loopback() && !self.expose => {
                invalid("can be reached by other machines; allow that with `expose(true)`")
            }
            Ok(ip) => Ok(ip),
        }
    }

    /// Checks what can be checked without starting anything.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let printable = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
        for key in self.keys.iter().chain(&self.secret_key) {
            let key = key.expose_secret();
            if key.chars().all(|c| c == '*') {
                return invalid("a key is masked: give the real one".to_owned());
            }
            if key.len() < 16 || !printable(key) {
                return invalid("a key is at least 16 visible ASCII characters".to_owned());
            }
        }
        let nul = |argument: &OsString| argument.as_encoded_bytes().contains(&0);
        if self.arguments.iter().any(nul) {
            return invalid("an argument holds a NUL byte".to_owned());
        }
        let module = |name: &String| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "._".contains(c))
        };
        if let Some(name) = self.import_modules.iter().find(|name| !module(name)) {
            return invalid(format!("{name:?} is not the name of a Python module"));
        }
        Ok(())
    }
}

/// A place the server posts events and conversations to.
#[derive(Clone)]
pub struct Webhook {
    base_url: String,
    headers: Vec<(String, SecretString)>,
}

impl Webhook {
    /// Posts to `{base_url}/events/{id}` and `{base_url}/conversations`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            headers: Vec::new(),
        }
    }

    /// A header of each post.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        self.headers.iter().map(|(_, value)| value.clone())
    }

    /// As the server's configuration wants it, with its secrets.
    pub(crate) fn wire(&self) -> serde_json::Value {
        let headers: serde_json::Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().into()))
            .collect();
        serde_json::json!({ "base_url": self.base_url, "headers": headers })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> LocalServerBuilder {
        LocalServerBuilder::default()
    }

    #[test]
    fn a_host_that_others_can_reach_needs_leave() {
        for host in ["0.0.0.0", "192.0.2.1", "::", "example.org", ""] {
            let error = builder().host(host).ip().expect_err(host);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1"] {
            builder().host(host).ip().expect(host);
        }
        builder()
            .host("0.0.0.0")
            .expose(true)
            .ip()
            .expect("allowed");
    }

    #[test]
    fn keys_that_are_short_or_masked_or_unprintable_are_refused() {
        for key in [
            "",
            "short",
            "****************",
            "with a blank in it!",
            "sesame-sesame-sesame\n",
        ] {
            let error = builder().session_api_key(key).check().expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("sesame"));
        }
        builder()
            .session_api_key("0123456789abcdef")
            .check()
            .expect("a fair key");
        builder()
            .import_module("a,b")
            .check()
            .expect_err("two modules");
        builder().arg("a\0b").check().expect_err("a NUL");
    }
}
