//! Git in a directory of the server: what changed, and the repositories a provider has.
//!
//! Where there is no repository the server answers with emptiness, not with an error.

use serde::{Deserialize, Serialize};

use super::{Scope, call, query, scope::scoped_call};
use crate::{Error, Request, Result, open_enum::open_enum};

open_enum! {
    /// How a file changed.
    ChangeStatus {
        /// It has another name now.
        Moved = "MOVED",
        /// It is new.
        Added = "ADDED",
        /// It is gone.
        Deleted = "DELETED",
        /// Its content changed.
        Updated = "UPDATED",
    }
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitChange {
    /// How.
    pub status: ChangeStatus,
    /// Which, with forward slashes, below the repository.
    pub path: String,
}

/// A file before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitDiff {
    /// Its content now; none when it is gone.
    #[serde(default)]
    pub modified: Option<String>,
    /// Its content before; none when it is new.
    #[serde(default)]
    pub original: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitCommit {
    /// Its whole hash.
    pub sha: String,
    /// Its hash, shortened.
    #[serde(default)]
    pub short_sha: String,
    /// The first line of its message.
    #[serde(default)]
    pub subject: String,
    /// Who wrote it.
    #[serde(default)]
    pub author: String,
    /// When it was written: ISO 8601 with an offset.
    #[serde(default)]
    pub timestamp: String,
}

/// The newest commits of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GitCommitsPage {
    /// Newest first.
    pub commits: Vec<GitCommit>,
    /// Whether there are older ones.
    #[serde(default)]
    pub has_more: bool,
}

/// A repository at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitProviderRepository {
    /// The provider's id.
    pub id: String,
    /// `owner/name`.
    pub full_name: String,
    /// The provider, such as `github`.
    #[serde(default)]
    pub git_provider: String,
    /// Whether everyone can read it.
    #[serde(default)]
    pub is_public: bool,
    /// How many stars it has.
    #[serde(default)]
    pub stargazers_count: Option<i64>,
    /// When something was last pushed to it.
    #[serde(default)]
    pub pushed_at: Option<String>,
    /// Its main branch.
    #[serde(default)]
    pub main_branch: Option<String>,
}

/// A page of repositories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GitRepositoryPage {
    /// The repositories.
    pub items: Vec<GitProviderRepository>,
    /// Where the next page begins; absent on the last.
    #[serde(default)]
    pub next_page_id: Option<String>,
    /// The server has no token for the provider, so it found nothing.
    #[serde(default)]
    pub missing_token: bool,
}

/// A ref must not read as an option of git.
fn check_ref(git_ref: Option<&String>) -> Result<()> {
    match git_ref {
        Some(text) if text.is_empty() || text.starts_with('-') || text.contains('\0') => Err(
            Error::invalid("a git ref is not empty and does not begin with a dash"),
        ),
        _ => Ok(()),
    }
}

fn check_sha(sha: &str) -> Result<()> {
    if (4..=64).contains(&sha.len()) && sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::invalid(
        "a commit is named by 4 to 64 hexadecimal digits",
    ))
}

/// `GET …/git/changes`: the files that differ from a ref.
#[derive(Debug, Clone)]
#[must_use]
pub struct Changes {
    scope: Scope,
    path: String,
    git_ref: Option<String>,
}

impl Changes {
    /// Changes of the repository at `path`, against the branch upstream as git knows it.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            git_ref: None,
        }
    }

    /// Against this ref instead, such as `HEAD`.
    pub fn against(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }
}

scoped_call!(Changes => Vec<GitChange>, GET "/git/changes", Idempotent;
    |this, base| {
        check_ref(this.git_ref.as_ref())?;
        let mut target = base + "/git/changes";
        query(&mut target, "path", &this.path);
        if let Some(git_ref) = &this.git_ref {
            query(&mut target, "ref", git_ref);
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("changed files"));

/// `GET …/git/diff`: one file before and after.
#[derive(Debug, Clone)]
#[must_use]
pub struct Diff {
    scope: Scope,
    path: String,
    git_ref: Option<String>,
    commit: Option<String>,
}

impl Diff {
    /// Of the file at `path`, against the branch upstream as git knows it.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            git_ref: None,
            commit: None,
        }
    }

    /// Against this ref instead.
    pub fn against(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }

    /// As this commit changed it. Not together with a ref.
    pub fn commit(mut self, sha: impl Into<String>) -> Self {
        self.commit = Some(sha.into());
        self
    }
}

scoped_call!(Diff => GitDiff, GET "/git/diff", Idempotent;
    |this, base| {
        check_ref(this.git_ref.as_ref())?;
        let mut target = base + "/git/diff";
        query(&mut target, "path", &this.path);
        match (&this.git_ref, &this.commit) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("a diff is against a ref or of a commit, not both"));
            }
            (Some(git_ref), None) => query(&mut target, "ref", git_ref),
            (None, Some(sha)) => {
                check_sha(sha)?;
                query(&mut target, "commit", sha);
            }
            (None, None) => {}
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("diff"));

/// `GET …/git/commits`: the newest commits.
#[derive(Debug, Clone)]
#[must_use]
pub struct Commits {
    scope: Scope,
    path: String,
    limit: u32,
}

impl Commits {
    /// The newest 50 of the repository at `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            limit: 50,
        }
    }

    /// How many, 1 to 200.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

scoped_call!(Commits => GitCommitsPage, GET "/git/commits", Idempotent;
    |this, base| {
        if !(1..=200).contains(&this.limit) {
            return Err(Error::invalid("the limit of commits is 1 to 200"));
        }
        let mut target = base + "/git/commits";
        query(&mut target, "path", &this.path);
        query(&mut target, "limit", &this.limit.to_string());
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("commits"));

/// `GET …/git/commits/{sha}/changes`: the files a commit changed, against its first parent.
#[derive(Debug, Clone)]
pub struct CommitChanges {
    scope: Scope,
    path: String,
    sha: String,
}

impl CommitChanges {
    /// Of the commit `sha` in the repository at `path`.
    pub fn new(path: impl Into<String>, sha: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            sha: sha.into(),
        }
    }
}

scoped_call!(CommitChanges => Vec<GitChange>, GET "/git/commits/{sha}/changes", Idempotent;
    |this, base| {
        check_sha(&this.sha)?;
        let mut target = format!("{base}/git/commits/{}/changes", this.sha);
        query(&mut target, "path", &this.path);
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("files of a commit"));

/// `GET /api/git/repositories/search`: the repositories that a token stored on the server can
/// reach. It uses the network.
#[derive(Debug, Clone)]
#[must_use]
pub struct SearchRepositories {
    provider: String,
    text: Option<String>,
    limit: u32,
    page_id: Option<String>,
}

impl SearchRepositories {
    /// All repositories of a provider, such as `github`, 100 at most.
    pub fn new(provider: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            text: None,
            limit: 100,
            page_id: None,
        }
    }

    /// Only those whose name holds this.
    pub fn query(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// How many a page holds, 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Begins at the page an earlier answer named.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }
}

call!(SearchRepositories => GitRepositoryPage, GET "/api/git/repositories/search", Idempotent;
    |this| {
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid("a page of repositories holds 1 to 100"));
        }
        let mut target = "/api/git/repositories/search".to_owned();
        query(&mut target, "provider", &this.provider);
        query(&mut target, "limit", &this.limit.to_string());
        if let Some(text) = &this.text {
            query(&mut target, "query", text);
        }
        if let Some(page_id) = &this.page_id {
            query(&mut target, "page_id", page_id);
        }
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("repositories"));
