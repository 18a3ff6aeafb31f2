//! Cloning: one command for each repository, with the token in that command's environment only.

use std::{collections::HashSet, fmt, future::IntoFuture, time::Duration};

use super::{Repository, source::Checked};
use crate::{
    Error, ErrorKind, Request, Result, Workspace, command::excerpt, helper::helper, shell::quoted,
};
use futures_util::StreamExt as _;

/// Maximum number of repositories that are cloned at the same time.
const PARALLEL_CLONES: usize = 3;
/// Exit code for a directory that already exists.
const EXISTS: i32 = 97;
/// The variables from which git's credential helper reads the user and the token.
const USER: &str = "OH_GIT_USER";
const TOKEN: &str = "OH_GIT_TOKEN";

/// Repositories that have not been cloned. Await this to clone them.
///
/// Dropping the future stops the clones in progress, and leaves neither a token nor a partial
/// repository on the server.
#[must_use = "nothing is cloned until it is awaited"]
pub struct CloneRepositories {
    workspace: Workspace,
    repositories: Vec<Repository>,
    directory: String,
    limit: Duration,
}

/// The results of cloning repositories.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ClonedRepositories {
    /// The cloned repositories, in the order of the request.
    pub cloned: Vec<ClonedRepository>,
    /// The repositories that could not be cloned.
    pub failed: Vec<FailedClone>,
}

/// A repository that was cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClonedRepository {
    /// The URL of the repository, without credentials.
    pub url: String,
    /// The absolute path of the clone on the server.
    pub path: String,
    /// The ref that was requested.
    pub git_ref: Option<String>,
}

/// A repository that was not cloned.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedClone {
    /// The URL of the repository, without credentials.
    pub url: String,
    /// The reason.
    pub error: Error,
}

impl CloneRepositories {
    /// Sets the directory in which each repository gets its own subdirectory. Default: the
    /// workspace's directory.
    pub fn into_directory(mut self, path: impl Into<String>) -> Self {
        self.directory = path.into();
        self
    }

    /// Sets the timeout of each clone. Default 300 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    async fn run(self) -> Result<ClonedRepositories> {
        let directory = self.workspace.path(&self.directory)?;
        let workspace = helper(&self.workspace).await;
        let mut done = ClonedRepositories::default();
        let (mut seen, mut taken) = (HashSet::new(), HashSet::new());
        let mut jobs = Vec::new();
        for repository in self.repositories {
            match repository.check() {
                // Duplicates are cloned once.
                Ok(checked) if seen.insert((checked.url.clone(), checked.git_ref.clone())) => {
                    let name = unique(&checked.name, &mut taken);
                    let place = format!("{}/{name}", directory.trim_end_matches('/'));
                    jobs.push((checked, place));
                }
                Ok(_) => {}
                Err(error) => done.failed.push(FailedClone {
                    url: repository.shown(),
                    error,
                }),
            }
        }
        let (workspace, limit) = (&workspace, self.limit);
        let clones = jobs.into_iter().map(|(checked, path)| async move {
            let result = clone(workspace, &checked, &path, limit).await;
            (checked, path, result)
        });
        let mut clones = futures_util::stream::iter(clones).buffered(PARALLEL_CLONES);
        while let Some((checked, path, result)) = clones.next().await {
            match result {
                Ok(()) => done.cloned.push(ClonedRepository {
                    url: checked.url,
                    path,
                    git_ref: checked.git_ref,
                }),
                Err(error) => done.failed.push(FailedClone {
                    url: checked.url,
                    error,
                }),
            }
        }
        Ok(done)
    }
}

impl IntoFuture for CloneRepositories {
    type Output = Result<ClonedRepositories>;
    type IntoFuture = Request<ClonedRepositories>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.run())
    }
}

impl fmt::Debug for CloneRepositories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloneRepositories")
            .field("repositories", &self.repositories)
            .finish_non_exhaustive()
    }
}

impl ClonedRepositories {
    /// Returns a Markdown description of the repositories for an agent; empty when there are none.
    pub fn context(&self) -> String {
        if self.cloned.is_empty() {
            return String::new();
        }
        let mut text =
            "## Repositories\n\nThese repositories are in your workspace:\n\n".to_owned();
        for one in &self.cloned {
            let at = one
                .git_ref
                .as_ref()
                .map(|git_ref| format!(" at `{git_ref}`"));
            let at = at.unwrap_or_default();
            text.push_str(&format!("- `{}`: `{}`{at}\n", one.path, one.url));
        }
        text
    }
}

fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut unique = name.to_owned();
    let mut count = 1;
    // Some file systems are not case-sensitive.
    while !taken.insert(unique.to_lowercase()) {
        unique = format!("{name}_{count}");
        count += 1;
    }
    unique
}

async fn clone(workspace: &Workspace, what: &Checked, path: &str, limit: Duration) -> Result<()> {
    let mut running = workspace.execute(script(what, path)).timeout(limit);
    if let Some(credential) = &what.credential {
        running = running
            .secret_env(USER, &*credential.user)
            .secret_env(TOKEN, credential.token.clone());
    }
    let output = running.await?;
    let failed = |kind, why: &str| Error::new(kind, format!("cannot clone {}: {why}", what.url));
    match output.exit_code() {
        Some(0) => Ok(()),
        Some(EXISTS) => Err(failed(
            ErrorKind::InvalidPath,
            "the target directory already exists",
        )
        .at(path)),
        Some(_) => {
            // The last lines have the cause; git's progress comes before them.
            let why: Vec<_> = output.stderr().trim().lines().rev().take(3).collect();
            let why: Vec<_> = why.into_iter().rev().collect();
            Err(failed(ErrorKind::Git, &excerpt(&why.join("; "), 400)))
        }
        None => Err(failed(
            ErrorKind::Timeout,
            &format!("cloning took longer than {limit:?}"),
        )),
    }
}

/// Returns the command line of a clone. The line contains no secret.
fn script(what: &Checked, path: &str) -> String {
    let (url, place) = (quoted(&what.url), quoted(path));
    let mut git = "git".to_owned();
    // Prompts would hang, because nobody can answer them.
    let mut script = "export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS= \
                      GIT_SSH_COMMAND=\"${GIT_SSH_COMMAND:-ssh -oBatchMode=yes}\"; "
        .to_owned();
    if let Some(credential) = &what.credential {
        // Disables other credential helpers, which would be asked first and would store the token.
        // This helper is used for the repository's own host only, also after a redirect.
        let answer = format!(
            "!f() {{ test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
             \"${USER}\" \"${TOKEN}\"; }}; f"
        );
        let helper = quoted(&format!("credential.{}.helper={answer}", credential.origin));
        git.push_str(&format!(" -c credential.helper= -c {helper}"));
    }
    script.push_str(&format!("[ -e {place} ] && exit {EXISTS}; "));
    let sha = |git_ref: &str| {
        (7..=64).contains(&git_ref.len()) && git_ref.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match what.git_ref.as_deref() {
        Some(git_ref) if sha(git_ref) => script.push_str(&format!(
            "{git} clone --quiet -- {url} {place} && \
             {{ git -C {place} checkout --quiet {git_ref} || {{ rm -rf {place}; exit 1; }}; }}"
        )),
        Some(git_ref) => script.push_str(&format!(
            "{git} clone --quiet --depth 1 --branch {} -- {url} {place}",
            quoted(git_ref)
        )),
        None => script.push_str(&format!("{git} clone --quiet --depth 1 -- {url} {place}")),
    }
    script
}

impl Workspace {
    /// Clones repositories with git on the server. If one fails, the others are still cloned.
    ///
    /// ```no_run
    /// # async fn run(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// use oh_workspace::{GitProvider, Repository};
    ///
    /// let token = std::env::var("GITHUB_TOKEN").unwrap_or_default();
    /// let done = workspace
    ///     .clone_repositories([Repository::at(GitProvider::Github, "owner/name").token(token)])
    ///     .await?;
    /// for failed in &done.failed {
    ///     println!("{}", failed.error);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn clone_repositories<R: Into<Repository>>(
        &self,
        repositories: impl IntoIterator<Item = R>,
    ) -> CloneRepositories {
        CloneRepositories {
            workspace: self.clone(),
            repositories: repositories.into_iter().map(Into::into).collect(),
            directory: ".".to_owned(),
            limit: Duration::from_secs(300),
        }
    }
}
