//! A Python environment that holds the server. Checks one; makes none.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result, interpreter};

/// A Python environment that can run the agent server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    python: PathBuf,
    python_version: String,
    server_version: String,
    origin: Origin,
}

/// How an environment was come by.
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
    /// Takes an environment that exists: `path` is its interpreter, or its directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadEnvironment`] when the interpreter cannot be run, is older than 3.12, or
    /// lacks one of the server's packages.
    pub async fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let python = if path.is_dir() {
            interpreter::in_environment(path)
        } else {
            path.to_owned()
        };
        Self::check(python, Origin::Named).await
    }

    pub(crate) async fn check(python: PathBuf, origin: Origin) -> Result<Self> {
        let bad = |why: String| {
            let python = python.display();
            Error::new(ErrorKind::BadEnvironment, format!("{python} {why}"))
        };
        let facts = interpreter::ask(&python).await.map_err(bad)?;
        let version = facts.version_text();
        let (major, minor) = interpreter::OLDEST;
        if (facts.version.0, facts.version.1) < interpreter::OLDEST {
            return Err(bad(format!(
                "is Python {version}; the server needs {major}.{minor} or newer"
            )));
        }
        let server_version = match (facts.server, facts.missing.as_slice()) {
            (Some(server), []) => server,
            (_, missing) => {
                let missing: Vec<_> = missing
                    .iter()
                    .map(|part| format!("openhands-{part}"))
                    .collect();
                let missing = missing.join(", ");
                return Err(bad(format!(
                    "lacks {missing}; install them there, or let a Provisioner make an environment"
                )));
            }
        };
        Ok(Self {
            python: std::path::absolute(&python).unwrap_or(python),
            python_version: version,
            server_version,
            origin,
        })
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

    /// How it was come by.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}
