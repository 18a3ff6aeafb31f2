//! Git repositories of the fake, which a test defines by their answers.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{
        disk::{is_within, normal},
        lock::lock,
        repository::Repository,
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, detail, invalid, number, ok, path},
    },
};

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("GET", ["changes"]) => {
            let path = path(call)?;
            let repositories = lock(&world.repositories);
            let found = find(&repositories, &path).map(|(_, repository)| &repository.changes);
            let changes: Vec<_> = found.into_iter().flatten().map(change).collect();
            Ok(ok(&changes))
        }
        ("GET", ["diff"]) => diff(world, call),
        ("GET", ["commits"]) => commits(world, call),
        ("GET", ["commits", sha, "changes"]) => {
            check_sha(sha, json!(["path", "sha"]))?;
            let path = path(call)?;
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
    let path = path(call)?;
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
    let path = path(call)?;
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
