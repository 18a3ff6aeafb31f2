//! A directory of the server as one file.

use std::time::Duration;

use oh_protocol::calls::files::{self, ArchiveFormat};

use super::{Download, fetch::Source};
use crate::Workspace;

/// How long the server may be silent while it packs.
const PACKING: Duration = Duration::from_secs(600);

/// An archive about to be packed: see [`Workspace::archive`].
#[derive(Debug)]
#[must_use = "an archive is packed when it is downloaded"]
pub struct Archive<'a> {
    workspace: &'a Workspace,
    path: String,
    format: ArchiveFormat,
    base_ref: Option<String>,
    excludes: Vec<String>,
    default_excludes: bool,
}

impl Archive<'_> {
    /// The ref a patch is against, where it is not for the server to find one.
    pub fn base_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.base_ref = Some(git_ref.into());
        self
    }

    /// Leaves out what matches this pattern. May be said again.
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.excludes.push(pattern.into());
        self
    }

    /// Takes in caches, dependencies and build output too.
    pub fn with_everything(mut self) -> Self {
        self.default_excludes = false;
        self
    }

    /// Where to download it to. The server packs it before it sends the first byte, so it may be
    /// silent for ten minutes, unless the download says otherwise.
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
        Download::new(self.workspace, source).idle_timeout(PACKING)
    }
}

impl Workspace {
    /// Packs a directory: as a compressed tar file of its content, or as a patch of how its
    /// working tree differs from a ref. A directory that is no repository but holds exactly one,
    /// up to three levels down, is packed as that repository. Credentials that git keeps are left
    /// out, and so are, unless asked for, caches, dependencies and build output.
    pub fn archive(&self, path: impl Into<String>, format: ArchiveFormat) -> Archive<'_> {
        Archive {
            workspace: self,
            path: path.into(),
            format,
            base_ref: None,
            excludes: Vec::new(),
            default_excludes: true,
        }
    }
}
