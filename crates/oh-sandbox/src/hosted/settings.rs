//! The settings of a hosted runtime, and their checks.

use std::time::Duration;

use oh_transport::Network;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::{
    Error, ErrorKind, Pull, Result,
    docker::settings::default_image,
    options::{check_value, check_variable},
};

/// The end of a hosted sandbox when its owner is dropped or shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AtEnd {
    /// The sandbox is removed. The default.
    #[default]
    Remove,
    /// The sandbox is paused. It keeps its disk, and can be used again by its id.
    Pause,
    /// The sandbox stays as it is (keep-alive). It can be used again by its id, and costs what the
    /// service charges until then.
    Keep,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) key: SecretString,
    pub(crate) network: Option<Network>,
    pub(crate) session_id: Option<String>,
    pub(crate) image: String,
    pub(crate) pull: Pull,
    pub(crate) command: String,
    pub(crate) user: u32,
    pub(crate) workspace: String,
    pub(crate) resource_factor: u8,
    pub(crate) runtime_class: Option<String>,
    pub(crate) variables: Vec<(String, SecretString)>,
    pub(crate) forwarded: Vec<String>,
    pub(crate) at_end: AtEnd,
    pub(crate) times: Times,
}

/// Time limits and intervals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For the response to the request that starts or resumes a sandbox.
    pub(crate) start: Duration,
    /// From then on, until the server is ready and verified.
    pub(crate) ready: Duration,
    /// For each other request to the control plane.
    pub(crate) request: Duration,
    /// For each request to the server, such as the first message.
    pub(crate) first_message: Duration,
    /// Between two requests while the sandbox is not ready.
    pub(crate) poll: Duration,
    /// Between two requests while it is.
    pub(crate) watch: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(300),
            ready: Duration::from_secs(300),
            request: Duration::from_secs(60),
            first_message: Duration::from_secs(300),
            poll: Duration::from_secs(2),
            watch: Duration::from_secs(10),
        }
    }
}

impl Times {
    pub(crate) fn check(&self) -> Result<()> {
        let named = [
            ("start_within", self.start),
            ("ready_within", self.ready),
            ("request_timeout", self.request),
            ("first_message_within", self.first_message),
            ("poll_every", self.poll),
            ("watch_every", self.watch),
        ];
        match named.iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => invalid(format!("{name} must be above 0")),
            None => Ok(()),
        }
    }
}

impl Settings {
    pub(crate) fn new(url: String, key: SecretString) -> Self {
        Self {
            url,
            key,
            network: None,
            session_id: None,
            image: default_image(),
            pull: Pull::Missing,
            command: "/usr/local/bin/openhands-agent-server --port 60000".to_owned(),
            user: 10001,
            workspace: "/workspace".to_owned(),
            resource_factor: 1,
            runtime_class: Some("sysbox-runc".to_owned()),
            variables: Vec::new(),
            forwarded: Vec::new(),
            at_end: AtEnd::default(),
            times: Times::default(),
        }
    }

    /// Rejects invalid values before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        self.times.check()?;
        if let Some(id) = &self.session_id {
            check_id("session_id", id)?;
        }
        if ![1, 2, 4, 8].contains(&self.resource_factor) {
            return invalid(format!(
                "resource_factor {} is not valid: must be 1, 2, 4 or 8",
                self.resource_factor
            ));
        }
        for (name, text) in [("image", &self.image), ("command", &self.command)] {
            if text.trim().is_empty() {
                return invalid(format!("{name} must not be empty"));
            }
        }
        if !self.workspace.starts_with('/') {
            return invalid(format!("workspace {:?} must be absolute", self.workspace));
        }
        let names = self.variables.iter().map(|(name, _)| name);
        for name in names.chain(&self.forwarded) {
            check_variable(name)?;
        }
        for (name, value) in &self.variables {
            check_value(name, value)?;
        }
        Ok(())
    }

    /// Returns the body of the request that starts a runtime.
    pub(crate) fn start_body(&self, session_id: &str) -> Value {
        let pull = match self.pull {
            Pull::Missing => "IfNotPresent",
            Pull::Always => "Always",
            Pull::Never => "Never",
        };
        let mut environment = Map::new();
        for name in &self.forwarded {
            if let Ok(value) = std::env::var(name) {
                environment.insert(name.clone(), value.into());
            }
        }
        for (name, value) in &self.variables {
            environment.insert(name.clone(), value.expose_secret().into());
        }
        let mut body = json!({
            "image": self.image,
            "command": self.command,
            // The command is started in the root directory, as in the image.
            "working_dir": "/",
            "environment": environment,
            "session_id": session_id,
            "run_as_user": self.user,
            "fs_group": self.user,
            "image_pull_policy": pull,
        });
        if let Some(class) = &self.runtime_class {
            body["runtime_class"] = class.as_str().into();
        }
        if self.resource_factor != 1 {
            body["resource_factor"] = self.resource_factor.into();
        }
        body
    }
}

/// Checks an id that becomes part of a path.
pub(crate) fn check_id(name: &str, id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let dots = id.bytes().all(|byte| byte == b'.');
    match (1..=128).contains(&id.len()) && id.bytes().all(allowed) && !dots {
        true => Ok(()),
        false => invalid(format!(
            "{name} {id:?} is not valid: must be 1 to 128 letters, digits, `-`, `_` and `.`"
        )),
    }
}

fn invalid(message: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("http://127.0.0.1:1".to_owned(), "key".into())
    }

    #[test]
    fn invalid_settings_are_rejected_with_the_name_of_the_setting() {
        settings().check().unwrap();
        let rejects = |change: fn(&mut Settings), part: &str| {
            let mut settings = settings();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        rejects(|s| s.resource_factor = 3, "resource_factor");
        rejects(|s| s.session_id = Some("a/b".to_owned()), "session_id");
        rejects(|s| s.session_id = Some("..".to_owned()), "session_id");
        rejects(|s| s.times.ready = Duration::ZERO, "ready_within");
        rejects(|s| s.image = String::new(), "image");
        rejects(|s| s.workspace = "here".to_owned(), "workspace");
        rejects(|s| s.forwarded.push("OH_SECRET_KEY".to_owned()), "secret");
    }

    #[test]
    fn only_named_variables_are_in_the_request() {
        let mut settings = settings();
        settings
            .forwarded
            .push("NO_SUCH_VARIABLE_ANYWHERE".to_owned());
        let body = settings.start_body("one");
        assert_eq!(body["environment"], json!({}));
        assert_eq!(body["image_pull_policy"], "IfNotPresent");
        assert_eq!(body.get("resource_factor"), None);

        settings.variables.push(("A".to_owned(), "b".into()));
        settings.forwarded.push("PATH".to_owned());
        settings.resource_factor = 8;
        settings.runtime_class = None;
        let body = settings.start_body("one");
        assert_eq!(body["environment"]["A"], "b");
        assert_eq!(body["environment"]["PATH"], std::env::var("PATH").unwrap());
        assert_eq!(body["resource_factor"], 8);
        assert_eq!(body.get("runtime_class"), None);
    }
}
