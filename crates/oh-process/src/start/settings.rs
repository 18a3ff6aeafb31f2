//! The settings of a local server and their validation.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Environment, Error, ErrorKind, Provisioner, RestartPolicy, Result,
    provision::Report,
    start::{
        containers::ConversationContainers,
        options::{ServerOptions, check_key},
        state::Place,
        variables::{Variables, module_directories},
    },
    supervise::keeper::config_path,
};

/// Default time for a server with a persistent state directory to save its conversations after its
/// owner has died.
const KEPT_GRACE: Duration = Duration::from_secs(10);

/// The minimum length of a webhook's path that may be secret.
const PATH: usize = 16;

/// Command-line options of the server that a builder method sets, and that method.
const OPTIONS: &[(&str, &str)] = &[
    ("--host", "host"),
    ("--port", "port"),
    ("--import-modules", "import_module"),
    ("--extra-python-path", "python_path"),
];

/// Settings that a [`LocalServerBuilder`](crate::LocalServerBuilder) collects.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) source: Source,
    pub(crate) host: String,
    pub(crate) expose: bool,
    pub(crate) port: u16,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) workspace_dir: Option<PathBuf>,
    pub(crate) connection_file: Option<PathBuf>,
    pub(crate) server: ServerOptions,
    pub(crate) previous_secret_keys: Vec<SecretString>,
    pub(crate) variables: Variables,
    pub(crate) import_modules: Vec<String>,
    pub(crate) python_path: Vec<PathBuf>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) deferred_init: bool,
    pub(crate) orphan_grace: Option<Duration>,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) restart: RestartPolicy,
    pub(crate) report: Option<Report>,
    /// Set if the server runs conversations in containers.
    pub(crate) containers: Option<ConversationContainers>,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Provision(Provisioner),
    Environment(Environment),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::Provision(Provisioner::new()),
            host: Ipv4Addr::LOCALHOST.to_string(),
            expose: false,
            port: 0,
            state_dir: None,
            workspace_dir: None,
            connection_file: None,
            server: ServerOptions::default(),
            previous_secret_keys: Vec::new(),
            variables: Variables::default(),
            import_modules: Vec::new(),
            python_path: Vec::new(),
            webhooks: Vec::new(),
            deferred_init: false,
            orphan_grace: None,
            arguments: Vec::new(),
            restart: RestartPolicy::never(),
            report: None,
            containers: None,
        }
    }
}

impl Settings {
    /// Returns the address to listen on.
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
            Err(_) => {
                invalid("is not an IP address; use an address of this machine, such as 127.0.0.1")
            }
            Ok(ip) if !ip.is_loopback() && !self.expose => {
                invalid("can be reached by other machines; allow that with `expose(true)`")
            }
            Ok(ip) => Ok(ip),
        }
    }

    /// Returns the server's addresses that must bypass proxies.
    pub(crate) fn local(&self) -> Result<Vec<String>> {
        let ip = self.ip()?;
        Ok(match ip.is_unspecified() {
            true => Vec::new(),
            false => vec![ip.to_string()],
        })
    }

    /// Returns the variables that this crate sets. Callers may override most of them. None is
    /// secret, because the agent can read them.
    pub(crate) fn ours(
        &self,
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
            // Files left in this directory are removed with the state.
            ("TMPDIR".into(), state.scratch().into()),
            ("TZ".into(), "UTC".into()),
            ("LOG_JSON".into(), "true".into()),
            ("LOG_LEVEL".into(), self.server.log_level.as_str().into()),
            ("OPENHANDS_SUPPRESS_BANNER".into(), "1".into()),
            // The price list is part of the package; fetching it would delay every start.
            ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
            ("OH_ENABLE_VSCODE".into(), "false".into()),
            ("OH_PRELOAD_TOOLS".into(), "false".into()),
        ];
        if self.variables.home().is_none() {
            ours.push(("HOME".into(), state.home().into()));
        }
        if self.deferred_init {
            ours.push(("OH_DEFERRED_INIT".into(), "true".into()));
        }
        if self.containers.is_some() {
            ours.extend(ConversationContainers::variables());
        }
        ours
    }

    /// Returns how long the server may take to shut down after its owner has died.
    pub(crate) fn orphan_grace(&self) -> Duration {
        let default = match self.state_dir {
            Some(_) => KEPT_GRACE,
            // Temporary state is removed anyway.
            None => Duration::ZERO,
        };
        self.orphan_grace.unwrap_or(default)
    }

    /// Validates the settings as far as possible without starting anything.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        self.ip()?;
        self.variables.check()?;
        if let Some(containers) = &self.containers {
            containers.check()?;
            // The keeper finds the containers by directories, which an activation can change.
            if self.deferred_init {
                return invalid(
                    "conversation_containers: a dormant server, such as a spare of a pool, cannot \
                     run conversations in containers; start the server without a pool"
                        .to_owned(),
                );
            }
        }
        if self.connection_file.is_some() && self.deferred_init {
            return invalid(
                "connection_file: a dormant server, such as a spare of a pool, gets its key later; \
                 start the server without a pool"
                    .to_owned(),
            );
        }
        module_directories(&self.python_path)?;
        let keys = self.server.keys.iter().chain(&self.server.secret_key);
        for key in keys.chain(&self.previous_secret_keys) {
            check_key(key).or_else(|why| invalid(why.to_owned()))?;
        }
        for argument in &self.arguments {
            let text = argument.to_string_lossy();
            if text.contains('\0') {
                return invalid("an argument contains a NUL byte".to_owned());
            }
            // The server also accepts abbreviated option names.
            let name = text.split('=').next().unwrap_or_default();
            let known = |option: &&(&str, &str)| name.len() > 2 && option.0.starts_with(name);
            if let Some((option, method)) = OPTIONS.iter().find(known) {
                return invalid(format!(
                    "invalid argument {text}: set {option} with `{method}` instead"
                ));
            }
        }
        let module = |name: &String| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "._".contains(c))
        };
        if let Some(name) = self.import_modules.iter().find(|name| !module(name)) {
            return invalid(format!("{name:?} is not a valid Python module name"));
        }
        Ok(())
    }

    /// Returns the configuration that the server reads once at its start, as JSON: the settings
    /// that its agents must not see.
    pub(crate) fn config(&self, keys: &[SecretString], secret_key: &SecretString) -> SecretString {
        let shown = |keys: &[SecretString]| -> Vec<String> {
            let keys = keys.iter().map(ExposeSecret::expose_secret);
            keys.map(str::to_owned).collect()
        };
        let mut config = serde_json::json!({
            "session_api_keys": shown(keys),
            "secret_key": secret_key.expose_secret(),
        });
        if !self.previous_secret_keys.is_empty() {
            config["previous_secret_keys"] = shown(&self.previous_secret_keys).into();
        }
        if !self.webhooks.is_empty() {
            let webhooks: Vec<_> = self.webhooks.iter().map(Webhook::wire).collect();
            config["webhooks"] = webhooks.into();
        }
        if let (Some(containers), Some(config)) = (&self.containers, config.as_object_mut()) {
            containers.configure(config);
        }
        config.to_string().into()
    }
}

/// An endpoint that the server posts events and conversations to.
///
/// ```
/// use oh_process::{LocalServer, Webhook};
///
/// let webhook = Webhook::new("https://hooks.example.com").header("Authorization", "Bearer token");
/// let builder = LocalServer::builder().webhook(webhook);
/// # drop(builder);
/// ```
#[derive(Clone)]
pub struct Webhook {
    base_url: String,
    headers: Vec<(String, SecretString)>,
}

impl Webhook {
    /// Creates a webhook that receives posts at `{base_url}/events/{id}` and
    /// `{base_url}/conversations`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header to each post. The agent cannot read it.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the values that must never be shown: the headers, and the path, which identifies the
    /// sender at many hosts. Other secret parts of a URL are hidden in any log.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        let after_scheme = self.base_url.split_once("://").map(|(_, rest)| rest);
        let path = after_scheme
            .and_then(|rest| rest.split_once('/'))
            .map(|(_, path)| path);
        let path = path.map(|path| path.split(['?', '#']).next().unwrap_or_default());
        let path = path
            .map(|path| path.trim_end_matches('/'))
            .filter(|path| path.len() >= PATH);
        let headers = self.headers.iter().map(|(_, value)| value.clone());
        headers.chain(path.map(SecretString::from))
    }

    /// Returns the webhook in the format of the server's configuration, including its secrets.
    fn wire(&self) -> serde_json::Value {
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

/// Returns the path of the server's configuration in its state directory.
pub(crate) fn config_file(root: &Path) -> PathBuf {
    root.join("server.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(key: &str) -> ServerOptions {
        ServerOptions {
            keys: vec![key.into()],
            ..ServerOptions::default()
        }
    }

    #[test]
    fn a_public_host_needs_an_explicit_permission() {
        let settings = |host: &str| Settings {
            host: host.to_owned(),
            ..Settings::default()
        };
        for host in ["0.0.0.0", "192.0.2.1", "::", "example.org", ""] {
            let error = settings(host).ip().expect_err(host);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1"] {
            settings(host).ip().expect(host);
        }
        let mut exposed = settings("0.0.0.0");
        exposed.expose = true;
        exposed.ip().expect("allowed");
    }

    #[test]
    fn an_argument_cannot_replace_a_method() {
        for argument in [
            "--host",
            "--host=0.0.0.0",
            "--hos",
            "--ho=0.0.0.0",
            "--h",
            "--port",
            "--p=1",
            "--import-modules=os",
            "--extra",
            "a\0b",
        ] {
            let settings = Settings {
                arguments: vec![argument.into()],
                ..Settings::default()
            };
            let error = settings.check().expect_err(argument);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let settings = Settings {
            arguments: vec!["--no-such-option".into(), "--".into(), "-x".into()],
            ..Settings::default()
        };
        settings.check().expect("for the server to judge");
    }

    #[test]
    fn short_masked_and_unprintable_keys_are_rejected() {
        for key in [
            "",
            "short",
            "****************",
            "with a blank in it!",
            "sesame-sesame-sesame\n",
        ] {
            let settings = Settings {
                server: with_key(key),
                ..Settings::default()
            };
            let error = settings.check().expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("sesame"));
        }
        let fair = Settings {
            server: with_key("0123456789abcdef"),
            ..Settings::default()
        };
        fair.check().expect("a fair key");
        let modules = Settings {
            import_modules: vec!["a,b".to_owned()],
            ..Settings::default()
        };
        modules.check().expect_err("two modules");
    }

    #[test]
    fn the_path_of_a_webhook_is_a_secret() {
        let secrets = |url: &str| {
            let secrets = Webhook::new(url)
                .header("a", "b")
                .secrets()
                .collect::<Vec<_>>();
            let secrets = secrets
                .iter()
                .map(|secret| secret.expose_secret().to_owned());
            secrets.collect::<Vec<_>>()
        };
        let hook = "https://hooks.example/services/T0/B0/canary-canary/?x=1";
        assert_eq!(secrets(hook), ["b", "services/T0/B0/canary-canary"]);
        for plain in ["http://127.0.0.1:1", "http://h/hook/", "", "x"] {
            assert_eq!(secrets(plain), ["b"], "{plain}");
        }
    }

    #[test]
    fn an_orphan_gets_time_if_its_state_is_kept() {
        let mut settings = Settings::default();
        assert_eq!(settings.orphan_grace(), Duration::ZERO);
        settings.state_dir = Some("/state".into());
        assert_eq!(settings.orphan_grace(), KEPT_GRACE);
        settings.orphan_grace = Some(Duration::from_secs(1));
        assert_eq!(settings.orphan_grace(), Duration::from_secs(1));
    }
}
