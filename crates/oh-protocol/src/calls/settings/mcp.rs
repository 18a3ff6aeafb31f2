//! The MCP servers in the server's settings.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Settings;
use crate::{
    Request, Result,
    calls::{call, named},
    config::{McpServer, McpServerPatch},
    redact,
};

const ROUTE: &str = "/api/settings/mcp";

/// An MCP server in the settings, without its secrets. Cannot be sent back: use [`PatchMcpServer`]
/// to change some of its fields.
#[derive(Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct StoredMcpServer {
    /// The name.
    #[serde(skip)]
    pub name: String,
    /// The transport: `stdio`, `http`, `streamable-http` or `sse`.
    #[serde(default)]
    pub transport: Option<String>,
    /// The program, for `stdio`.
    #[serde(default)]
    pub command: Option<String>,
    /// The URL, for the other transports.
    #[serde(default)]
    pub url: Option<String>,
    /// The description.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether agents can use the server's tools.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

/// Returns the value for a server that is enabled, which has no field.
fn enabled() -> bool {
    true
}

// The URL may contain a secret.
impl fmt::Debug for StoredMcpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMcpServer")
            .field("name", &self.name)
            .field("transport", &self.transport)
            .field("command", &self.command)
            .field("url", &self.url.as_deref().map(redact::origin))
            .field("description", &self.description)
            .field("enabled", &self.enabled)
            .finish()
    }
}

impl Settings {
    /// Returns the MCP servers for agents, without their secrets.
    pub fn mcp_servers(&self) -> Vec<StoredMcpServer> {
        let config = &self.agent_settings["mcp_config"];
        // Older servers nest them one level deeper.
        let config = config.get("mcpServers").unwrap_or(config);
        let servers = config.as_object().into_iter().flat_map(Map::iter);
        let read = |(name, json): (&String, &Value)| {
            let mut server = StoredMcpServer::deserialize(json).ok()?;
            server.name.clone_from(name);
            Some(server)
        };
        servers.filter_map(read).collect()
    }
}

/// `POST /api/settings/mcp/{settings_key}`: adds an MCP server to the settings for agents. Returns
/// 409 if the settings have a server with this name.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct AddMcpServer {
    name: String,
    server: Box<McpServer>,
}

impl AddMcpServer {
    /// Creates a call for an MCP server with this name.
    pub fn new(name: impl Into<String>, server: McpServer) -> Self {
        Self {
            name: name.into(),
            server: server.into(),
        }
    }
}

// Not retried: a second request would find the server that the first one has added.
call!(AddMcpServer => Settings, POST "/api/settings/mcp/{settings_key}", Never;
    |this| {
        this.server.check()?;
        Request::new(http::Method::POST, at(&this.name)?).json(&this.server)
    };
    |answer| answer.json("settings"));

/// `PATCH /api/settings/mcp/{settings_key}`: changes the given fields of an MCP server in the
/// settings. Returns 404 if the settings do not have it.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct PatchMcpServer {
    name: String,
    patch: Box<McpServerPatch>,
}

impl PatchMcpServer {
    /// Creates a call for the MCP server with this name.
    pub fn new(name: impl Into<String>, patch: McpServerPatch) -> Self {
        Self {
            name: name.into(),
            patch: patch.into(),
        }
    }
}

call!(PatchMcpServer => Settings, PATCH "/api/settings/mcp/{settings_key}", Idempotent;
    |this| {
        this.patch.check()?;
        Request::new(http::Method::PATCH, at(&this.name)?).json(&this.patch)
    };
    |answer| answer.json("settings"));

/// `DELETE /api/settings/mcp/{settings_key}`: removes an MCP server from the settings. A repeated
/// request returns 404.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoveMcpServer(String);

impl RemoveMcpServer {
    /// Creates a call for the MCP server with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(RemoveMcpServer => Settings, DELETE "/api/settings/mcp/{settings_key}", Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, at(&this.0)?));
    |answer| answer.json("settings"));

fn at(name: &str) -> Result<String> {
    named(ROUTE, "the name of the MCP server", name, "")
}
