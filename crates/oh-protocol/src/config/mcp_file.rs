//! Parses MCP server files such as `.mcp.json` and converts them to the server's form. Contains no
//! file I/O.

use serde_json::{Map, Value};

use super::{
    fields::{Field, Fields},
    mcp::{McpAuth, McpServer},
};
use crate::{Error, Result};

/// The servers of a file such as `.mcp.json`, and the keys that have no meaning for an agent
/// server.
///
/// Editors use their own variants of the format, so some keys are renamed: `type` becomes
/// `transport`, `disabled` the opposite of `enabled`, and `serverUrl` and `httpUrl` become `url`.
/// Keys that only an editor supports, such as `autoApprove`, are skipped and listed by
/// [`ignored`](Self::ignored).
///
/// ```
/// use oh_protocol::config::{Agent, Llm, McpFile};
///
/// let file = McpFile::parse(r#"{"mcpServers": {
///     "search": {"type": "http", "url": "https://host/mcp"},
///     "notes": {"command": "notes", "disabled": true, "autoApprove": ["read"]}
/// }}"#)?;
/// assert_eq!(file.ignored(), ["mcpServers.notes.autoApprove"]);
/// let agent = Agent::new(Llm::new("m")).mcp_servers(file);
/// agent.check()?;
/// # Ok::<(), oh_protocol::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct McpFile {
    servers: Vec<(String, McpServer)>,
    ignored: Vec<String>,
}

impl McpFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not valid JSON. Otherwise returns the errors of
    /// [`from_json`](Self::from_json).
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let json = serde_json::from_str(text)
            .map_err(|error| Error::decode("a file of MCP servers", error))?;
        Self::from_json(json)
    }

    /// Parses the JSON of a file: the servers by name, under `mcpServers`, under `servers`, or at
    /// the top level.
    ///
    /// # Errors
    ///
    /// Returns an error if a server is not an object or has neither a command nor a URL, or if a
    /// field has the wrong type. The error contains the path, but not the value.
    pub fn from_json(json: Value) -> Result<Self> {
        let Value::Object(mut file) = json else {
            return Err(Error::invalid(
                "a file of MCP servers must be a JSON object",
            ));
        };
        let wrapper = ["mcpServers", "servers"].into_iter().find(|key| {
            let servers = file.get(*key);
            servers.is_some_and(|servers| servers.is_null() || only_objects(servers))
        });
        let mut ignored = Vec::new();
        let (prefix, servers) = match wrapper {
            Some(wrapper) => {
                let servers = file.remove(wrapper).unwrap_or_default();
                ignored.extend(file.into_iter().map(|(key, _)| key));
                (format!("{wrapper}."), servers)
            }
            None => {
                if let Some(servers) = file.get("mcpServers") {
                    return Err(not_servers("mcpServers", servers));
                }
                // A schema URL or a comment describes the file and is not a server.
                let about = |key: &str, value: &Value| key.starts_with('$') && value.is_string();
                let mut servers = Map::new();
                for (key, value) in file {
                    match about(&key, &value) {
                        true => ignored.push(key),
                        false => _ = servers.insert(key, value),
                    }
                }
                (String::new(), Value::Object(servers))
            }
        };
        let servers = match servers {
            Value::Object(servers) => servers,
            _ => Map::new(),
        };
        let read = servers.into_iter().map(|(name, server)| {
            let path = format!("{prefix}{name}");
            let server = read(&path, server, &mut ignored)?;
            Ok((name, server))
        });
        let servers = read.collect::<Result<_>>()?;
        Ok(Self { servers, ignored })
    }

    /// Returns the servers, sorted by name.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &McpServer)> {
        self.servers.iter().map(|(name, server)| (&**name, server))
    }

    /// Returns the paths of the keys that were skipped, such as `mcpServers.notes.autoApprove`,
    /// because an agent server has no equivalent.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

impl IntoIterator for McpFile {
    type Item = (String, McpServer);
    type IntoIter = std::vec::IntoIter<(String, McpServer)>;

    fn into_iter(self) -> Self::IntoIter {
        self.servers.into_iter()
    }
}

fn only_objects(value: &Value) -> bool {
    let objects = |servers: &Map<String, Value>| servers.values().all(Value::is_object);
    value.as_object().is_some_and(objects)
}

fn not_servers(path: &str, value: &Value) -> Error {
    let odd = value.as_object().and_then(|servers| {
        let mut odd = servers.iter().filter(|(_, server)| !server.is_object());
        odd.next().map(|(name, _)| format!("{path}.{name}"))
    });
    let path = odd.unwrap_or_else(|| path.to_owned());
    Error::invalid(format!("{path}: must be an object"))
}

fn read(path: &str, server: Value, ignored: &mut Vec<String>) -> Result<McpServer> {
    let Value::Object(server) = server else {
        return Err(Error::invalid(format!("{path}: must be an object")));
    };
    let must = |key: &str, what: &str| Error::invalid(format!("{path}.{key}: must be {what}"));
    let mut fields = Fields::of("McpServer");
    let mut enabled = None;
    let has_transport = server
        .get("transport")
        .is_some_and(|value| !value.is_null());
    let has_url = server.get("url").is_some_and(|value| !value.is_null());
    for (key, value) in server {
        if value.is_null() {
            continue;
        }
        match &*key {
            "transport" | "type" => {
                let text = value.as_str().ok_or_else(|| must(&key, "a string"))?;
                if key == "transport" || !has_transport {
                    fields.put("transport", Field::plain(transport(text)));
                }
            }
            "url" | "serverUrl" | "httpUrl" => {
                let text = value.as_str().filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| must(&key, "a URL"))?;
                if key == "url" || !has_url {
                    fields.put("url", Field::endpoint(text));
                }
                if key == "httpUrl" && !has_transport && !has_url {
                    fields.put("transport", Field::plain("http"));
                }
            }
            "disabled" | "enabled" => {
                let switch = value.as_bool().ok_or_else(|| must(&key, "true or false"))?;
                let on = switch == (key == "enabled");
                enabled = Some(enabled.unwrap_or(true) && on);
            }
            "command" | "cwd" | "description" | "icon" => {
                let text = value.as_str().ok_or_else(|| must(&key, "a string"))?;
                if key == "command" && text.is_empty() {
                    return Err(must(&key, "the program to run"));
                }
                fields.put(key, text.to_owned());
            }
            "args" => {
                let Value::Array(items) = value else {
                    return Err(must(&key, "a list of strings"));
                };
                let items = items.into_iter().map(scalar).collect::<Option<Vec<_>>>();
                let items = items.ok_or_else(|| must(&key, "a list of strings"))?;
                fields.put(key, Field::hidden(items.into()));
            }
            "env" | "headers" => {
                let Value::Object(entries) = value else {
                    return Err(must(&key, "an object with string values"));
                };
                let name = if key == "env" { "env" } else { "headers" };
                for (entry, value) in entries {
                    if value.is_null() {
                        ignored.push(format!("{path}.{key}.{entry}"));
                        continue;
                    }
                    let value = scalar(value);
                    let value = value.ok_or_else(|| must(&format!("{key}.{entry}"), "a string"))?;
                    fields.insert(name, entry, Field::secret(value));
                }
            }
            "timeout" | "sse_read_timeout" => {
                let seconds = value
                    .as_f64()
                    .ok_or_else(|| must(&key, "a number of seconds"))?;
                fields.put(key, Field::present(seconds));
            }
            "keep_alive" => {
                let switch = value.as_bool().ok_or_else(|| must(&key, "true or false"))?;
                fields.put(key, Field::plain(switch));
            }
            "auth" => {
                let auth = match value {
                    Value::String(text) if text == "oauth" => McpAuth::oauth().into(),
                    Value::String(token) => McpAuth::bearer(token).into(),
                    object @ Value::Object(_) => Field::hidden(object),
                    _ => return Err(must(&key, "an object")),
                };
                fields.put(key, auth);
            }
            _ => ignored.push(format!("{path}.{key}")),
        }
    }
    if fields.get("command").is_none() && fields.get("url").is_none() {
        return Err(Error::invalid(format!(
            "{path}: must have a `command` or a `url`"
        )));
    }
    if enabled == Some(false) {
        fields.put("enabled", Field::plain(false));
    }
    fields
        .check()
        .map_err(|error| Error::invalid(format!("{path}.{}", error.context())))?;
    Ok(McpServer::of(fields))
}

/// Returns the server's name for a transport.
fn transport(name: &str) -> &str {
    match name {
        "shttp" | "streamableHttp" | "streamable_http" | "http-stream" | "remote" => "http",
        "local" => "stdio",
        name => name,
    }
}

/// Converts a string, a number or a boolean to a string.
fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Agent, Llm};

    fn wire(file: Value) -> Value {
        let agent = Agent::new(Llm::new("m")).mcp_servers(McpFile::from_json(file).unwrap());
        agent.check().unwrap();
        serde_json::to_value(agent).unwrap()["mcp_config"].take()
    }

    #[test]
    fn a_common_file_is_converted_to_the_servers_form() {
        let file = json!({"mcpServers": {
            "quince": {"type": "http", "url": "http://127.0.0.1:9/mcp"},
            "plum": {"command": "true", "args": ["--stdio", 1], "disabled": true,
                "autoApprove": ["x"]},
        }});
        let read = McpFile::from_json(file.clone()).unwrap();
        assert_eq!(read.ignored(), ["mcpServers.plum.autoApprove"]);
        assert_eq!(read.servers().count(), 2);
        assert_eq!(
            wire(file),
            json!({
                "quince": {"transport": "http", "url": "http://127.0.0.1:9/mcp"},
                "plum": {"command": "true", "args": ["--stdio", "1"], "enabled": false},
            })
        );
    }

    #[test]
    fn names_used_by_editors_are_converted() {
        for (server, wanted) in [
            (
                json!({"type": "shttp", "url": "u"}),
                json!({"transport": "http", "url": "u"}),
            ),
            (
                json!({"type": "streamable-http", "url": "u"}),
                json!({"transport": "streamable-http", "url": "u"}),
            ),
            (
                json!({"type": "sse", "transport": "http", "url": "u"}),
                json!({"transport": "http", "url": "u"}),
            ),
            (json!({"serverUrl": "u"}), json!({"url": "u"})),
            (
                json!({"httpUrl": "u"}),
                json!({"transport": "http", "url": "u"}),
            ),
            (
                json!({"command": "c", "disabled": false}),
                json!({"command": "c"}),
            ),
            (
                json!({"command": "c", "enabled": true, "disabled": true}),
                json!({"command": "c", "enabled": false}),
            ),
            (
                json!({"command": "c", "env": {"A": 1, "B": true}}),
                json!({"command": "c", "env": {"A": "1", "B": "true"}}),
            ),
            (
                json!({"url": "u", "auth": "oauth"}),
                json!({"url": "u", "auth": {"strategy": "oauth2"}}),
            ),
            (json!({"url": "u", "headers": null}), json!({"url": "u"})),
        ] {
            assert_eq!(
                wire(json!({"mcpServers": {"s": server}})),
                json!({"s": wanted})
            );
        }
    }

    #[test]
    fn every_form_of_the_file_is_read_and_every_ignored_key_is_named() {
        let server = json!({"command": "c", "alwaysAllow": [], "envFile": ".env"});
        for (file, ignored) in [
            (
                json!({"mcpServers": {"s": server}, "$schema": "x", "inputs": []}),
                "$schema inputs mcpServers.s.alwaysAllow mcpServers.s.envFile",
            ),
            (
                json!({"servers": {"s": server}, "inputs": []}),
                "inputs servers.s.alwaysAllow servers.s.envFile",
            ),
            (
                json!({"s": server, "$schema": "x"}),
                "$schema s.alwaysAllow s.envFile",
            ),
        ] {
            let read = McpFile::from_json(file).unwrap();
            assert_eq!(read.ignored().join(" "), ignored);
            assert_eq!(read.servers().next().unwrap().0, "s");
        }
        assert_eq!(
            McpFile::parse("\u{feff}{\"mcpServers\": null}")
                .unwrap()
                .servers()
                .count(),
            0
        );
    }

    #[test]
    fn errors_name_the_path_and_hide_the_value() {
        for (file, says) in [
            (json!([]), "must be a JSON object"),
            (json!({"mcpServers": []}), "mcpServers: must be an object"),
            (
                json!({"mcpServers": {"s": "canary"}}),
                "mcpServers.s: must be an object",
            ),
            (json!({"s": "canary"}), "s: must be an object"),
            (
                json!({"mcpServers": {"s": {"args": ["canary"]}}}),
                "mcpServers.s: must have a `command` or a `url`",
            ),
            (
                json!({"mcpServers": {"s": {"command": ["canary"]}}}),
                "mcpServers.s.command: must be a string",
            ),
            (
                json!({"mcpServers": {"s": {"command": "c", "env": {"A": ["canary"]}}}}),
                "mcpServers.s.env.A: must be a string",
            ),
            (
                json!({"mcpServers": {"s": {"command": "c", "disabled": "canary"}}}),
                "mcpServers.s.disabled: must be true or false",
            ),
            (
                json!({"mcpServers": {"s": {"command": "c", "env": {"A": "**********"}}}}),
                "mcpServers.s.env.A: the server's mask",
            ),
        ] {
            let error = McpFile::from_json(file).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("canary"), "{error}");
        }
        assert!(McpFile::parse("{").unwrap_err().to_string().contains("EOF"));
    }

    #[test]
    fn no_secret_of_a_file_is_shown() {
        let file = json!({"mcpServers": {
            "a": {"command": "c", "args": ["canary"], "env": {"A": "canary"}},
            "b": {"url": "https://u:canary@h/canary?canary", "headers": {"X": "canary"},
                "auth": "canary"},
        }});
        let shown = format!("{:?}", McpFile::from_json(file).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
