//! A server that runs its conversations in separate containers, and the removal of those that
//! the server leaves when it is killed.

use std::{
    borrow::Cow,
    env,
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{Error, ErrorKind, Result, start::state::Place};

/// Runs `end` when the keeper ends.
const SCRIPT: &str = include_str!("containers.py");

/// The command of the engine, which the server also uses.
const DOCKER: &str = "docker";

/// Variables by which that command finds the engine. Passed on if they are set.
const ENGINE: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
];

/// Variable with the directory of the command's settings, such as its current context.
const SETTINGS: &str = "DOCKER_CONFIG";

/// Containers of Docker in which a server runs its conversations, one for each conversation:
/// see [`conversation_containers`].
///
/// [`conversation_containers`]: crate::LocalServerBuilder::conversation_containers
///
/// ```no_run
/// # async fn start() -> oh_process::Result<()> {
/// use oh_process::{ConversationContainers, LocalServer};
///
/// let containers = ConversationContainers::new().memory(2 << 30).cpus(1.0);
/// let server = LocalServer::builder()
///     .conversation_containers(containers)
///     .start()
///     .await?;
/// # drop(server); Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "the containers are used once they are passed to a builder"]
pub struct ConversationContainers {
    image: Option<String>,
    on_request: bool,
    memory: Option<u64>,
    cpus: Option<f64>,
    pids: Option<u32>,
    ready_within: Option<Duration>,
}

impl ConversationContainers {
    /// Runs every conversation in a container, with the server's defaults: the published image of
    /// the agent server, 4 GiB of memory, 2 CPUs and 512 processes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the image, which must contain an agent server as its entry point. Default: the image
    /// of the server's version that its authors publish.
    pub fn image(mut self, name: impl Into<String>) -> Self {
        self.image = Some(name.into());
        self
    }

    /// Uses a container only for conversations that ask for it, with the runtime `docker` of their
    /// builder. The others run in the server's process, and their agents can control the engine.
    pub fn on_request(mut self) -> Self {
        self.on_request = true;
        self
    }

    /// Sets how many bytes of memory a container may use. Default 4 GiB. A conversation's builder
    /// can set its own limit, also a higher one.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets how many CPUs a container may use. Default 2. A conversation's builder can set its own
    /// limit, also a higher one.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Sets how many processes a container may have. Default 512.
    pub fn pids(mut self, processes: u32) -> Self {
        self.pids = Some(processes);
        self
    }

    /// Sets how long the server in a container may take to become ready. Default 120 s.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = Some(limit);
        self
    }

    /// Checks the limits by the rules of the server and the engine.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.image.as_deref().is_some_and(|name| {
            // The engine would read such a name as an option.
            name.is_empty() || name.starts_with('-') || name.contains(char::is_whitespace)
        }) {
            return invalid("conversation_containers: the name of the image is invalid");
        }
        if self.memory.is_some_and(|bytes| bytes < 6 << 20) {
            return invalid("conversation_containers: memory must be at least 6 MiB");
        }
        if self.cpus.is_some_and(|cpus| cpus.is_nan() || cpus < 0.01) {
            return invalid("conversation_containers: cpus must be at least 0.01");
        }
        if self.pids == Some(0) {
            return invalid("conversation_containers: pids must be at least 1");
        }
        if self.ready_within.is_some_and(|limit| limit.is_zero()) {
            return invalid("conversation_containers: ready_within must not be zero");
        }
        Ok(())
    }

    /// Adds the settings of the server's configuration file.
    pub(crate) fn configure(&self, config: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
        match self.on_request {
            true => set("conversation_runtime_selectable", true.into()),
            false => set("conversation_runtime", "docker".into()),
        };
        if let Some(image) = &self.image {
            set("conversation_image", image.as_str().into());
        }
        if let Some(bytes) = self.memory {
            set("conversation_container_memory", format!("{bytes}b").into());
        }
        if let Some(cpus) = self.cpus {
            set("conversation_container_cpus", cpus.into());
        }
        if let Some(pids) = self.pids {
            set("conversation_container_pids_limit", pids.into());
        }
        if let Some(limit) = self.ready_within {
            let name = "conversation_container_startup_timeout";
            set(name, limit.as_secs_f64().into());
        }
    }

    /// Returns the variables by which the server's command finds the engine.
    pub(crate) fn variables() -> Vec<(Cow<'static, str>, OsString)> {
        let set = |name: &&'static str| Some(((*name).into(), env::var_os(name)?));
        let mut variables: Vec<_> = ENGINE.iter().filter_map(set).collect();
        // The server has another home.
        let settings = env::var_os(SETTINGS).map(PathBuf::from);
        let settings = settings.or_else(|| Some(env::home_dir()?.join(".docker")));
        if let Some(settings) = settings.filter(|settings| settings.is_dir()) {
            variables.push((SETTINGS.into(), settings.into()));
        }
        variables
    }

    /// Returns the script for the keeper that removes the containers of a server with this state.
    /// `variables` is the server's environment. `settled`: the server has ended in order, so no
    /// container can appear any more.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine's command is not installed.
    pub(crate) fn removal(
        place: &Place,
        variables: &[(OsString, OsString)],
        settled: bool,
    ) -> Result<String> {
        let path = variables.iter().find(|(name, _)| name == "PATH");
        let path = path.map(|(_, value)| value.as_os_str()).unwrap_or_default();
        let docker = which::which_in(DOCKER, Some(path), "/").map_err(|error| {
            let message = "conversations in containers need the command `docker`, which is not on \
                           the server's PATH: install Docker's command-line tool";
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })?;
        let needed = |name: &OsStr| {
            let name = name.to_string_lossy();
            ENGINE.contains(&name.as_ref()) || ["PATH", "HOME", SETTINGS].contains(&name.as_ref())
        };
        let text = |value: &OsStr| Value::from(value.to_string_lossy());
        let variables: Map<String, Value> = variables
            .iter()
            .filter(|(name, _)| needed(name))
            .map(|(name, value)| (name.to_string_lossy().into_owned(), text(value)))
            .collect();
        // As the server resolves them.
        let paths = [place.conversations(), place.persistence()]
            .map(|path| fs::canonicalize(&path).unwrap_or(path));
        let paths = paths.each_ref().map(|path| text(path.as_os_str()));
        // Strings, lists and objects of JSON are also those of Python.
        Ok(format!(
            "DOCKER = {}\nVARIABLES = {}\nPATHS = {}\nSETTLED = {}\n{SCRIPT}",
            text(docker.as_os_str()),
            Value::from(variables),
            json!(paths),
            if settled { "True" } else { "False" },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_no_engine_accepts_are_rejected() {
        let new = ConversationContainers::new;
        for invalid in [
            new().image(""),
            new().image("--privileged"),
            new().image("a b"),
            new().memory(1),
            new().cpus(0.0),
            new().cpus(f64::NAN),
            new().pids(0),
            new().ready_within(Duration::ZERO),
        ] {
            let error = invalid.check().expect_err("invalid");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let fine = new().image("host:5000/a/b:tag@sha256:0").cpus(0.5).pids(1);
        fine.check().expect("valid");
    }

    #[test]
    fn a_server_without_the_engines_command_is_not_started() {
        let place = Place::temporary().expect("a place");
        let nowhere = [("PATH".into(), "/nowhere".into())];
        let error = ConversationContainers::removal(&place, &nowhere, false).expect_err("none");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("docker"), "{error}");
    }
}
