//! Git in a directory of the server: what changed, commit by commit.

mod quoted;

use oh_protocol::calls::git::{
    Changes, CommitChanges, Commits, Diff, GitChange, GitCommitsPage, GitDiff, GitRepositoryPage,
    SearchRepositories,
};
use oh_transport::WorkspaceHandle;

use crate::{Error, ErrorKind, Result, Workspace, command::excerpt};

/// What is wrong where the server says nothing: 0 where nothing is. A directory that is no
/// repository counts as one if it holds some, as it does for the server.
const PROBE: &str = "command -v git >/dev/null || exit 3; git rev-parse --git-dir >/dev/null && \
                     exit 0; for one in ./*/.git; do [ -e \"$one\" ] && exit 0; done; exit 4";

/// Git in the directory of a workspace: see [`Workspace::git`].
///
/// Where there is no repository the server answers with emptiness, as if nothing had changed. So
/// an empty answer is looked into with a command, and becomes
/// [`ErrorKind::NotARepository`] where it is due.
///
/// Paths are below the directory, with forward slashes. Up to 1.58 the server refuses to list
/// changes while a tracked file that changed has a space in its name: [`ErrorKind::Git`]. A tab
/// or a line break in a name shows as `/t` or `/n`.
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
    /// [`ErrorKind::NotARepository`], [`ErrorKind::NotFound`] when the directory is not there,
    /// [`ErrorKind::Git`] when git refuses, or when the server cannot be asked.
    pub async fn changes(&self) -> Result<Vec<GitChange>> {
        self.changed(Changes::new(self.root()?)).await
    }

    /// The files that differ from a ref, such as `HEAD`.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`ErrorKind::UnknownRef`].
    pub async fn changes_against(&self, git_ref: impl Into<String>) -> Result<Vec<GitChange>> {
        self.changed(Changes::new(self.root()?).against(git_ref))
            .await
    }

    /// A file before and after, compared as [`changes`](Self::changes) does. Of a file that is
    /// not UTF-8 the content now is empty; one over 1 MiB is refused.
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`ErrorKind::Git`] for a file that is not there, neither
    /// now nor before.
    pub async fn diff(&self, file: impl AsRef<str>) -> Result<GitDiff> {
        self.differs(Diff::new(self.workspace.path(file.as_ref())?))
            .await
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
        self.differs(Diff::new(path).against(git_ref)).await
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
        self.differs(Diff::new(path).commit(sha)).await
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
        let changes = CommitChanges::new(self.root()?, sha).scope(self.workspace.scope());
        let found = self.workspace.client().call(&changes).await;
        let found = found.map_err(|error| self.refused("the commit could not be read", error))?;
        self.listed(found).await
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
        let found =
            found.map_err(|error| self.refused("the changes could not be listed", error))?;
        self.listed(found).await
    }

    async fn listed(&self, mut changes: Vec<GitChange>) -> Result<Vec<GitChange>> {
        if changes.is_empty() {
            self.probe().await?;
        }
        for change in &mut changes {
            if let Some(name) = quoted::read(&change.path) {
                change.path = name;
            }
        }
        Ok(changes)
    }

    async fn differs(&self, diff: Diff) -> Result<GitDiff> {
        let diff = diff.scope(self.workspace.scope());
        let found = self.workspace.client().call(&diff).await;
        let found = found.map_err(|error| self.refused("the file could not be compared", error))?;
        // A repository gives texts, if empty ones. The file may lie in one below the directory.
        if found.original.is_none() && found.modified.is_none() {
            self.probe().await?;
            let context = "the file lies in no git repository";
            return Err(self.no_repository(context));
        }
        Ok(found)
    }

    /// Finds out why there is nothing.
    async fn probe(&self) -> Result<()> {
        let probed = self.workspace.execute(PROBE).await;
        let output = probed.map_err(|error| match error.kind() {
            ErrorKind::NotStarted => error
                .of_kind(ErrorKind::NotFound)
                .at(self.workspace.working_dir()),
            _ => error,
        })?;
        match output.exit_code() {
            Some(0) => Ok(()),
            Some(3) => {
                let context = "the server has no git";
                Err(Error::new(ErrorKind::Unsupported, context))
            }
            // Git may see one and refuse it: whose owner is another, for example.
            _ => {
                let why = excerpt(output.stderr().trim(), 400);
                Err(self.no_repository(&format!("the directory lies in no git repository: {why}")))
            }
        }
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
