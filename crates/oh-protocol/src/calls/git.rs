//! Git operations in a directory on the server: changes, commits, and repositories of a provider.
//!
//! If a directory is not a repository, the server returns an empty result instead of an error.

use serde::{Deserialize, Serialize};

use super::{Scope, call, query, scope::scoped_call};
use crate::{Error, Request, Result, json::open_enum::open_enum};

open_enum! {
    /// The kind of change to a file.
    ChangeStatus {
        /// The file was renamed.
        Moved = "MOVED",
        /// The file was created.
        Added = "ADDED",
        /// The file was deleted.
        Deleted = "DELETED",
        /// The content was changed.
        Updated = "UPDATED",
    }
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitChange {
    /// The kind of change.
    pub status: ChangeStatus,
    /// The path relative to the repository, with forward slashes.
    pub path: String,
}

/// The content of a file before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitDiff {
    /// The new content. `None` if the file was deleted.
    #[serde(default)]
    pub modified: Option<String>,
    /// The old content. `None` if the file was created.
    #[serde(default)]
    pub original: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitCommit {
    /// The full hash.
    pub sha: String,
    /// The abbreviated hash.
    #[serde(default)]
    pub short_sha: String,
    /// The first line of the commit message.
    #[serde(default)]
    pub subject: String,
    /// The author.
    #[serde(default)]
    pub author: String,
    /// The author date, in ISO 8601 with an offset.
    #[serde(default)]
    pub timestamp: String,
}

/// The newest commits of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct GitCommitsPage {
    /// The commits, newest first.
    pub commits: Vec<GitCommit>,
    /// Whether there are older commits.
    #[serde(default)]
    pub has_more: bool,
}

/// A repository at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitProviderRepository {
    /// The id at the provider.
    pub id: String,
    /// The full name, as `owner/name`.
    pub full_name: String,
    /// The provider, such as `github`.
    #[serde(default)]
    pub git_provider: String,
    /// Whether the repository is public.
    #[serde(default)]
    pub is_public: bool,
    /// The number of stars.
    #[serde(default)]
    pub stargazers_count: Option<i64>,
    /// The time of the last push.
    #[serde(default)]
    pub pushed_at: Option<String>,
    /// The main branch.
    #[serde(default)]
    pub main_branch: Option<String>,
}

/// A page of repositories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct GitRepositoryPage {
    /// The repositories.
    pub items: Vec<GitProviderRepository>,
    /// The id of the next page. `None` for the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
    /// Whether the server has no token for the provider, so that the page is empty.
    #[serde(default)]
    pub missing_token: bool,
}

/// Checks that git cannot parse a ref as an option.
fn check_ref(git_ref: Option<&String>) -> Result<()> {
    match git_ref {
        Some(text) if text.is_empty() || text.starts_with('-') || text.contains('\0') => Err(
            Error::invalid("the git ref must not be empty or begin with `-`"),
        ),
        _ => Ok(()),
    }
}

fn check_sha(sha: &str) -> Result<()> {
    if (4..=64).contains(&sha.len()) && sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::invalid(
        "the commit must be 4 to 64 hexadecimal digits",
    ))
}

/// `GET …/git/changes`: returns the files that differ from a ref.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Changes {
    scope: Scope,
    path: String,
    git_ref: Option<String>,
}

impl Changes {
    /// Creates a call for the repository at `path`, compared with the local copy of the upstream
    /// branch.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            git_ref: None,
        }
    }

    /// Compares with this ref instead, such as `HEAD`.
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

/// `GET …/git/diff`: returns the old and new content of a file.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Diff {
    scope: Scope,
    path: String,
    git_ref: Option<String>,
    commit: Option<String>,
}

impl Diff {
    /// Creates a call for the file at `path`, compared with the local copy of the upstream branch.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            git_ref: None,
            commit: None,
        }
    }

    /// Compares with this ref instead.
    pub fn against(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }

    /// Returns the change that this commit made. Cannot be combined with a ref.
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
                return Err(Error::invalid("a diff cannot have both a ref and a commit"));
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

/// `GET …/git/commits`: returns the newest commits.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Commits {
    scope: Scope,
    path: String,
    limit: u32,
}

impl Commits {
    /// Creates a call for the newest 50 commits of the repository at `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            scope: Scope::Server,
            path: path.into(),
            limit: 50,
        }
    }

    /// Sets the number of commits, from 1 to 200.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

scoped_call!(Commits => GitCommitsPage, GET "/git/commits", Idempotent;
    |this, base| {
        if !(1..=200).contains(&this.limit) {
            return Err(Error::invalid("the limit of commits must be between 1 and 200"));
        }
        let mut target = base + "/git/commits";
        query(&mut target, "path", &this.path);
        query(&mut target, "limit", &this.limit.to_string());
        Ok(Request::new(http::Method::GET, target))
    };
    |answer| answer.json("commits"));

/// `GET …/git/commits/{sha}/changes`: returns the files that a commit changed, compared with its
/// first parent.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitChanges {
    scope: Scope,
    path: String,
    sha: String,
}

impl CommitChanges {
    /// Creates a call for the commit `sha` in the repository at `path`.
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

/// `GET /api/git/repositories/search`: returns the repositories that are accessible with a token
/// stored on the server. Requires network access.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SearchRepositories {
    provider: String,
    text: Option<String>,
    limit: u32,
    page_id: Option<String>,
}

impl SearchRepositories {
    /// Creates a call for all repositories of a provider, such as `github`, at most 100.
    pub fn new(provider: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            text: None,
            limit: 100,
            page_id: None,
        }
    }

    /// Limits the result to repositories whose name contains this text.
    pub fn query(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the number of repositories per page, from 1 to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the id of the page, from an earlier response.
    pub fn page_id(mut self, page_id: impl Into<String>) -> Self {
        self.page_id = Some(page_id.into());
        self
    }
}

call!(SearchRepositories => GitRepositoryPage, GET "/api/git/repositories/search", Idempotent;
    |this| {
        if !(1..=100).contains(&this.limit) {
            return Err(Error::invalid("the page limit of repositories must be between 1 and 100"));
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
