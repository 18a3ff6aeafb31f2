//! The MCP servers in the settings.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::stored::{Expose, Stored, merge},
    wire::{
        known::undone,
        reply::{Answered, Call, decode, detail, invalid, ok},
    },
};
use crate::http as server;

pub(crate) fn route(stored: &mut Stored, call: &Call, method: &str, key: &str) -> Answered {
    let key = decode(key);
    let exists = stored.agent["mcp_config"].get(&key).is_some();
    match method {
        "POST" => {
            let server = call.json()?;
            if server.get("command").is_none() && server.get("url").is_none() {
                let rule = "Value error, MCP server must define url or command";
                return Err(invalid("value_error", json!(["body"]), rule).into());
            }
            if exists {
                let text = format!("MCP server '{key}' already exists");
                return Err(detail(StatusCode::CONFLICT, &text).into());
            }
            check(&server)?;
            stored.agent["mcp_config"][key] = server;
            let settings = stored.settings(Expose::Masked);
            return Ok(server::json(StatusCode::CREATED, &settings));
        }
        "PATCH" | "DELETE" if !exists => {
            let text = format!("MCP server '{key}' was not found");
            return Err(detail(StatusCode::NOT_FOUND, &text).into());
        }
        "PATCH" => {
            let patch = call.json()?;
            check(&patch)?;
            merge(&mut stored.agent["mcp_config"][key], &patch);
        }
        "DELETE" => {
            if let Some(servers) = stored.agent["mcp_config"].as_object_mut() {
                servers.remove(&key);
            }
        }
        _ => return Err(undone(call).into()),
    }
    Ok(ok(&stored.settings(Expose::Masked)))
}

/// The fields of an MCP server.
const FIELDS: [&str; 14] = [
    "url",
    "transport",
    "command",
    "args",
    "env",
    "cwd",
    "description",
    "icon",
    "timeout",
    "sse_read_timeout",
    "keep_alive",
    "headers",
    "auth",
    "enabled",
];

/// Rejects fields that the server does not know.
fn check(server: &Value) -> Answered<()> {
    let mut names = server
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys());
    match names.find(|name| !FIELDS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let rule = "Extra inputs are not permitted";
            Err(invalid("extra_forbidden", json!(["body", name]), rule).into())
        }
    }
}
