//! The steps of a start, and the callback that receives them.

use std::{fmt, sync::Arc};

/// A step of the start of a container. Later versions may add steps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// An engine was found. Contains its name, version and address.
    Engine(String),
    /// The image is being downloaded.
    Pulling {
        /// Name of the image.
        image: String,
        /// Current activity of the engine, such as `Downloading`.
        status: String,
        /// Number of bytes of this step that were processed, over all layers.
        received: u64,
        /// Number of bytes of this step, as far as known.
        total: u64,
    },
    /// The container is being created from this image.
    Creating(String),
    /// The engine refuses the requested limits (`ulimit`), for this reason. The container is
    /// created without them.
    WithoutLimits(String),
    /// The container was started. Contains its id. The server's imports take 10 to 25 s.
    Starting(String),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(engine) => write!(f, "using {engine}"),
            Self::Pulling {
                image,
                status,
                received,
                total,
            } => {
                write!(f, "downloading {image}: {status}")?;
                match total {
                    0 => Ok(()),
                    total => write!(f, ", {} of {} MiB", received >> 20, total >> 20),
                }
            }
            Self::Creating(image) => write!(f, "creating a container from {image}"),
            Self::WithoutLimits(why) => write!(f, "continuing without the requested limits: {why}"),
            Self::Starting(id) => write!(f, "starting the server in container {id:.12}"),
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

impl Default for Report {
    fn default() -> Self {
        Self::new(drop)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}
