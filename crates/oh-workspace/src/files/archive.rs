//! A directory on the server as one file.

use std::time::Duration;

use oh_protocol::calls::files::{self, ArchiveFormat};

use super::{Download, fetch::Source};
use crate::Workspace;

/// Maximum time without data while the server packs.
const PACKING: Duration = Duration::from_secs(600);

/// An archive that has not been packed: see [`Workspace::archive`].
#[derive(Debug)]
#[must_use = "an archive is packed when it is downloaded"]
pub struct Archive {
    workspace: Workspace,
    path: String,
    format: ArchiveFormat,
    base_ref: Option<String>,
    excludes: Vec<String>,
    default_excludes: bool,
}

impl Archive {
    /// Sets the ref that a patch is against. By default the server chooses one.
    pub fn base_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.base_ref = Some(git_ref.into());
        self
    }

    /// Excludes paths that match this pattern. Can be called repeatedly.
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.excludes.push(pattern.into());
        self
    }

    /// Includes caches, dependencies and build output, which are excluded by default.
    pub fn with_everything(mut self) -> Self {
        self.default_excludes = false;
        self
    }

    /// Creates the download of the archive. The server packs the whole archive before it sends the
    /// first byte, so the idle timeout is ten minutes unless [`Download::idle_timeout`] sets
    /// another.
    pub fn download(self) -> Download {
        let source = self.workspace.path(&self.path).map(|path| {
            let mut call = files::Archive::new(&path, self.format)
                .scope(self.workspace.scope())
                .default_excludes(self.default_excludes);
            if let Some(git_ref) = self.base_ref {
                call = call.base_ref(git_ref);
            }
            for pattern in self.excludes {
                call = call.exclude(pattern);
            }
            (Source::Archive(call), path)
        });
        Download::new(&self.workspace, source).idle_timeout(PACKING)
    }
}

impl Workspace {
    /// Packs a directory: as a compressed tar file of its content, or as a patch from a ref to its
    /// working tree.
    ///
    /// A directory that is not a repository but contains exactly one, up to three levels down, is
    /// packed as that repository. Credentials that git stores are always excluded. Caches,
    /// dependencies and build output are excluded unless [`Archive::with_everything`] is set.
    pub fn archive(&self, path: impl Into<String>, format: ArchiveFormat) -> Archive {
        Archive {
            workspace: self.clone(),
            path: path.into(),
            format,
            base_ref: None,
            excludes: Vec::new(),
            default_excludes: true,
        }
    }
}
