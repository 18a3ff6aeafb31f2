//! A Python environment that holds the server. Checks one; makes none.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error, ErrorKind, Result,
    cache::{Lease, lease},
    interpreter::{self, ANSWER_LIMIT, Failure},
};

/// A Python environment that can run the agent server.
///
/// One from a [`Provisioner`](crate::Provisioner)'s cache stays usable as long as this value or a
/// clone of it lives, also when the cache replaces it.
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
    /// The caller named it.
    Named,
    /// It was in the cache.
    Cached,
    /// It was made just now.
    Made,
}

impl Environment {
    /// Takes an environment that exists: `path` is its interpreter, or its directory. The
    /// interpreter has 60 s to answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadEnvironment`] when there is no interpreter, or it ends with an error, is
    /// older than 3.12, or lacks one of the server's packages. [`ErrorKind::CheckFailed`] when
    /// this could not be found out just now: the interpreter was killed, is too slow, or may not
    /// be run.
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

    /// Asks the interpreter about itself. Only [`Failure::Absent`] proves that the environment is
    /// damaged.
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
                    "lacks {missing}; install them there, or let a Provisioner make an environment"
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

    /// The interpreter, absolute.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The interpreter's version, such as `3.13.0`.
    pub fn python_version(&self) -> &str {
        &self.python_version
    }

    /// The version of `openhands-agent-server` in it.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Where it came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}
