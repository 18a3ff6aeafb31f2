//! Git in a directory on the server: changes, diffs, commits and patches.

mod exact;
mod patch;
mod probe;
mod quoted;

pub use patch::Patch;

use oh_protocol::calls::git::{
    Changes, CommitChanges, Commits, Diff, GitChange, GitCommitsPage, GitDiff, GitRepositoryPage,
    SearchRepositories,
};
use oh_transport::WorkspaceHandle;

use crate::{Error, ErrorKind, Request, Result, Workspace};
use exact::Which;
use probe::Look;

/// Git in the directory of a workspace: see [`Workspace::git`].
///
/// The server returns an empty result when there is no repository, and also when git refuses a
/// repository (for example with "dubious ownership"). The client therefore checks each empty result
/// with a command, and returns [`ErrorKind::NotARepository`], or [`ErrorKind::Git`] with git's
/// message.
///
/// Paths are relative to the directory, with forward slashes. Servers up to 1.58 reject the whole
/// list of changes if one changed file has a space in its name. They also garble names with quotes,
/// backslashes or control characters. In these cases the client makes the list with a command, and
/// the names in it are exact. Names that are not UTF-8 stay in git's quotes. One limit remains:
/// when the server's own list is used, spaces at the start or end of a name are missing.
///
/// The client's commands run outside a conversation's history.
///
/// ```no_run
/// # async fn review(workspace: &oh_workspace::Workspace) -> Result<(), oh_workspace::Error> {
/// let git = workspace.git();
/// for change in git.changes().await? {
///     println!("{} {}", change.status, change.path);
/// }
/// git.patch().to_path("changes.patch").await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Git {
    workspace: Workspace,
}

impl Git {
    /// Returns the files that differ from the upstream branch or, when there is none, from a base
    /// that the server chooses.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotARepository`] outside a repository, [`ErrorKind::NotFound`] if the
    /// directory does not exist, [`ErrorKind::Git`] if git fails, and another error if the request
    /// fails.
    pub fn changes(&self) -> Request<Vec<GitChange>> {
        let this = self.clone();
        Request::new(async move {
            this.changed(Changes::new(this.root()?), Which::Default)
                .await
        })
    }

    /// Returns the files that differ from a ref, such as `HEAD`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`changes`](Self::changes). Also returns [`ErrorKind::UnknownRef`] if
    /// the ref or commit does not exist.
    pub fn changes_against(&self, git_ref: impl Into<String>) -> Request<Vec<GitChange>> {
        let git_ref = git_ref.into();
        let this = self.clone();
        Request::new(async move {
            let changes = Changes::new(this.root()?).against(&git_ref);
            this.changed(changes, Which::Since(&git_ref)).await
        })
    }

    /// Returns a file before and after, compared with the same base as in
    /// [`changes`](Self::changes). The current content of a file that is not UTF-8 is empty. Files
    /// over 1 MiB are rejected.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`changes`](Self::changes). Also returns [`ErrorKind::Git`] for a file
    /// that exists neither now nor before.
    pub fn diff(&self, file: impl AsRef<str>) -> Request<GitDiff> {
        let file = file.as_ref().to_owned();
        let this = self.clone();
        Request::new(async move {
            let path = this.workspace.path(&file)?;
            this.differs(Diff::new(&path), &path).await
        })
    }

    /// Returns a file at a ref and now.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`diff`](Self::diff). Also returns [`ErrorKind::UnknownRef`] if the
    /// ref or commit does not exist.
    pub fn diff_against(
        &self,
        file: impl AsRef<str>,
        git_ref: impl Into<String>,
    ) -> Request<GitDiff> {
        let file = file.as_ref().to_owned();
        let git_ref = git_ref.into();
        let this = self.clone();
        Request::new(async move {
            let path = this.workspace.path(&file)?;
            this.differs(Diff::new(&path).against(git_ref), &path).await
        })
    }

    /// Returns a file before and after a commit. The file need not exist any more.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`diff`](Self::diff). Also returns [`ErrorKind::UnknownRef`] if the
    /// ref or commit does not exist.
    pub fn diff_of_commit(
        &self,
        file: impl AsRef<str>,
        sha: impl Into<String>,
    ) -> Request<GitDiff> {
        let file = file.as_ref().to_owned();
        let sha = sha.into();
        let this = self.clone();
        Request::new(async move {
            let path = this.workspace.path(&file)?;
            this.differs(Diff::new(&path).commit(sha), &path).await
        })
    }

    /// Returns the newest commits, at most `limit`, which must be 1 to 200.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`changes`](Self::changes).
    pub fn commits(&self, limit: u32) -> Request<GitCommitsPage> {
        let this = self.clone();
        Request::new(async move {
            let commits = Commits::new(this.root()?)
                .limit(limit)
                .scope(this.workspace.scope());
            let found = this.workspace.client().call(&commits).await;
            let found = found.map_err(|error| this.refused("cannot list the commits", error))?;
            if found.commits.is_empty() {
                this.probe().await?;
            }
            Ok(found)
        })
    }

    /// Returns the files that a commit changed, compared with its first parent. Paths are relative
    /// to the repository. `sha` has 4 to 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`changes`](Self::changes). Also returns [`ErrorKind::UnknownRef`] if
    /// the ref or commit does not exist.
    pub fn commit_changes(&self, sha: impl Into<String>) -> Request<Vec<GitChange>> {
        let sha = sha.into();
        let this = self.clone();
        Request::new(async move {
            let changes = CommitChanges::new(this.root()?, &sha).scope(this.workspace.scope());
            let found = this.workspace.client().call(&changes).await;
            let found = found.map_err(|error| this.refused("cannot read the commit", error));
            this.listed(found, Which::Commit(&sha)).await
        })
    }

    /// Returns whether the directory is in a repository, including a bare one. Runs a command on
    /// the server.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Git`] with git's message if there is a repository that git refuses, or
    /// that the server's user cannot read; [`ErrorKind::Unsupported`] if the server has no git;
    /// [`ErrorKind::NotFound`] if the directory does not exist; and another error if the request
    /// fails.
    pub fn is_repository(&self) -> Request<bool> {
        let this = self.clone();
        Request::new(async move {
            let look = this.look(&this.root()?, false).await?;
            Ok(matches!(look, Look::Repository))
        })
    }

    async fn changed(&self, changes: Changes, which: Which<'_>) -> Result<Vec<GitChange>> {
        let changes = changes.scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        let found = found.map_err(|error| self.refused("cannot list the changes", error));
        self.listed(found, which).await
    }

    /// Returns the server's list, or an exact one when the server's list is not exact.
    async fn listed(
        &self,
        found: Result<Vec<GitChange>>,
        which: Which<'_>,
    ) -> Result<Vec<GitChange>> {
        let mut changes = match found {
            Ok(changes) => changes,
            Err(error) if error.kind() == ErrorKind::Git => {
                return match exact::list(&self.workspace, which).await {
                    // Commands cannot run, so only the server's error is available.
                    Err(other) if other.is_rejection() => Err(error),
                    list => list,
                };
            }
            Err(error) => return Err(error),
        };
        if changes.is_empty() {
            self.probe().await?;
        }
        // A quoted name in which the server has replaced git's backslashes by slashes.
        let garbled =
            |change: &GitChange| change.path.starts_with('"') && !change.path.contains('\\');
        if changes.iter().any(garbled)
            && let Ok(exact) = exact::list(&self.workspace, which).await
        {
            return Ok(exact);
        }
        for change in &mut changes {
            change.path = match change.path.contains('\\') {
                true => quoted::unquoted(&change.path),
                false => quoted::read(&change.path).unwrap_or(std::mem::take(&mut change.path)),
            };
        }
        Ok(changes)
    }

    async fn differs(&self, diff: Diff, path: &str) -> Result<GitDiff> {
        let diff = diff.scope(self.workspace.scope());
        let found = self.workspace.client().call(&diff).await;
        let found = found.map_err(|error| self.refused("cannot compare the file", error))?;
        // In a repository the server returns texts, even if empty. The file may be in a repository
        // below the directory.
        if found.original.is_none() && found.modified.is_none() {
            self.look(path, false).await?;
            let context = "the file is not in a git repository";
            return Err(self.no_repository(context));
        }
        Ok(found)
    }

    /// Checks why the server's result is empty.
    async fn probe(&self) -> Result<()> {
        match self.look(&self.root()?, true).await? {
            Look::Repository => Ok(()),
            Look::Nothing(why) => {
                Err(self.no_repository(&format!("the directory is not in a git repository: {why}")))
            }
        }
    }

    async fn look(&self, at: &str, nested: bool) -> Result<Look> {
        let looked = probe::look(&self.workspace, at, nested).await;
        looked.map_err(|error| match error.kind() {
            ErrorKind::NotStarted if error.to_string().contains("No such file") => error
                .of_kind(ErrorKind::NotFound)
                .at(self.workspace.working_dir()),
            _ => error,
        })
    }

    fn no_repository(&self, context: &str) -> Error {
        Error::new(ErrorKind::NotARepository, context).at(self.workspace.working_dir())
    }

    fn root(&self) -> Result<String> {
        self.workspace.path(".")
    }

    fn refused(&self, what: &str, error: oh_transport::Error) -> Error {
        let by_git = error.status() == Some(http::StatusCode::BAD_REQUEST);
        let no_ref = error
            .detail()
            .is_some_and(|detail| detail.contains("rev-parse --verify"));
        let error = Error::endpoint(what, error).at(self.workspace.working_dir());
        match error.kind() {
            ErrorKind::Validation if by_git && no_ref => error.of_kind(ErrorKind::UnknownRef),
            ErrorKind::Validation if by_git => error.of_kind(ErrorKind::Git),
            _ => error,
        }
    }
}

impl Workspace {
    /// Returns git operations in the directory.
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

    /// Searches the repositories at a provider, such as `github`, that a token stored on the server
    /// can access. Returns the page that `search` asks for.
    ///
    /// The server sends the request to the provider, with the stored secret named `github_token`,
    /// `GITHUB_TOKEN`, `GH_TOKEN` or `github`. If there is none,
    /// [`missing_token`](GitRepositoryPage::missing_token) is set and the page is empty.
    ///
    /// ```no_run
    /// # async fn run(workspace: oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// use oh_protocol::calls::git::SearchRepositories;
    ///
    /// let search = SearchRepositories::new("github").query("openhands");
    /// let mut page = workspace.search_repositories(search.clone()).await?;
    /// while let Some(next) = page.next_page_id.take() {
    ///     page = workspace.search_repositories(search.clone().page_id(next)).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if the provider rejects the
    /// token, [`InvalidInput`](crate::ErrorKind::InvalidInput) for a provider that the server does
    /// not support or an invalid page, [`Server`](crate::ErrorKind::Server) if the provider cannot
    /// be reached.
    pub fn search_repositories(&self, search: SearchRepositories) -> Request<GitRepositoryPage> {
        let asked = self.client().call(search);
        Request::new(async move { asked.await.map_err(not_searched) })
    }
}

/// Returns the error of a failed search for repositories.
fn not_searched(error: oh_transport::Error) -> Error {
    let theirs = (error.detail()).is_some_and(|detail| detail.contains("search failed"));
    let (kind, context) = match error.status().map(|status| status.as_u16()) {
        // The server forwards the provider's status, which must not look like a rejected session
        // key.
        Some(401 | 403) if theirs => (
            ErrorKind::PermissionDenied,
            "the provider rejected the token that is stored on the server",
        ),
        Some(400) if !theirs => (ErrorKind::InvalidInput, "invalid repository search"),
        _ => return Error::endpoint("cannot search for repositories", error),
    };
    Error::new(kind, context).with_source(error)
}
