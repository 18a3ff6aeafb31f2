//! Finds or makes a Python environment that holds the server packages.

mod install;
mod interpreter;

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use interpreter::Candidate;

use crate::{Error, ErrorKind, Result};

/// The server version this crate was built and tested with.
pub const SERVER_VERSION: &str = "1.58.0";

/// Names the directory for environments, in place of the user's cache directory.
const CACHE_VARIABLE: &str = "OPENHANDS_CACHE_DIR";

/// What is being done. More steps may come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Looking for an interpreter.
    Searching,
    /// Another process makes the same environment; waiting for it.
    Waiting,
    /// Making an environment in this directory.
    Creating(PathBuf),
    /// A line from the installer.
    Installing(String),
    /// A finished environment was found and is used again.
    Reused(PathBuf),
    /// The environment is made.
    Created(PathBuf),
    /// The server process was started; its imports take some ten seconds.
    Starting,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Searching => f.write_str("looking for Python 3.12 or newer, or uv"),
            Self::Waiting => f.write_str("another process makes this environment, waiting"),
            Self::Creating(path) => write!(f, "making an environment in {}", path.display()),
            Self::Installing(line) => f.write_str(line),
            Self::Reused(path) => write!(f, "using the environment in {}", path.display()),
            Self::Created(path) => write!(f, "made the environment in {}", path.display()),
            Self::Starting => f.write_str("starting the server"),
        }
    }
}

pub(crate) type Report = Arc<dyn Fn(Progress) + Send + Sync>;

/// A Python environment that holds the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// Its interpreter.
    pub python: PathBuf,
}

impl Environment {
    /// An environment you made, by its interpreter. It is not checked before the server starts.
    pub fn at(python: impl Into<PathBuf>) -> Self {
        Self {
            python: python.into(),
        }
    }
}

/// Makes environments, once each, in a cache directory.
///
/// An environment is used again by later runs, also without a network. One that is half-made
/// (its marker is missing) or broken (its packages do not answer) is made anew. Processes that
/// want the same one at the same time wait for each other.
#[derive(Clone)]
#[must_use = "a provisioner does nothing until it provisions"]
pub struct Provisioner {
    python: Option<PathBuf>,
    cache: Option<PathBuf>,
    version: String,
    report: Report,
}

impl Default for Provisioner {
    fn default() -> Self {
        Self::new()
    }
}

impl Provisioner {
    /// The pinned version, any interpreter that fits, the user's cache directory.
    pub fn new() -> Self {
        Self {
            python: None,
            cache: None,
            version: SERVER_VERSION.to_owned(),
            report: Arc::new(|_| ()),
        }
    }

    /// Uses this interpreter to make the environment, and no other.
    pub fn python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = Some(python.into());
        self
    }

    /// Keeps environments here. Default: `OPENHANDS_CACHE_DIR`, else `openhands-rs` in
    /// `XDG_CACHE_HOME` or `~/.cache`.
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = Some(directory.into());
        self
    }

    /// Installs this server version. Default: [`SERVER_VERSION`].
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Tells what is being done.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    pub(crate) fn report(&self, progress: Progress) {
        (self.report)(progress);
    }

    /// The packages and versions that are installed.
    pub fn packages(&self) -> Vec<String> {
        ["openhands-agent-server", "openhands-sdk", "openhands-tools"]
            .map(|package| format!("{package}=={}", self.version))
            .to_vec()
    }

    /// Every interpreter there is to choose from, with why it was refused if it was.
    pub async fn candidates(&self) -> Vec<Candidate> {
        interpreter::candidates(self.python.as_deref()).await
    }

    /// Gives an environment with the server: one that exists, or a new one.
    ///
    /// Dropping the future ends the installer; what it leaves is made anew next time.
    ///
    /// # Errors
    ///
    /// When there is neither a fit interpreter nor uv, the packages cannot be had, or the cache
    /// directory cannot be written. Nothing half-made is kept.
    pub async fn provision(&self) -> Result<Environment> {
        let numbers = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric());
        if self.version.is_empty() || !self.version.split('.').all(numbers) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "`{}` is not a version such as {SERVER_VERSION}",
                    self.version
                ),
            ));
        }
        let cache = match &self.cache {
            Some(directory) => directory.clone(),
            None => default_cache()?,
        };
        install::provision(self, &cache).await
    }
}

impl fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioner")
            .field("python", &self.python)
            .field("cache", &self.cache)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn default_cache() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = set(CACHE_VARIABLE) {
        return Ok(directory);
    }
    let base = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("openhands-rs")).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("no directory for the environment: set {CACHE_VARIABLE}, or HOME"),
        )
    })
}

/// A program of the search path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    which::which(name).ok()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
