//! Git in a directory of the server: what changed, commit by commit.

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

use crate::{Error, ErrorKind, Result, Workspace};
use exact::Which;
use probe::Look;

/// Git in the directory of a workspace: see [`Workspace::git`].
///
/// Where there is no repository, and where git refuses one (such as "dubious ownership"), the
/// server answers with emptiness, as if nothing had changed. So an empty answer is looked into with
/// a command, and becomes [`ErrorKind::NotARepository`], or [`ErrorKind::Git`] with git's words.
///
/// Paths are below the directory, with forward slashes. Up to 1.58 the server refuses a whole list
/// of changes because of one changed file with a space in its name, and garbles names with quotes,
/// backslashes and control characters. Such a list is made with a command instead, in which names
/// are exact; one that is not UTF-8 stays in git's quotes. A limit remains: where the server's own
/// list is used, a name that begins or ends with a space is without it.
///
/// The commands that this needs run outside a conversation's history.
#[derive(Debug, Clone)]
pub struct Git {
    workspace: Workspace,
}

impl Git {
    /// Returns the files that differ from the branch upstream; where there is none, from what the
    /// server finds to compare with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotARepository`], [`ErrorKind::NotFound`] when the directory is not there,
    /// [`ErrorKind::Git`] when git refuses, or when the server cannot be asked.
    pub async fn changes(&self) -> Result<Vec<GitChange>> {
        self.changed(Changes::new(self.root()?), Which::Default)
            .await
    }

    /// The files that differ from a ref, such as `HEAD`.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`ErrorKind::UnknownRef`].
    pub async fn changes_against(&self, git_ref: impl Into<String>) -> Result<Vec<GitChange>> {
        let git_ref = git_ref.into();
        let changes = Changes::new(self.root()?).against(&git_ref);
        self.changed(changes, Which::Since(&git_ref)).await
    }

    /// A file before and after, compared as [`changes`](Self::changes) does. Of a file that is
    /// not UTF-8 the content now is empty; one over 1 MiB is refused.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`ErrorKind::Git`] for a file that is not there, neither
    /// now nor before.
    pub async fn diff(&self, file: impl AsRef<str>) -> Result<GitDiff> {
        let path = self.workspace.path(file.as_ref())?;
        self.differs(Diff::new(&path), &path).await
    }

    /// A file at a ref and now.
    ///
    /// # Errors
    ///
    /// As [`diff`](Self::diff); [`ErrorKind::UnknownRef`].
    pub async fn diff_against(
        &self,
        file: impl AsRef<str>,
        git_ref: impl Into<String>,
    ) -> Result<GitDiff> {
        let path = self.workspace.path(file.as_ref())?;
        self.differs(Diff::new(&path).against(git_ref), &path).await
    }

    /// A file before and after a commit. It need not be there any more.
    ///
    /// # Errors
    ///
    /// As [`diff`](Self::diff); [`ErrorKind::UnknownRef`].
    pub async fn diff_of_commit(
        &self,
        file: impl AsRef<str>,
        sha: impl Into<String>,
    ) -> Result<GitDiff> {
        let path = self.workspace.path(file.as_ref())?;
        self.differs(Diff::new(&path).commit(sha), &path).await
    }

    /// The newest commits, at most `limit`, which is 1 to 200.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes).
    pub async fn commits(&self, limit: u32) -> Result<GitCommitsPage> {
        let commits = Commits::new(self.root()?)
            .limit(limit)
            .scope(self.workspace.scope());
        let found = self.workspace.client().call(&commits).await;
        let found =
            found.map_err(|error| self.refused("the commits could not be listed", error))?;
        if found.commits.is_empty() {
            self.probe().await?;
        }
        Ok(found)
    }

    /// The files a commit changed, against its first parent; their paths are below the
    /// repository. `sha` is 4 to 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`ErrorKind::UnknownRef`].
    pub async fn commit_changes(&self, sha: impl Into<String>) -> Result<Vec<GitChange>> {
        let sha = sha.into();
        let changes = CommitChanges::new(self.root()?, &sha).scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        let found = found.map_err(|error| self.refused("the commit could not be read", error));
        self.listed(found, Which::Commit(&sha)).await
    }

    /// Returns whether the directory lies in a repository, a bare one included. Asked with a
    /// command.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Git`] with git's words when there is a repository that git refuses, or that the
    /// server's user may not read; [`ErrorKind::Unsupported`] when the server has no git;
    /// [`ErrorKind::NotFound`] when the directory does not exist; or when the server cannot be
    /// asked.
    pub async fn is_repository(&self) -> Result<bool> {
        let look = self.look(&self.root()?, false).await?;
        Ok(matches!(look, Look::Repository))
    }

    async fn changed(&self, changes: Changes, which: Which<'_>) -> Result<Vec<GitChange>> {
        let changes = changes.scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        let found = found.map_err(|error| self.refused("the changes could not be listed", error));
        self.listed(found, which).await
    }

    /// The server's list, or an exact one where that is not exact.
    async fn listed(
        &self,
        found: Result<Vec<GitChange>>,
        which: Which<'_>,
    ) -> Result<Vec<GitChange>> {
        let mut changes = match found {
            Ok(changes) => changes,
            Err(error) if error.kind() == ErrorKind::Git => {
                return match exact::list(&self.workspace, which).await {
                    // Where commands cannot run, the server's word is all there is.
                    Err(other) if other.kind() == ErrorKind::Transport => Err(error),
                    list => list,
                };
            }
            Err(error) => return Err(error),
        };
        if changes.is_empty() {
            self.probe().await?;
        }
        // Quoted, with slashes where git's backslashes were.
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
        let found = found.map_err(|error| self.refused("the file could not be compared", error))?;
        // A repository gives texts, if empty ones. The file may lie in one below the directory.
        if found.original.is_none() && found.modified.is_none() {
            self.look(path, false).await?;
            let context = "the file lies in no git repository";
            return Err(self.no_repository(context));
        }
        Ok(found)
    }

    /// Finds out why there is nothing.
    async fn probe(&self) -> Result<()> {
        match self.look(&self.root()?, true).await? {
            Look::Repository => Ok(()),
            Look::Nothing(why) => {
                Err(self.no_repository(&format!("the directory lies in no git repository: {why}")))
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
        let error = Error::transport(what, error).at(self.workspace.working_dir());
        match error.kind() {
            ErrorKind::Transport if by_git && no_ref => error.of_kind(ErrorKind::UnknownRef),
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
    /// reach: the page that `search` asks for. The server asks the provider over its own network,
    /// with the secret it keeps as `github_token`, `GITHUB_TOKEN`, `GH_TOKEN` or `github`; where it
    /// has none, [`missing_token`](GitRepositoryPage::missing_token) is set and nothing is found.
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
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) when the provider refuses the
    /// token, [`InvalidInput`](crate::ErrorKind::InvalidInput) for a provider that the server
    /// cannot search or a page it does not know,
    /// [`Transport`](crate::ErrorKind::Transport) when the provider cannot be reached.
    pub async fn search_repositories(
        &self,
        search: SearchRepositories,
    ) -> Result<GitRepositoryPage> {
        let found = self.client().call(&search).await;
        found.map_err(|error| {
            let theirs = (error.detail()).is_some_and(|detail| detail.contains("search failed"));
            let (kind, context) = match error.status().map(|status| status.as_u16()) {
                // The provider's refusal is handed on, and must not read as this client's key's.
                Some(401 | 403) if theirs => (
                    ErrorKind::PermissionDenied,
                    "the provider refused the token that the server keeps for it",
                ),
                Some(400) if !theirs => (ErrorKind::InvalidInput, "this cannot be searched for"),
                _ => return Error::transport("no repositories could be searched", error),
            };
            Error::new(kind, context).with_source(error)
        })
    }
}
