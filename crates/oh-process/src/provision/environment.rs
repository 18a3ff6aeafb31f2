//! A Python environment with the server's packages, and the check that it works.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error, ErrorKind, Result,
    provision::{
        cache::{Lease, lease},
        interpreter::{self, ANSWER_LIMIT, Failure},
    },
};

/// A Python environment that can run the agent server.
///
/// An environment from a [`Provisioner`](crate::Provisioner)'s cache stays usable as long as this
/// value or a clone of it lives, even if the cache replaces it.
///
/// ```no_run
/// # async fn start() -> oh_process::Result<()> {
/// use oh_process::{Environment, LocalServer};
///
/// let environment = Environment::at("/opt/openhands/venv").await?;
/// println!("server {}, Python {}", environment.server_version(), environment.python_version());
/// let server = LocalServer::builder().environment(environment).start().await?;
/// # drop(server);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Environment {
    python: PathBuf,
    python_version: String,
    server_version: String,
    origin: Origin,
    _lease: Lease,
}

impl PartialEq for Environment {
    fn eq(&self, other: &Self) -> bool {
        self.python == other.python
            && self.python_version == other.python_version
            && self.server_version == other.server_version
            && self.origin == other.origin
    }
}

impl Eq for Environment {}

/// Where an environment came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The caller chose the environment.
    Named,
    /// The environment was in the cache.
    Cached,
    /// The environment was just created.
    Made,
}

impl Environment {
    /// Opens an existing environment. `path` is its interpreter or its directory. The timeout for
    /// the interpreter is 60 s.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::BadEnvironment`] if there is no interpreter, or it fails with an error, is
    ///   older than 3.12, or lacks one of the server's packages.
    /// - [`ErrorKind::CheckFailed`] if the environment could not be checked this time: the
    ///   interpreter was killed, is too slow, or may not be run.
    pub async fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let python = if path.is_dir() {
            interpreter::in_environment(path)
        } else {
            path.to_owned()
        };
        // The interpreter is two levels below the environment's directory.
        let root = python.parent().and_then(Path::parent);
        let lease = root.and_then(|root| lease(root, false).ok()).flatten();
        let examined = Self::examine(&python, Origin::Named, lease, ANSWER_LIMIT).await;
        examined.map_err(|failure| {
            let kind = match failure {
                Failure::Absent(_) | Failure::Failed(_) => ErrorKind::BadEnvironment,
                Failure::Unknown(_) => ErrorKind::CheckFailed,
            };
            Error::new(kind, format!("{} {}", python.display(), failure.reason()))
        })
    }

    /// Runs the interpreter to check the environment. Only [`Failure::Absent`] proves that the
    /// environment is damaged.
    pub(crate) async fn examine(
        python: &Path,
        origin: Origin,
        lease: Lease,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let facts = interpreter::ask(python, limit).await?;
        let version = facts.version_text();
        if facts.is_old() {
            let (major, minor) = interpreter::OLDEST;
            return Err(Failure::Absent(format!(
                "is Python {version}; the server needs {major}.{minor} or newer"
            )));
        }
        let server_version = match (facts.server, facts.missing.as_slice(), facts.unreadable) {
            (Some(server), [], _) => server,
            (_, _, Some(why)) => {
                return Err(Failure::Unknown(format!(
                    "has packages that cannot be read: {why}"
                )));
            }
            (_, missing, None) => {
                let missing: Vec<_> = missing
                    .iter()
                    .map(|part| format!("openhands-{part}"))
                    .collect();
                let missing = missing.join(", ");
                return Err(Failure::Absent(format!(
                    "lacks {missing}; install the missing packages there, or create an \
                     environment with `Provisioner`"
                )));
            }
        };
        Ok(Self {
            python: std::path::absolute(python).unwrap_or_else(|_| python.to_owned()),
            python_version: version,
            server_version,
            origin,
            _lease: lease,
        })
    }

    pub(crate) fn leased(mut self, lease: Lease) -> Self {
        self._lease = lease;
        self
    }

    /// Returns the absolute path of the interpreter.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Returns the interpreter's version, such as `3.13.0`.
    pub fn python_version(&self) -> &str {
        &self.python_version
    }

    /// Returns the version of the installed `openhands-agent-server`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Returns where the environment came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}
