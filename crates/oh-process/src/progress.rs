//! The steps of provisioning and starting, and the callback that receives them.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::Candidate;

/// A step of provisioning or starting. Later versions may add steps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A finished environment was found in the cache and is reused.
    Reused(PathBuf),
    /// Another process is creating the same environment. This process waits for it.
    Waiting,
    /// The cached environment is proven to be damaged and will be replaced, for this reason.
    Rebuilding(String),
    /// The search for an interpreter has started.
    Searching,
    /// An interpreter was checked.
    Checked(Candidate),
    /// A prerequisite is about to be downloaded: what, and from where.
    Fetching(String),
    /// A download is in progress.
    Downloading {
        /// The file's name.
        what: String,
        /// Number of bytes received.
        received: u64,
        /// Total number of bytes, if known.
        total: Option<u64>,
    },
    /// The environment is being created in this directory.
    Creating(PathBuf),
    /// A line of the installer's output, such as `Collecting fastapi`.
    Installing(String),
    /// The installed server is being imported once, to verify that it can run.
    Verifying,
    /// The environment was created.
    Created(PathBuf),
    /// The server's process is being started. Its imports take about ten seconds.
    Starting,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reused(path) => write!(f, "using the environment in {}", path.display()),
            Self::Waiting => {
                f.write_str("waiting for another process that is creating this environment")
            }
            Self::Rebuilding(why) => write!(f, "replacing the cached environment: {why}"),
            Self::Searching => f.write_str("looking for Python 3.12 or newer, or uv"),
            Self::Checked(candidate) => write!(f, "found {candidate}"),
            Self::Fetching(text) => f.write_str(text),
            Self::Downloading {
                what,
                received,
                total,
            } => {
                write!(f, "downloading {what}: {} KiB", received >> 10)?;
                match total {
                    Some(total) => write!(f, " of {} KiB", total >> 10),
                    None => Ok(()),
                }
            }
            Self::Creating(path) => write!(f, "creating an environment in {}", path.display()),
            Self::Installing(line) => f.write_str(line),
            Self::Verifying => f.write_str("importing the server to verify the environment"),
            Self::Created(path) => write!(f, "created the environment in {}", path.display()),
            Self::Starting => f.write_str("starting the server"),
        }
    }
}

/// A callback for progress.
#[derive(Clone)]
pub(crate) struct Report(Arc<dyn Fn(Progress) + Send + Sync>);

impl Report {
    pub(crate) fn new(report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    pub(crate) fn notify(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}
