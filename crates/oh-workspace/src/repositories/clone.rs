//! Cloning: one command for each repository, and a hiding place for its token while it runs.

use std::{
    collections::HashSet,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use oh_protocol::calls::Scope;
use secrecy::{ExposeSecret, SecretString};

use super::{Repository, source::Checked};
use crate::{
    Error, ErrorKind, Result, Workspace,
    command::{excerpt, quoted},
};

/// How many are cloned at the same time.
const AT_ONCE: usize = 3;
/// Tells a directory that was there before from other failures.
const EXISTS: i32 = 97;
/// Tells that the token did not arrive.
const NO_TOKEN: i32 = 98;

/// Repositories about to be cloned. Await it.
///
/// Dropping the future stops what is under way, and leaves neither a token nor half a repository
/// on the server.
#[must_use = "nothing is cloned until it is awaited"]
pub struct CloneRepositories<'a> {
    workspace: &'a Workspace,
    repositories: Vec<Repository>,
    directory: String,
    limit: Duration,
}

/// What became of repositories.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ClonedRepositories {
    /// Those that are there, in the order they were named.
    pub cloned: Vec<ClonedRepository>,
    /// Those that are not.
    pub failed: Vec<FailedClone>,
}

/// A repository that was cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClonedRepository {
    /// Where it came from, without credentials.
    pub url: String,
    /// Where it is: an absolute path of the server.
    pub path: String,
    /// The ref that was asked for.
    pub git_ref: Option<String>,
}

/// A repository that was not cloned.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedClone {
    /// Where it should have come from, without credentials.
    pub url: String,
    /// Why it did not.
    pub error: Error,
}

impl CloneRepositories<'_> {
    /// The directory they go into, each into one of its own. Default: the workspace's.
    pub fn into_directory(mut self, path: impl Into<String>) -> Self {
        self.directory = path.into();
        self
    }

    /// How long each may take. Default 300 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    async fn run(self) -> Result<ClonedRepositories> {
        let directory = self.workspace.path(&self.directory)?;
        // A conversation's scope would refuse the hiding place, which is outside its workspace.
        let workspace = self.workspace.in_scope(Scope::Server);
        let mut done = ClonedRepositories::default();
        let (mut seen, mut taken) = (HashSet::new(), HashSet::new());
        let mut jobs = Vec::new();
        for repository in self.repositories {
            match repository.check() {
                // Named twice, it is cloned once.
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
        let mut clones = futures_util::stream::iter(clones).buffered(AT_ONCE);
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

impl<'a> IntoFuture for CloneRepositories<'a> {
    type Output = Result<ClonedRepositories>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for CloneRepositories<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloneRepositories")
            .field("repositories", &self.repositories)
            .finish_non_exhaustive()
    }
}

impl ClonedRepositories {
    /// What an agent should be told of them, in Markdown; empty where there are none.
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
    // Some file systems do not tell cases apart.
    while !taken.insert(unique.to_lowercase()) {
        unique = format!("{name}_{count}");
        count += 1;
    }
    unique
}

async fn clone(workspace: &Workspace, what: &Checked, path: &str, limit: Duration) -> Result<()> {
    let hiding = match &what.credential {
        Some(credential) => Some(Hiding::make(workspace, credential).await?),
        None => None,
    };
    let running = workspace
        .execute(script(what, path, hiding.as_ref()))
        .timeout(limit);
    let output = match &hiding {
        Some(hiding) => {
            let both = tokio::try_join!(running.into_future(), hiding.fill());
            // The command removes it, but a token that arrives late would make it again.
            hiding.remove().await;
            both?.0
        }
        None => running.await?,
    };
    let failed = |kind, why: &str| Error::new(kind, format!("{} was not cloned: {why}", what.url));
    match output.exit_code() {
        Some(0) => Ok(()),
        Some(EXISTS) => {
            Err(failed(ErrorKind::InvalidPath, "its directory is there already").at(path))
        }
        Some(NO_TOKEN) => Err(failed(ErrorKind::Interrupted, "its token did not arrive")),
        Some(_) => {
            // The end says what went wrong; git's progress comes before.
            let why: Vec<_> = output.stderr().trim().lines().rev().take(3).collect();
            let why: Vec<_> = why.into_iter().rev().collect();
            Err(failed(ErrorKind::Git, &excerpt(&why.join("; "), 400)))
        }
        None => Err(failed(
            ErrorKind::Timeout,
            &format!("it took longer than {limit:?}"),
        )),
    }
}

/// The command line of a clone. It holds no secret.
fn script(what: &Checked, path: &str, hiding: Option<&Hiding>) -> String {
    let (url, place) = (quoted(&what.url), quoted(path));
    let mut git = "git".to_owned();
    // Nobody is there to answer a question.
    let mut script = "export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS= \
                      GIT_SSH_COMMAND=\"${GIT_SSH_COMMAND:-ssh -oBatchMode=yes}\"; "
        .to_owned();
    if let Some(hiding) = hiding {
        let place = quoted(&hiding.path);
        // Whatever ends this shell, the token goes with it.
        script.push_str(&format!(
            "trap 'rm -rf {}' EXIT; trap 'exit 99' TERM INT HUP; n=0; \
             while [ ! -e {place}/ready ]; do n=$((n+1)); [ $n -gt 600 ] && exit {NO_TOKEN}; \
             sleep 0.05; done; ",
            hiding.path
        ));
        // Other helpers would be asked first, and told what was used.
        let helper = quoted(&format!(
            "credential.helper=store --file={}/token",
            hiding.path
        ));
        git.push_str(&format!(" -c credential.helper= -c {helper}"));
    }
    script.push_str(&format!("[ -e {place} ] && exit {EXISTS}; "));
    let sha = |git_ref: &str| {
        (7..=40).contains(&git_ref.len()) && git_ref.bytes().all(|byte| byte.is_ascii_hexdigit())
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

/// A directory on the server that only its user can enter, for a token.
struct Hiding {
    workspace: Workspace,
    path: String,
    credential: SecretString,
    removed: AtomicBool,
}

impl Hiding {
    async fn make(workspace: &Workspace, credential: &SecretString) -> Result<Self> {
        let line = "umask 077; mktemp -d \"${TMPDIR:-/tmp}/oh-clone.XXXXXXXXXX\"";
        let made = workspace.execute(line).cwd("/").await?;
        let path = made.stdout().trim_end().to_owned();
        // It stands in command lines without quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        if !made.success() || !path.starts_with('/') || !path.chars().all(plain) {
            let context = "no place for a token could be made in the server's temporary directory";
            return Err(Error::new(ErrorKind::InvalidPath, context).at(&path));
        }
        Ok(Self {
            workspace: workspace.clone(),
            path,
            credential: credential.clone(),
            removed: AtomicBool::new(false),
        })
    }

    /// Brings the token, then says that it is there. The command waits for it.
    async fn fill(&self) -> Result<()> {
        let line = format!("{}\n", self.credential.expose_secret());
        let workspace = &self.workspace;
        workspace
            .write(format!("{}/token", self.path), line)
            .await?;
        workspace
            .write(format!("{}/ready", self.path), Bytes::new())
            .await
    }

    async fn remove(&self) {
        if remove(self.workspace.clone(), &self.path).await {
            self.removed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Hiding {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (
            self.removed.load(Ordering::Relaxed),
            tokio::runtime::Handle::try_current(),
        ) {
            let (workspace, path) = (self.workspace.clone(), std::mem::take(&mut self.path));
            runtime.spawn(async move { remove(workspace, &path).await });
        }
    }
}

/// Removes a hiding place, whatever is in it.
async fn remove(workspace: Workspace, path: &str) -> bool {
    let removing = workspace.execute(format!("rm -rf {path}")).cwd("/");
    let removed = removing.timeout(Duration::from_secs(10)).await;
    removed.is_ok_and(|output| output.success())
}

impl Workspace {
    /// Clones repositories, with git on the server. One that fails does not keep the others.
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
    ) -> CloneRepositories<'_> {
        CloneRepositories {
            workspace: self,
            repositories: repositories.into_iter().map(Into::into).collect(),
            directory: ".".to_owned(),
            limit: Duration::from_secs(300),
        }
    }
}
