//! Git in a directory of the server: what changed, commit by commit.

use oh_protocol::calls::git::{
    Changes, CommitChanges, Commits, Diff, GitChange, GitCommitsPage, GitDiff, GitRepositoryPage,
    SearchRepositories,
};
use oh_transport::WorkspaceHandle;

use crate::{Error, ErrorKind, Result, Workspace};

/// Git in the directory of a workspace: see [`Workspace::git`].
///
/// Where there is no repository the server answers with emptiness, as if nothing had changed:
/// [`is_repository`](Self::is_repository) tells the two apart. Names are as the server gives them:
/// up to 1.58 it garbles those that are not ASCII, and refuses to list the changes of a commit
/// with a space in one.
#[derive(Debug, Clone)]
pub struct Git {
    workspace: Workspace,
}

impl Git {
    /// The files that differ from the branch upstream; where there is none, from what the server
    /// finds to compare with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] when git refuses, or when the server cannot be asked.
    pub async fn changes(&self) -> Result<Vec<GitChange>> {
        self.changed(Changes::new(self.root()?)).await
    }

    /// The files that differ from a ref, such as `HEAD`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] for an unknown ref, or when the server cannot be asked.
    pub async fn changes_against(&self, git_ref: impl Into<String>) -> Result<Vec<GitChange>> {
        self.changed(Changes::new(self.root()?).against(git_ref))
            .await
    }

    /// A file before and after, compared as [`changes`](Self::changes) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] for a file that is not there, or when the server cannot be asked.
    pub async fn diff(&self, file: impl AsRef<str>) -> Result<GitDiff> {
        self.differs(Diff::new(self.workspace.path(file.as_ref())?))
            .await
    }

    /// A file at a ref and now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] for an unknown ref or file, or when the server cannot be asked.
    pub async fn diff_against(
        &self,
        file: impl AsRef<str>,
        git_ref: impl Into<String>,
    ) -> Result<GitDiff> {
        let path = self.workspace.path(file.as_ref())?;
        self.differs(Diff::new(path).against(git_ref)).await
    }

    /// A file before and after a commit. It need not be there any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] for an unknown commit, or when the server cannot be asked.
    pub async fn diff_of_commit(
        &self,
        file: impl AsRef<str>,
        sha: impl Into<String>,
    ) -> Result<GitDiff> {
        let path = self.workspace.path(file.as_ref())?;
        self.differs(Diff::new(path).commit(sha)).await
    }

    /// The newest commits, at most `limit`, which is 1 to 200.
    ///
    /// # Errors
    ///
    /// When git refuses, or the server cannot be asked.
    pub async fn commits(&self, limit: u32) -> Result<GitCommitsPage> {
        let commits = Commits::new(self.root()?)
            .limit(limit)
            .scope(self.workspace.scope());
        let found = self.workspace.client().call(&commits).await;
        found.map_err(|error| self.refused("the commits could not be listed", error))
    }

    /// The files a commit changed, against its first parent. `sha` is 4 to 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] for an unknown commit, or when the server cannot be asked.
    pub async fn commit_changes(&self, sha: impl Into<String>) -> Result<Vec<GitChange>> {
        let changes = CommitChanges::new(self.root()?, sha).scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        found.map_err(|error| self.refused("the commit could not be read", error))
    }

    /// Whether the directory lies in a repository. Asked with a command.
    ///
    /// # Errors
    ///
    /// When the directory is not there, or the server cannot be asked.
    pub async fn is_repository(&self) -> Result<bool> {
        let inside = self
            .workspace
            .execute("git rev-parse --is-inside-work-tree");
        Ok(inside.await?.stdout().trim() == "true")
    }

    async fn changed(&self, changes: Changes) -> Result<Vec<GitChange>> {
        let changes = changes.scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        found.map_err(|error| self.refused("the changes could not be listed", error))
    }

    async fn differs(&self, diff: Diff) -> Result<GitDiff> {
        let diff = diff.scope(self.workspace.scope());
        let found = self.workspace.client().call(&diff).await;
        found.map_err(|error| self.refused("the file could not be compared", error))
    }

    fn root(&self) -> Result<String> {
        self.workspace.path(".")
    }

    fn refused(&self, what: &str, error: oh_transport::Error) -> Error {
        let by_git = error.status() == Some(http::StatusCode::BAD_REQUEST);
        let error = Error::transport(what, error).at(self.workspace.working_dir());
        match error.kind() {
            ErrorKind::Transport if by_git => error.of_kind(ErrorKind::Git),
            _ => error,
        }
    }
}

impl Workspace {
    /// Git in the directory.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// for change in workspace.git().changes_against("HEAD").await? {
    ///     println!("{} {}", change.status, change.path);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn git(&self) -> Git {
        Git {
            workspace: self.clone(),
        }
    }

    /// The repositories at a provider, such as `github`, that a token stored on the server can
    /// reach: the first page of what `search` asks for. It uses the server's network.
    ///
    /// # Errors
    ///
    /// When the provider is not supported, or the server cannot be asked.
    pub async fn search_repositories(
        &self,
        search: SearchRepositories,
    ) -> Result<GitRepositoryPage> {
        let found = self.client().call(&search).await;
        found.map_err(|error| Error::transport("no repositories could be searched", error))
    }
}
