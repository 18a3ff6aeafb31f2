//! Git repositories defined by a test through their answers. Does not run git.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    disk::{is_within, normal},
    files,
    known::undone,
    routes::{Answered, Call, detail, invalid, number, ok},
    world::{World, lock},
};

/// A repository on the fake server, defined by what git would report about it.
///
/// ```
/// use oh_testkit::fake::Repository;
///
/// let repository = Repository::new()
///     .commit("4f2c91d0a1", "Say hello", "Ada", [("ADDED", "hello.txt")])
///     .updated("hello.txt", "hello\n", "hello, world\n")
///     .added("bye.txt", "bye\n");
/// # let _ = repository;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Repository {
    changes: Vec<(&'static str, String)>,
    diffs: BTreeMap<String, (Option<String>, Option<String>)>,
    commits: Vec<Commit>,
    pub(super) patch: Bytes,
}

#[derive(Debug, Clone)]
struct Commit {
    sha: String,
    subject: String,
    author: String,
    changes: Vec<(String, String)>,
}

impl Repository {
    /// Creates a repository without commits or changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that was changed since the newest commit.
    pub fn updated(
        self,
        path: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) -> Self {
        self.change(
            "UPDATED",
            path.into(),
            Some(before.into()),
            Some(after.into()),
        )
    }

    /// Adds a new file.
    pub fn added(self, path: impl Into<String>, content: impl Into<String>) -> Self {
        self.change("ADDED", path.into(), None, Some(content.into()))
    }

    /// Adds a file that was deleted.
    pub fn deleted(self, path: impl Into<String>, before: impl Into<String>) -> Self {
        self.change("DELETED", path.into(), Some(before.into()), None)
    }

    fn change(
        mut self,
        status: &'static str,
        path: String,
        before: Option<String>,
        after: Option<String>,
    ) -> Self {
        self.changes.push((status, path.clone()));
        self.diffs.insert(path, (before, after));
        self
    }

    /// Adds a commit on top of the others. `changes` contains the status (`MOVED`, `ADDED`,
    /// `DELETED` or `UPDATED`) and path of each file.
    pub fn commit<'a>(
        mut self,
        sha: impl Into<String>,
        subject: impl Into<String>,
        author: impl Into<String>,
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let changes = changes.into_iter();
        self.commits.push(Commit {
            sha: sha.into(),
            subject: subject.into(),
            author: author.into(),
            changes: changes
                .map(|(status, path)| (status.into(), path.into()))
                .collect(),
        });
        self
    }

    /// Sets the patch returned by a `git-delta` archive. Default: empty.
    pub fn patch(mut self, patch: impl Into<Bytes>) -> Self {
        self.patch = patch.into();
        self
    }

    pub(super) fn head(&self) -> Option<&str> {
        self.commits.last().map(|commit| commit.sha.as_str())
    }
}

pub(super) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("GET", ["changes"]) => {
            let path = files::path(call)?;
            let repositories = lock(&world.repositories);
            let found = find(&repositories, &path).map(|(_, repository)| &repository.changes);
            let changes: Vec<_> = found.into_iter().flatten().map(change).collect();
            Ok(ok(&changes))
        }
        ("GET", ["diff"]) => diff(world, call),
        ("GET", ["commits"]) => commits(world, call),
        ("GET", ["commits", sha, "changes"]) => {
            check_sha(sha, json!(["path", "sha"]))?;
            let path = files::path(call)?;
            let repositories = lock(&world.repositories);
            let Some((_, repository)) = find(&repositories, &path) else {
                return Ok(ok(&json!([])));
            };
            let commit = repository
                .commits
                .iter()
                .find(|commit| commit.sha.starts_with(sha));
            let Some(commit) = commit else {
                let text = format!("Git command failed: unknown revision {sha}");
                return Err(detail(StatusCode::BAD_REQUEST, &text).into());
            };
            let changes: Vec<_> = commit.changes.iter().map(change).collect();
            Ok(ok(&changes))
        }
        ("GET", ["repositories", "search"]) => providers(world, call),
        _ => Err(undone(call).into()),
    }
}

/// Handles a search for a provider's repositories. The fake server cannot reach a provider; it can
/// only report that no token is stored.
fn providers(world: &World, call: &Call) -> Answered {
    let at = json!(["query", "provider"]);
    let Some(provider) = call.query("provider") else {
        return Err(invalid("missing", at, "Field required").into());
    };
    if !matches!(
        provider.as_str(),
        "github" | "gitlab" | "bitbucket" | "azure_devops"
    ) {
        let rule = "Input should be 'github', 'gitlab', 'bitbucket' or 'azure_devops'";
        return Err(invalid("enum", at, rule).into());
    }
    number(call, "limit", 100, 1..=100)?;
    if provider != "github" {
        let text = format!("Repository discovery is not supported for provider '{provider}'");
        return Err(detail(StatusCode::BAD_REQUEST, &text).into());
    }
    const TOKENS: [&str; 4] = ["github_token", "GITHUB_TOKEN", "GH_TOKEN", "github"];
    let stored = lock(&world.stored);
    if TOKENS.iter().any(|name| stored.has_secret(name)) {
        return Err(undone(call).into());
    }
    Ok(ok(
        &json!({"items": [], "next_page_id": null, "missing_token": true}),
    ))
}

fn change<S: AsRef<str>>((status, path): &(S, String)) -> Value {
    json!({"status": status.as_ref(), "path": path})
}

/// Returns the innermost repository that contains a path.
fn find<'a>(
    repositories: &'a BTreeMap<String, Repository>,
    path: &str,
) -> Option<(&'a String, &'a Repository)> {
    let mut around = repositories
        .iter()
        .filter(|(root, _)| is_within(path, root));
    // Sorted by path, so the innermost one is last.
    around.next_back()
}

fn diff(world: &World, call: &Call) -> Answered {
    let path = files::path(call)?;
    let commit = call.query("commit");
    if let Some(sha) = &commit {
        check_sha(sha, json!(["query", "commit"]))?;
        if call.query("ref").is_some() {
            let text = "'ref' and 'commit' are mutually exclusive";
            return Err(detail(StatusCode::BAD_REQUEST, text).into());
        }
    }
    let repositories = lock(&world.repositories);
    let Some((root, repository)) = find(&repositories, &path) else {
        return Ok(ok(&json!({"modified": null, "original": null})));
    };
    let path = normal(&path).unwrap_or_default();
    let inside = path[root.len()..].trim_start_matches('/');
    if let Some((before, after)) = repository.diffs.get(inside) {
        return Ok(ok(&texts(before.as_deref(), after.as_deref())));
    }
    let Some(content) = world.disk.read(&path) else {
        let text = format!("Git path error: {path}");
        return Err(detail(StatusCode::BAD_REQUEST, &text).into());
    };
    let content = String::from_utf8_lossy(&content);
    Ok(ok(&texts(Some(&content), Some(&content))))
}

/// Formats contents like the agent server: without the final newline, and empty if there is none.
fn texts(before: Option<&str>, after: Option<&str>) -> Value {
    let lines = |text: &str| text.lines().collect::<Vec<_>>().join("\n");
    json!({
        "modified": after.map(lines).unwrap_or_default(),
        "original": before.map(str::trim).unwrap_or_default(),
    })
}

fn commits(world: &World, call: &Call) -> Answered {
    let path = files::path(call)?;
    let limit = number(call, "limit", 50, 1..=200)?;
    let repositories = lock(&world.repositories);
    let all = find(&repositories, &path).map_or(&[][..], |(_, repository)| &repository.commits);
    let shown: Vec<_> = all
        .iter()
        .rev()
        .take(limit)
        .map(|commit| {
            json!({
                "sha": commit.sha,
                "short_sha": commit.sha.chars().take(7).collect::<String>(),
                "subject": commit.subject,
                "author": commit.author,
                "timestamp": "2026-01-01T00:00:00+00:00",
            })
        })
        .collect();
    Ok(ok(
        &json!({"commits": shown, "has_more": all.len() > limit}),
    ))
}

fn check_sha(sha: &str, at: Value) -> Answered<()> {
    if (4..=64).contains(&sha.len()) && sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let rule = "String should match pattern '^[0-9a-fA-F]{4,64}$'";
    Err(invalid("string_pattern_mismatch", at, rule).into())
}
