//! What a dormant server is activated with: keys, variables and directories of whoever takes it.
//! Sends nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::{Error, ErrorKind, Result};

/// What is not given stays as the server was started with.
#[derive(Default)]
pub(crate) struct Activation {
    pub(crate) environment: Vec<(String, SecretString)>,
    pub(crate) key: Option<SecretString>,
    pub(crate) secret_key: Option<SecretString>,
    pub(crate) conversations: Option<PathBuf>,
    pub(crate) bash_events: Option<PathBuf>,
    pub(crate) worktrees: Option<PathBuf>,
}

impl Activation {
    /// Refuses what cannot be used, and makes the directories.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let bad = |(name, value): &&(String, SecretString)| {
            let name_bad = name.is_empty() || name.contains(['=', '\0']);
            name_bad || name.starts_with("OH_") || value.expose_secret().contains('\0')
        };
        if let Some((name, _)) = self.environment.iter().find(bad) {
            return invalid(format!(
                "{name:?} cannot be set, or its value holds a NUL byte"
            ));
        }
        for (what, key) in [("session key", &self.key), ("secret key", &self.secret_key)] {
            let text = key.as_ref().map(ExposeSecret::expose_secret);
            if text.is_some_and(|key| key.trim().is_empty() || key.contains("**********")) {
                return invalid(format!(
                    "the {what} is empty or masked: give the key itself"
                ));
            }
        }
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

    /// What must not be seen in logs.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        let variables = self.environment.iter().map(|(_, value)| value);
        let all = variables.chain(&self.key).chain(&self.secret_key);
        all.cloned().collect::<Vec<_>>().into_iter()
    }

    /// The body of the request; `keys` are taken where no other is given.
    pub(crate) fn body(&self, keys: &[SecretString]) -> SecretString {
        let keys = self.key.as_ref().map_or(keys, std::slice::from_ref);
        let keys: Vec<_> = keys.iter().map(ExposeSecret::expose_secret).collect();
        let variables: Map<_, _> = self
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().into()))
            .collect();
        let mut body = json!({ "session_api_keys": keys, "env": variables });
        if let Some(key) = &self.secret_key {
            body["secret_key"] = Value::from(key.expose_secret());
        }
        for (field, path) in [
            ("conversations_path", &self.conversations),
            ("bash_events_dir", &self.bash_events),
            ("conversation_worktree_root", &self.worktrees),
        ] {
            if let Some(path) = path {
                body[field] = Value::from(path.to_string_lossy().into_owned());
            }
        }
        body.to_string().into()
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
                "directory {} is not UTF-8, as a request must be",
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
