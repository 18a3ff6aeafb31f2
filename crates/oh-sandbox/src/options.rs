//! The settings of a server that every kind of sandbox has.

use oh_process::internal::{self, LogHub, ServerOptions};
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, Result};

/// Variables that this crate sets or replaces, and the method to use instead.
const RESERVED: &[(&str, &str)] = &[
    (
        "OPENHANDS_AGENT_SERVER_CONFIG_PATH",
        "the methods of the builder",
    ),
    ("OH_SECRET_KEY", "secret_key"),
    ("OH_DEFERRED_INIT", "a `WarmPool`"),
    ("SESSION_API_KEY", "session_api_key"),
    ("OH_SESSION_API_KEYS", "session_api_key"),
];

#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) server: ServerOptions,
    pub(crate) variables: Vec<(String, SecretString)>,
    pub(crate) forwarded: Vec<String>,
    pub(crate) arguments: Vec<String>,
}

/// The keys of a server that is being started.
pub(crate) struct Keys {
    /// The keys that the server accepts.
    pub(crate) session: Vec<SecretString>,
    /// The first of them, for the server's client.
    pub(crate) first: SecretString,
    pub(crate) secret: SecretString,
}

impl Options {
    /// Rejects invalid values before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        let names = self.variables.iter().map(|(name, _)| name);
        for name in names.chain(&self.forwarded) {
            check_variable(name)?;
        }
        for (name, value) in &self.variables {
            check_value(name, value)?;
        }
        for key in self.server.keys.iter().chain(&self.server.secret_key) {
            check_key(key)?;
        }
        match self.server.deadline.is_zero() {
            true => invalid("ready_within must be above 0".to_owned()),
            false => Ok(()),
        }
    }

    /// Returns the chosen keys, or random ones.
    pub(crate) fn keys(&self) -> Keys {
        let chosen = self.server.keys.first().cloned();
        let first = chosen.unwrap_or_else(internal::random_key);
        let others = self.server.keys.iter().skip(1).cloned();
        let secret = self.server.secret_key.clone();
        Keys {
            session: std::iter::once(first.clone()).chain(others).collect(),
            first,
            secret: secret.unwrap_or_else(internal::random_key),
        }
    }

    /// Returns the variables of the caller, and the forwarded ones that are set in this process.
    pub(crate) fn chosen_variables(&self) -> Vec<(String, SecretString)> {
        let forwarded = self
            .forwarded
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?.into())));
        forwarded.chain(self.variables.iter().cloned()).collect()
    }

    /// Returns a hub for the log of a server, which hides the values of variables and these keys.
    pub(crate) fn log_hub(&self, keys: &Keys) -> LogHub {
        let variables = self.chosen_variables().into_iter().map(|(_, value)| value);
        let keys = keys.session.iter().chain([&keys.secret]).cloned();
        LogHub::new(variables.chain(keys).collect())
    }

    /// Returns the variables that this crate sets. None is secret. `config` is the path of the
    /// server's configuration.
    pub(crate) fn usual_variables(
        &self,
        config: &str,
        workspace: &str,
    ) -> Vec<(&'static str, String)> {
        let all = [
            ("OPENHANDS_AGENT_SERVER_CONFIG_PATH", config),
            ("OH_WORKSPACE_PATH", workspace),
            ("LOG_JSON", "true"),
            ("LOG_LEVEL", self.server.log_level.as_str()),
            ("OPENHANDS_SUPPRESS_BANNER", "1"),
            // The price list is part of the package; fetching it would delay every start.
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("OH_ENABLE_VSCODE", "false"),
            ("OH_PRELOAD_TOOLS", "false"),
        ];
        all.map(|(name, value)| (name, value.to_owned())).into()
    }
}

/// Defines the setters of [`Options`] in a builder with `settings.options`. The parameters are the
/// last sentences of the documentation of `env`, and those of `ready_within`.
macro_rules! option_setters {
    ($(#[$env:meta])+ env; $(#[$deadline:meta])+ ready_within) => {
        /// Sets an environment variable of the server and of the agent's shell. Its value is
        /// removed from logs of the server.
        $(#[$env])+
        pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
            let variable = (name.into(), value.into());
            self.settings.options.variables.push(variable);
            self
        }

        /// Passes on a variable of this process, if it is set. No other variable is passed on.
        pub fn forward_env(mut self, name: impl Into<String>) -> Self {
            self.settings.options.forwarded.push(name.into());
            self
        }

        /// Adds a command-line argument for the server.
        pub fn arg(mut self, argument: impl Into<String>) -> Self {
            self.settings.options.arguments.push(argument.into());
            self
        }

        ::oh_process::server_setters!(
            settings.options.server;
            secret_key;
            $(#[$deadline])+
            ready_within
        );
    };
}
pub(crate) use option_setters;

fn invalid(message: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidInput, message))
}

pub(crate) fn check_value(name: &str, value: &SecretString) -> Result<()> {
    match value.expose_secret().contains('\0') {
        true => invalid(format!(
            "the value of environment variable {name} contains a NUL byte"
        )),
        false => Ok(()),
    }
}

pub(crate) fn check_key(key: &SecretString) -> Result<()> {
    internal::check_key(key).or_else(|why| invalid(why.to_owned()))
}

pub(crate) fn check_variable(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return invalid(format!(
            "{name:?} is not a valid name of an environment variable"
        ));
    }
    let reserved = |(prefix, _): &&(&str, &str)| name.starts_with(prefix);
    match RESERVED.iter().find(reserved) {
        Some((_, method)) => invalid(format!(
            "environment variable {name} cannot be set here: use {method} instead"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rejects(change: impl FnOnce(&mut Options), part: &str) {
        let mut options = Options::default();
        change(&mut options);
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn invalid_options_are_rejected() {
        Options::default().check().unwrap();
        rejects(|o| o.server.deadline = Duration::ZERO, "ready_within");
        rejects(|o| o.server.keys = vec!["short".into()], "16 visible");
        let masked = "*".repeat(20);
        rejects(|o| o.server.secret_key = Some(masked.into()), "masked");
        rejects(|o| o.forwarded = vec!["A=B".to_owned()], "valid name");
        let nul = ("A".to_owned(), "b\0".into());
        rejects(|o| o.variables = vec![nul], "NUL");
    }

    #[test]
    fn keys_cannot_be_set_as_variables() {
        for name in ["SESSION_API_KEY", "OH_SESSION_API_KEYS_0", "OH_SECRET_KEY"] {
            let value = "canary-canary-canary";
            let options = Options {
                variables: vec![(name.to_owned(), value.into())],
                ..Options::default()
            };
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains(value), "{error}");
            rejects(|o| o.forwarded = vec![name.to_owned()], name);
        }
    }

    #[test]
    fn the_first_key_is_that_of_the_client_and_missing_keys_are_random() {
        let mut options = Options::default();
        let (one, two) = (options.keys(), options.keys());
        assert_eq!(one.session.len(), 1);
        assert_ne!(one.first.expose_secret(), two.first.expose_secret());
        assert_ne!(one.first.expose_secret(), one.secret.expose_secret());
        options.server.keys = vec!["first".into(), "second".into()];
        options.server.secret_key = Some("secret".into());
        let keys = options.keys();
        let shown: Vec<_> = keys
            .session
            .iter()
            .map(ExposeSecret::expose_secret)
            .collect();
        assert_eq!(shown, ["first", "second"]);
        assert_eq!(keys.first.expose_secret(), "first");
        assert_eq!(keys.secret.expose_secret(), "secret");
    }
}
