//! The routes of the REST API, with the agent server's statuses and bodies.

mod agents;
mod archive;
mod auth;
mod bash;
mod connections;
mod conversations;
mod described;
mod events;
mod files;
mod git;
mod goals;
mod init;
mod llm;
mod mcp;
mod names;
mod operations;
mod saved;
mod skills;
mod stored;
mod subscription;
mod vscode;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{tools::normal_hooks, world::World},
    wire::{
        known::{self, undone},
        reply::{self, Answered, Call, detail, ok},
    },
};
use crate::http::Response;

pub(crate) async fn route(world: &Arc<World>, call: &Call) -> Response {
    let segments: Vec<_> = call.path().split('/').skip(1).collect();
    let method = call.head.method.as_str();
    if !known::methods(call.path()).contains(&method) {
        return undone(call);
    }
    let answered = match (method, segments.as_slice()) {
        ("GET", [""] | ["server_info"]) => Ok(ok(&world.server_info())),
        ("GET", ["alive" | "health"]) => Ok(ok(&json!({"status": "ok"}))),
        ("GET", ["ready"]) => Ok(ok(&json!({"status": "ready"}))),
        (_, ["api", "init"]) => init::route(world, call, method),
        (_, ["api" | "v1", ..]) if world.door.is_dormant() => Err(reply::dormant().into()),
        // Without a key, a client can only see whether a route exists.
        (_, ["api" | "v1", ..]) if !admits(world, call, method, &segments) => {
            Err(detail(StatusCode::UNAUTHORIZED, "Unauthorized").into())
        }
        (_, ["api", "conversations", rest @ ..]) => {
            conversations::route(world, call, method, rest).await
        }
        (_, ["api", "auth", rest @ ..]) => auth::route(call, method, rest),
        (_, ["api", "bash", rest @ ..]) => Ok(bash::route(world, None, call, method, rest).await),
        (_, ["api", "file", rest @ ..]) => files::route(world, call, method, rest),
        (_, ["api", "git", rest @ ..]) => git::route(world, call, method, rest),
        (_, ["api", "settings", rest @ ..]) => stored::settings(world, call, method, rest),
        (_, ["api", "profiles", rest @ ..]) => stored::profiles(world, call, method, rest),
        (_, ["api", "agent-profiles", rest @ ..]) => agents::route(world, call, method, rest),
        (_, ["api", "meta-profiles", rest @ ..]) => saved::meta_profiles(world, call, method, rest),
        (_, ["api", "workspaces", rest @ ..]) => saved::workspaces(world, call, method, rest),
        (_, ["api", "llm", rest @ ..]) => llm::route(world, call, method, rest),
        (_, ["api", "vscode", rest @ ..]) => vscode::vscode(call, method, rest),
        ("POST", ["api", "hooks"]) => hooks(world, call),
        (_, ["api", "skills", rest @ ..]) => skills::route(world, call, method, rest),
        ("GET", ["api", "tools", ""]) => Ok(ok(&world.server_info()["usable_tools"])),
        ("GET", ["api", "tools", "catalog"]) => Ok(ok(&world.catalog())),
        _ => Err(undone(call).into()),
    };
    answered.unwrap_or_else(|refusal| *refusal)
}

/// Returns whether a request has a key. A browser may load the pages of workspaces with a cookie.
fn admits(world: &World, call: &Call, method: &str, segments: &[&str]) -> bool {
    let headers = &call.head.headers;
    let page = matches!(
        (method, segments),
        ("GET", ["api", "conversations", _, "workspace", ..])
    );
    world.door.admits(headers) || (page && world.door.admits_browser(headers))
}

/// Returns the hooks in a project's own file, or none if the file cannot be decoded.
fn hooks(world: &World, call: &Call) -> Answered {
    let request = call.json()?;
    let project = request["project_dir"]
        .as_str()
        .filter(|project| !project.is_empty());
    let file =
        project.and_then(|project| world.disk.read(&format!("{project}/.openhands/hooks.json")));
    let given = file.and_then(|file| serde_json::from_slice::<Value>(&file).ok());
    let config = given.map(|given| normal_hooks(&given)).unwrap_or_default();
    let is_empty = |config: &Value| {
        let mut events = config
            .as_object()
            .into_iter()
            .flat_map(|events| events.values());
        events.all(|matchers| matchers.as_array().is_none_or(Vec::is_empty))
    };
    let config = if is_empty(&config) {
        Value::Null
    } else {
        config
    };
    Ok(ok(&json!({"hook_config": config})))
}
