//! The activation of a dormant server: the keys, variables and directories for its new user.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use oh_protocol::calls::init::Init;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Error, ErrorKind, Result,
    start::{
        adapted::adapted_for_activation,
        variables::{check_name, check_value},
    },
};

/// Values that the activation changes. Values that are not set stay as they were at the start.
#[derive(Default)]
pub struct Activation {
    pub(crate) environment: Vec<(String, SecretString)>,
    pub(crate) key: Option<SecretString>,
    pub(crate) secret_key: Option<SecretString>,
    pub(crate) conversations: Option<PathBuf>,
    pub(crate) bash_events: Option<PathBuf>,
    pub(crate) worktrees: Option<PathBuf>,
}

impl Activation {
    /// Rejects invalid variables and keys.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid value.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        for (name, value) in &self.environment {
            check_name(name.as_ref())?;
            check_value(name.as_ref(), value.expose_secret().as_ref())?;
            if name.starts_with("OH_") {
                return invalid(format!("environment variable {name} cannot be set here"));
            }
        }
        for (what, key) in [("session key", &self.key), ("secret key", &self.secret_key)] {
            let text = key.as_ref().map(ExposeSecret::expose_secret);
            if text.is_some_and(|key| key.trim().is_empty() || key.contains("**********")) {
                return invalid(format!("the {what} is empty or masked: pass the real key"));
            }
        }
        Ok(())
    }

    /// Creates the directories on this machine.
    pub(crate) fn make_directories(&mut self) -> Result<()> {
        let paths = [
            &mut self.conversations,
            &mut self.bash_events,
            &mut self.worktrees,
        ];
        for path in paths.into_iter().flatten() {
            *path = made(path)?;
        }
        Ok(())
    }

    /// Returns the directories.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let paths = [&self.conversations, &self.bash_events, &self.worktrees];
        paths.into_iter().flatten().map(PathBuf::as_path)
    }

    /// Returns the session key, if another than the server's own is set.
    pub fn key(&self) -> Option<&SecretString> {
        self.key.as_ref()
    }

    /// Returns the values that must not appear in logs.
    pub fn secrets(&self) -> impl Iterator<Item = SecretString> {
        let variables = self.environment.iter().map(|(_, value)| value);
        let all = variables.chain(&self.key).chain(&self.secret_key);
        all.cloned().collect::<Vec<_>>().into_iter()
    }

    /// Returns the variables, adapted like those of a start.
    fn adapted(&self) -> impl Iterator<Item = (String, SecretString)> {
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| (name.into(), value.expose_secret().into()));
        let text = |text: OsString| text.to_string_lossy().into_owned();
        adapted_for_activation(variables.collect())
            .into_iter()
            .map(move |(name, value)| (text(name), text(value).into()))
    }

    /// Returns the activation request. `keys` are used if no other key is set. `init_key` is the
    /// secret key that the server was started with.
    pub fn call(&self, init_key: &SecretString, keys: &[SecretString]) -> Init {
        let mut call = Init::new(init_key.clone());
        for key in self.key.as_ref().map_or(keys, std::slice::from_ref) {
            call = call.session_api_key(key.clone());
        }
        if let Some(key) = &self.secret_key {
            call = call.secret_key(key.clone());
        }
        for (name, value) in self.adapted() {
            call = call.env(name, value);
        }
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        if let Some(path) = &self.conversations {
            call = call.conversations_path(text(path));
        }
        if let Some(path) = &self.bash_events {
            call = call.bash_events_dir(text(path));
        }
        if let Some(path) = &self.worktrees {
            call = call.set("conversation_worktree_root", text(path));
        }
        call
    }
}

fn made(path: &Path) -> Result<PathBuf> {
    let make = || {
        std::fs::create_dir_all(path)?;
        path.canonicalize()
    };
    let made = make().map_err(|error| {
        let path = path.display();
        Error::directory(format!("cannot use directory {path}"), error)
    })?;
    match made.to_str() {
        Some(_) => Ok(made),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the path of directory {} must be valid UTF-8, because it is sent in a request",
                made.display()
            ),
        )),
    }
}

impl fmt::Debug for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Activation")
            .field("env", &names)
            .field("conversations", &self.conversations)
            .field("bash_events", &self.bash_events)
            .field("worktrees", &self.worktrees)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use oh_protocol::Call as _;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Activation {
        let variables = variables.iter();
        Activation {
            environment: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
            ..Activation::default()
        }
    }

    #[test]
    fn variables_that_break_a_start_are_rejected_in_an_activation_too() {
        for (name, value) in [
            ("LC_ALL", "C"),
            ("LANG", "de_DE.ISO-8859-1"),
            ("N", "a\0b"),
            ("OH_X", "x"),
            ("SESSION_API_KEY", "x"),
        ] {
            let error = with(&[(name, value)]).check().expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        with(&[("LC_ALL", "C.UTF-8")]).check().expect("valid");
    }

    #[test]
    fn variables_of_an_activation_are_adapted_like_those_of_a_start() {
        let sent = |variables: &[(&str, &str)]| {
            let call = with(variables).call(&"key".into(), &[]);
            let body = call.request().expect("a request").body.expect("a body");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            body["env"].clone()
        };
        let sent_path = sent(&[("PATH", ".:/usr/bin:"), ("LD_LIBRARY_PATH", "/a:")]);
        let expected = serde_json::json!({"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/a"});
        assert_eq!(sent_path, expected);
        let sent = sent(&[("NO_PROXY", "corp")]);
        for name in ["NO_PROXY", "no_proxy"] {
            assert_eq!(sent[name], "corp,localhost,127.0.0.1,::1");
        }
    }
}
