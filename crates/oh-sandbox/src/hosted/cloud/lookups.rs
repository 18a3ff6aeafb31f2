//! The account's model, secrets and MCP servers, for the agent in a sandbox.

use std::time::Duration;

use oh_protocol::config::{Llm, McpServer, SecretSource};
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{
    Error, ErrorKind, Result,
    hosted::{
        cloud::api::{Cloud, segment},
        plane::Ask,
    },
};

/// A sandbox, with which the account's settings are requested.
#[derive(Clone)]
pub(crate) struct Lookups {
    pub(crate) cloud: Cloud,
    /// `None` if this process runs in a sandbox and its id is not known.
    pub(crate) sandbox_id: Option<String>,
    pub(crate) key: SecretString,
}

impl Lookups {
    /// Returns the model of the account, or one of its profiles.
    pub(crate) async fn llm(&self, profile: Option<&str>) -> Result<Llm> {
        let doing = "cannot get the model of the account";
        let user = self.user(doing, "?expose_secrets=true").await?;
        let mut fields = Map::new();
        match profile {
            Some(name) => {
                let found = &user["llm_profiles"]["profiles"][name];
                let Some(found) = found.as_object() else {
                    let message = format!("{doing}: it has no profile {name:?}");
                    return Err(Error::new(ErrorKind::NotFound, message));
                };
                fields.clone_from(found);
                fields.insert("usage_id".to_owned(), format!("profile:{name}").into());
            }
            None => {
                for name in ["model", "api_key", "base_url"] {
                    let value = user[format!("llm_{name}")].clone();
                    fields.insert(name.to_owned(), value);
                }
            }
        }
        fields.retain(|_, value| !matches!(value, Value::Null) && *value != "");
        if !fields.contains_key("model") {
            let message = format!("{doing}: it has none; choose a model in the Cloud's settings");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Llm::from_json(fields.into()).map_err(|error| unusable(doing, error))
    }

    /// Returns the secrets of the account as lookups: without values.
    pub(crate) async fn secrets(&self) -> Result<Vec<(String, SecretSource)>> {
        let doing = "cannot list the secrets of the sandbox";
        let id = self.id(doing)?;
        let base = format!("/api/v1/sandboxes/{id}/settings/secrets");
        let route = "/api/v1/sandboxes/{sandbox_id}/settings/secrets";
        let ask = Ask::get(route, base.clone()).session_key(&self.key);
        let answer = self.cloud.ask(doing, ask).await?;
        let Some(items) = answer["secrets"].as_array() else {
            return Err(self.cloud.plane().malformed(doing, "secrets"));
        };
        let sources = items.iter().map(|item| {
            let name = item["name"].as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| self.cloud.plane().malformed(doing, "name"))?;
            let url = format!("{}{base}/{}", self.cloud.url(), segment(name)?);
            let mut source = SecretSource::lookup(url);
            source = source.header("X-Session-API-Key", self.key.clone());
            if let Some(description) = item["description"].as_str() {
                source = source.description(description);
            }
            Ok((name.to_owned(), source))
        });
        sources.collect()
    }

    /// Returns the MCP servers of the account.
    pub(crate) async fn mcp_servers(&self) -> Result<Vec<(String, McpServer)>> {
        let doing = "cannot get the MCP servers of the account";
        let user = self.user(doing, "").await?;
        let servers = mcp_servers(&user["mcp_config"]);
        servers.map_err(|error| unusable(doing, error))
    }

    async fn user(&self, doing: &str, query: &str) -> Result<Value> {
        self.id(doing)?;
        let route = "/api/v1/users/me";
        let ask = Ask::get(route, format!("{route}{query}")).session_key(&self.key);
        self.cloud.ask(doing, ask).await
    }

    fn id(&self, doing: &str) -> Result<&str> {
        self.sandbox_id.as_deref().ok_or_else(|| {
            let message = format!("{doing}: the id of the sandbox is not known; set SANDBOX_ID");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

fn unusable(doing: &str, error: oh_protocol::Error) -> Error {
    let message = format!("{doing}: this crate does not support the Cloud's settings");
    Error::new(ErrorKind::Decode, message).with_source(error)
}

/// Converts the Cloud's lists of servers by their transport, or servers in the agent's own form.
fn mcp_servers(config: &Value) -> oh_protocol::Result<Vec<(String, McpServer)>> {
    const LISTS: [&str; 3] = ["sse_servers", "shttp_servers", "stdio_servers"];
    let text = |server: &Value, name: &str| server[name].as_str().unwrap_or_default().to_owned();
    let mut servers = Vec::new();
    for list in LISTS {
        let items = config[list].as_array().into_iter().flatten();
        for (index, item) in items.enumerate() {
            let url = text(item, "url");
            let mut name = format!("{}_{index}", list.trim_end_matches("_servers"));
            let mut server = match list {
                "sse_servers" => McpServer::sse(url),
                "shttp_servers" => McpServer::http(url),
                _ => {
                    name = text(item, "name");
                    let arguments = item["args"].as_array().into_iter().flatten();
                    let arguments = arguments.filter_map(Value::as_str);
                    let mut server = McpServer::stdio(text(item, "command")).args(arguments);
                    for (name, value) in item["env"].as_object().into_iter().flatten() {
                        server = server.env(name, value.as_str().unwrap_or_default());
                    }
                    server
                }
            };
            if let Some(key) = item["api_key"].as_str().filter(|key| !key.is_empty()) {
                server = server.header("Authorization", format!("Bearer {key}"));
            }
            let limit = item["timeout"].as_f64().filter(|_| list == "shttp_servers");
            if let Some(limit) = limit.and_then(|limit| Duration::try_from_secs_f64(limit).ok()) {
                server = server.timeout(limit);
            }
            server.check()?;
            servers.push((name, server));
        }
    }
    let own = config.get("mcpServers").unwrap_or(config);
    for (name, server) in own.as_object().into_iter().flatten() {
        if !LISTS.contains(&name.as_str()) && server.is_object() {
            servers.push((name.clone(), McpServer::from_json(server.clone())?));
        }
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lists_of_the_cloud_become_servers_of_the_agent() {
        let servers = mcp_servers(&json!({
            "sse_servers": [{"url": "https://a/sse", "api_key": "canary"}],
            "shttp_servers": [{"url": "https://b/mcp", "timeout": 7}],
            "stdio_servers": [{"name": "fetch", "command": "uvx", "args": ["x"],
                "env": {"TOKEN": "canary"}}],
        }));
        let servers = servers.unwrap();
        assert!(!format!("{servers:?}").contains("canary"));
        let json: Map<String, Value> = servers
            .into_iter()
            .map(|(name, server)| (name, serde_json::to_value(server).unwrap()))
            .collect();
        assert_eq!(
            json.keys().collect::<Vec<_>>(),
            ["fetch", "shttp_0", "sse_0"]
        );
        assert_eq!(json["sse_0"]["transport"], "sse");
        assert_eq!(json["sse_0"]["headers"]["Authorization"], "Bearer canary");
        assert_eq!(json["shttp_0"]["url"], "https://b/mcp");
        assert_eq!(json["shttp_0"]["timeout"].as_f64(), Some(7.0));
        assert_eq!(json["fetch"]["command"], "uvx");
        assert_eq!(json["fetch"]["env"]["TOKEN"], "canary");
    }

    #[test]
    fn servers_in_the_agent_s_own_form_are_kept() {
        for config in [
            json!({"mcpServers": {"a": {"url": "https://a/", "transport": "http"}}}),
            json!({"a": {"url": "https://a/", "transport": "http"}}),
        ] {
            let servers = mcp_servers(&config).unwrap();
            assert_eq!(servers[0].0, "a", "{config}");
        }
        assert!(mcp_servers(&Value::Null).unwrap().is_empty());
    }
}
