//! Files on the server: transfers in both directions, archives and directories.

mod archive;
mod browse;
mod download;
mod fetch;
mod save;
mod upload;

use std::fmt;

pub use archive::Archive;
pub use browse::Subdirectories;
pub use download::{Download, Downloaded};
pub use fetch::ByteStream;
pub(crate) use fetch::piece;
pub use upload::Upload;

use crate::{Error, ErrorKind};

/// Progress of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes transferred so far.
    pub done: u64,
    /// Total bytes, when known.
    pub total: Option<u64>,
}

/// An optional progress callback.
pub(crate) struct Observer(Option<Box<dyn FnMut(Progress) + Send>>);

impl Observer {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(observe: impl FnMut(Progress) + Send + 'static) -> Self {
        Self(Some(Box::new(observe)))
    }

    pub(crate) fn tell(&mut self, done: u64, total: Option<u64>) {
        if let Some(observe) = &mut self.0 {
            observe(Progress { done, total });
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer" } else { "none" })
    }
}

/// Creates the error of an operation on a path on the server.
pub(crate) fn refused(what: &str, path: &str, error: oh_transport::Error) -> Error {
    let bad_request = error.status() == Some(http::StatusCode::BAD_REQUEST);
    // Archives are packed by git, whose errors have the same status.
    let by_git = error
        .detail()
        .is_some_and(|detail| detail.contains("base_ref") || detail.contains("git repository"));
    let error = Error::endpoint(what, error).at(path);
    match error.kind() {
        ErrorKind::Validation if bad_request && by_git => error.of_kind(ErrorKind::Git),
        ErrorKind::Validation if bad_request => error.of_kind(ErrorKind::InvalidPath),
        _ => error,
    }
}
