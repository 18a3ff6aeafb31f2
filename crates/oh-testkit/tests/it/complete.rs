//! Tests that the fake server supports every call of the client crates. A call that is added only
//! to the client crates fails here.

use std::{collections::BTreeSet, fs, path::Path};

use oh_testkit::{FakeServer, fake::CommandOutput};
use serde_json::json;

use crate::fake::{client, create, rest};

/// The calls that return 501, as documented by the fake server. They belong to a package manager,
/// which downloads and unpacks packages, start another server or agent, or read files of agents.
const UNDONE: [&str; 26] = [
    "DELETE /api/plugins/installed/{plugin_name}",
    "GET /api/plugins/installed",
    "GET /api/plugins/installed/{plugin_name}",
    "GET /api/plugins/marketplace",
    "PATCH /api/plugins/installed/{plugin_name}",
    "POST /api/acp/models",
    "POST /api/plugins",
    "POST /api/plugins/fetch",
    "POST /api/plugins/install",
    "POST /api/plugins/installed/{plugin_name}/refresh",
    "POST /api/sub-agents",
    "DELETE /api/skills/installed/{skill_name}",
    "GET /api/skills/catalog",
    "GET /api/skills/installed",
    "GET /api/skills/installed/{skill_name}",
    "GET /api/skills/marketplace",
    "PATCH /api/skills/installed/{skill_name}",
    "GET /api/mcp/oauth/status/{job_id}",
    "GET /api/settings/agent-schema",
    "GET /api/settings/conversation-schema",
    "POST /api/mcp/oauth/callback/{job_id}",
    "POST /api/mcp/oauth/start",
    "POST /api/mcp/test",
    "POST /api/skills/install",
    "POST /api/skills/installed/{skill_name}/refresh",
    "POST /api/skills/sync",
];

/// A call that exists only for conversations in containers. Servers without containers reject it.
const IN_CONTAINERS: &str = "DELETE /api/conversations/{conversation_id}/runtime";

/// The crates that communicate with a server.
const CORE: [&str; 5] = [
    "oh-conversation",
    "oh-hooks",
    "oh-process",
    "oh-transport",
    "oh-workspace",
];

/// Collects the code below a directory, without comments and test code.
fn sources(directory: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().lines();
            let code: Vec<_> = code
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            into.push(code.join("\n"));
        }
    }
}

/// Returns the sources of a sibling crate.
fn of_crate(name: &str) -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    sources(&crates.join(name).join("src"), &mut found);
    found
}

/// Returns every call that `oh-protocol` declares in its macros: type name, method and route. A
/// workspace call has both a server route and a conversation route.
fn declared() -> Vec<(String, String, String)> {
    let mut calls = Vec::new();
    for text in of_crate("oh-protocol") {
        let mut scoped = false;
        let mut name = String::new();
        for line in text.lines() {
            if line.contains("call!") {
                scoped = line.contains("scoped_call!");
            }
            if let Some((before, _)) = line.split_once(" =>") {
                name = before.rsplit(['(', ' ']).next().unwrap().to_owned();
            } else if let Some((before, _)) = line.split_once(", \"") {
                name = before.trim().to_owned();
            }
            let Some((before, rest)) = line.split_once(" \"/") else {
                continue;
            };
            let method = before.rsplit([',', ' ']).next().unwrap();
            let Some((route, repeat)) = rest.split_once("\", ").or(rest.split_once("\" ")) else {
                continue;
            };
            let repeats = repeat.starts_with("Idempotent") || repeat.starts_with("Never");
            if !repeats || method.is_empty() || !method.chars().all(char::is_uppercase) {
                continue;
            }
            let bases: &[&str] = match scoped {
                true => &["/api/", "/api/conversations/{runtime_conversation_id}/"],
                false => &["/"],
            };
            for base in bases {
                calls.push((name.clone(), method.to_owned(), format!("{base}{route}")));
            }
        }
    }
    calls
}

#[tokio::test]
async fn every_call_has_a_response_or_is_listed_as_unsupported() {
    let calls = declared();
    // The current number of calls. A lower number means that the declarations have a new form.
    assert!(
        calls.len() >= 80,
        "{} calls were read: {calls:?}",
        calls.len()
    );
    let server = FakeServer::builder()
        .commands(|_| CommandOutput::ok(""))
        .start()
        .await
        .unwrap();
    let mut undone = BTreeSet::new();
    for (_, method, route) in &calls {
        // A separate conversation for each call, because some calls end it.
        let id = create(&server, json!({})).await;
        let path = route
            .replace("{conversation_id}", &id)
            .replace("{runtime_conversation_id}", &id);
        let parts = path.split('/').map(|part| match part.starts_with('{') {
            true => "x",
            false => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let answer = rest(&server, method, &path, json!({"command": "true"})).await;
        let rejected = format!("{method} {route}") == IN_CONTAINERS;
        assert_eq!(
            answer.status == 405,
            rejected,
            "{method} {route}: {answer:?}"
        );
        if answer.status == 501 {
            undone.insert(format!("{method} {route}"));
        }
    }
    assert_eq!(undone, UNDONE.map(str::to_owned).into());
}

/// The routes of the real server, one per line.
const ROUTES: &str = include_str!("../../src/fake/wire/routes.txt");

/// Sends each method to each path, with random names in it.
#[tokio::test]
async fn each_501_names_a_request_that_the_real_server_supports() {
    let server = FakeServer::builder()
        .commands(|_| CommandOutput::ok(""))
        .start()
        .await
        .unwrap();
    let routes: BTreeSet<&str> = ROUTES.lines().collect();
    let patterns = routes.iter().map(|route| route.split_once(' ').unwrap().1);
    let patterns: BTreeSet<_> = patterns.collect();
    let mut random = fastrand::Rng::with_seed(27);
    let mut named = 0;
    for pattern in patterns {
        let parts = pattern.split('/').map(|part| match part.starts_with('{') {
            true => format!("x{}", random.u32(..)),
            false => part.to_owned(),
        });
        let path = parts.collect::<Vec<_>>().join("/");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = rest(&server, method, &path, json!({"command": "true"})).await;
            if answer.status != 501 {
                continue;
            }
            named += 1;
            assert!(
                routes.contains(format!("{method} {pattern}").as_str()),
                "{method} {pattern} is not a route of the real server"
            );
            let text = answer.json()["detail"].to_string();
            assert!(
                text.contains(&format!("{method} {path}")),
                "{method} {path}: {text}"
            );
        }
    }
    assert!(named >= UNDONE.len(), "only {named} requests returned 501");
    for path in ["/api/nothing", "/api/skills/nothing/at/all", "/nothing"] {
        let answer = rest(&server, "GET", path, json!(null)).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
}

#[test]
fn no_core_crate_sends_an_unsupported_call() {
    let calls = declared();
    let undone: Vec<_> = calls
        .iter()
        .filter(|(_, method, route)| UNDONE.contains(&format!("{method} {route}").as_str()))
        .map(|(name, ..)| name.as_str())
        .collect();
    assert_eq!(undone.len(), UNDONE.len(), "{undone:?}");
    for core in CORE {
        for text in of_crate(core) {
            for (at, _) in text.match_indices("skills::") {
                let named = &text[at + "skills::".len()..];
                let named = match named.strip_prefix('{') {
                    Some(list) => list.split_once('}').unwrap().0,
                    None => named.split(|c: char| !c.is_alphanumeric()).next().unwrap(),
                };
                let mut named = named.split([',', ' ', '\n']);
                let asked = named.find(|name| undone.contains(name));
                assert_eq!(
                    asked, None,
                    "{core} uses a call that the fake has no answer to"
                );
            }
        }
    }
}

/// Checks the requests made without a call type, whose paths are string literals in the core
/// crates.
#[tokio::test]
async fn every_literal_path_has_a_response() {
    let server = FakeServer::start().await.unwrap();
    let id = create(&server, json!({})).await;
    let mut asked = BTreeSet::new();
    for core in CORE {
        for text in of_crate(core) {
            for opening in ["\"/api/", "\"/sockets/"] {
                for (at, _) in text.match_indices(opening) {
                    let path = text[at + 1..].split(['"', '?']).next().unwrap();
                    asked.insert(path.replace("{}", &id));
                }
            }
        }
    }
    assert!(asked.len() >= 4, "{asked:?}");
    for path in asked {
        if path.starts_with("/sockets/") {
            let opened = client(&server).socket(&path).await;
            assert!(opened.is_ok(), "{path}: {opened:?}");
            continue;
        }
        let mut found = false;
        for method in ["GET", "POST"] {
            let answer = rest(&server, method, &path, json!({})).await;
            assert_ne!(answer.status, 501, "{method} {path}: {answer:?}");
            found |= answer.status != 405;
        }
        assert!(found, "{path}");
    }
}
