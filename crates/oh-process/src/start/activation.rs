//! The activation of a dormant server: the keys, variables and directories for its new user.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use oh_protocol::calls::init::Init;
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, Result, start::variables::check_name};

/// Values that the activation changes. Values that are not set stay as they were at the start.
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
    /// Rejects invalid values, and creates the directories.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        for (name, value) in &self.environment {
            check_name(name.as_ref())?;
            if name.starts_with("OH_") || value.expose_secret().contains('\0') {
                return invalid(format!(
                    "environment variable {name} cannot be set here, or its value contains a NUL \
                     byte"
                ));
            }
        }
        for (what, key) in [("session key", &self.key), ("secret key", &self.secret_key)] {
            let text = key.as_ref().map(ExposeSecret::expose_secret);
            if text.is_some_and(|key| key.trim().is_empty() || key.contains("**********")) {
                return invalid(format!("the {what} is empty or masked: pass the real key"));
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

    /// Returns the values that must not appear in logs.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        let variables = self.environment.iter().map(|(_, value)| value);
        let all = variables.chain(&self.key).chain(&self.secret_key);
        all.cloned().collect::<Vec<_>>().into_iter()
    }

    /// Returns the activation request. `keys` are used if no other key is set. `init_key` is the
    /// secret key that the server was started with.
    pub(crate) fn call(&self, init_key: &SecretString, keys: &[SecretString]) -> Init {
        let mut call = Init::new(init_key.clone());
        for key in self.key.as_ref().map_or(keys, std::slice::from_ref) {
            call = call.session_api_key(key.clone());
        }
        if let Some(key) = &self.secret_key {
            call = call.secret_key(key.clone());
        }
        for (name, value) in &self.environment {
            call = call.env(name, value.clone());
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
