//! All changes as one patch.

use std::path::PathBuf;

use bytes::Bytes;
use oh_protocol::calls::files::ArchiveFormat;

use super::Git;
use crate::{Download, Downloaded, Error, ErrorKind, Result};

/// A unified diff of a repository's working tree: see [`Git::patch`].
#[derive(Debug, Clone)]
#[must_use = "a patch is made when it is read"]
pub struct Patch {
    git: Git,
    base: String,
}

impl Patch {
    /// Sets the ref to compare with, such as `origin/main` or a commit. Default `HEAD`.
    pub fn against(mut self, git_ref: impl Into<String>) -> Self {
        self.base = git_ref.into();
        self
    }

    /// Returns the patch as text.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`bytes`](Self::bytes). Also returns [`ErrorKind::NotText`] if a
    /// changed file is not UTF-8.
    pub async fn text(self) -> Result<String> {
        match self.download().text().await {
            Ok(text) => Ok(text),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Returns the patch as bytes.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotARepository`] or [`ErrorKind::UnknownRef`]; [`ErrorKind::Git`] with
    /// git's message if git fails; [`ErrorKind::NotFound`] if the directory does not exist;
    /// [`ErrorKind::InvalidInput`] for a ref that is empty or begins with a dash; and another error
    /// if the request fails.
    pub async fn bytes(self) -> Result<Bytes> {
        match self.download().bytes().await {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Writes the patch to a local file, as [`Download::to_path`] does. The result contains the
    /// commit that the patch is against.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`bytes`](Self::bytes) and [`Download::to_path`].
    pub async fn to_path(self, local: impl Into<PathBuf>) -> Result<Downloaded> {
        match self.download().to_path(local).await {
            Ok(done) => Ok(done),
            Err(error) => Err(self.failed(error).await),
        }
    }

    fn download(&self) -> Download {
        let archive = self.git.workspace.archive(".", ArchiveFormat::GitDelta);
        archive.base_ref(&self.base).with_everything().download()
    }

    /// Finds the cause of a git error: the server reports a repository that git refuses as missing.
    async fn failed(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Git {
            return error;
        }
        let detail = error.transport_error().and_then(|error| error.detail());
        if detail.is_some_and(|detail| detail.contains("could not be resolved")) {
            return error.of_kind(ErrorKind::UnknownRef);
        }
        match self.git.probe().await {
            Err(better) => better,
            Ok(()) => error,
        }
    }
}

impl Git {
    /// Creates a patch of everything that differs from `HEAD`: staged, unstaged, deleted and
    /// untracked files. In a repository without commits all files are new. The patch can be applied
    /// with `git apply`, and contains binary patches for files that are not text. Without changes
    /// the patch is empty.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// println!("{}", workspace.git().patch().text().await?);
    /// workspace.git().patch().against("origin/main").to_path("work.patch").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Limits:
    ///
    /// - Files that git ignores are excluded.
    /// - In a subdirectory of a repository only that directory is compared; paths are relative to
    ///   the repository.
    /// - A directory that is not a repository but contains exactly one, up to three levels down, is
    ///   treated as that repository.
    /// - Submodules appear as commit ids.
    /// - Git on the server uses its own configuration, such as `diff.noprefix`.
    /// - Git has 300 s for each of its two steps, and the server sends the first byte only when the
    ///   whole patch is ready.
    /// - [`text`](Patch::text) and [`bytes`](Patch::bytes) keep the whole patch in memory.
    pub fn patch(&self) -> Patch {
        Patch {
            git: self.clone(),
            base: "HEAD".to_owned(),
        }
    }
}
