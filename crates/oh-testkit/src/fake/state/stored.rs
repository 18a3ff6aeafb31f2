//! The settings, secrets, model profiles and agent profiles of a server.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub(crate) const MASK: &str = "**********";

/// Settings, secrets and profiles of one server.
pub(crate) struct Stored {
    pub(crate) agent: Value,
    pub(crate) conversation: Value,
    pub(crate) misc: Value,
    pub(crate) active_profile: Option<String>,
    pub(crate) secrets: BTreeMap<String, (String, Option<String>)>,
    pub(crate) profiles: BTreeMap<String, Value>,
    pub(crate) connections: Vec<Value>,
    /// The agent profiles, by name.
    pub(crate) agents: BTreeMap<String, Value>,
    /// The meta-profiles, by name.
    pub(crate) meta_profiles: BTreeMap<String, Value>,
    pub(crate) active_meta_profile: Option<String>,
    /// The saved workspaces, and their parents.
    pub(crate) workspaces: Vec<Value>,
    pub(crate) parents: Vec<Value>,
    /// The id of the active agent profile.
    pub(crate) active_agent: Option<String>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            agent: json!({
                "agent_kind": "openhands",
                "llm": {"model": "gpt-5.5", "api_key": null},
                "mcp_config": {},
            }),
            conversation: json!({"max_iterations": 500}),
            misc: json!({}),
            active_profile: None,
            secrets: BTreeMap::new(),
            profiles: BTreeMap::new(),
            connections: Vec::new(),
            agents: BTreeMap::new(),
            active_agent: None,
            meta_profiles: BTreeMap::new(),
            active_meta_profile: None,
            workspaces: Vec::new(),
            parents: Vec::new(),
        }
    }
}

impl Stored {
    pub(crate) fn profile(&self, name: &str) -> Option<&Value> {
        self.profiles.get(name)
    }

    /// Returns the agent profile with this id.
    pub(crate) fn agent_by_id(&self, id: &str) -> Option<&Value> {
        self.agents.values().find(|profile| profile["id"] == *id)
    }

    /// Returns whether a model has a key, or refers to a connection.
    pub(crate) fn key_set(&self, config: &Value) -> bool {
        let own = config["api_key"]
            .as_str()
            .is_some_and(|key| !key.is_empty());
        own || config["provider_connection_id"].is_string() && !self.is_broken(config)
    }

    /// Returns whether a model refers to a connection that does not exist.
    pub(crate) fn is_broken(&self, config: &Value) -> bool {
        let id = &config["provider_connection_id"];
        id.is_string() && !self.connections.iter().any(|known| known["id"] == *id)
    }

    pub(crate) fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains_key(name)
    }

    pub(crate) fn settings(&self, expose: Expose) -> Value {
        let key = &self.agent["llm"]["api_key"];
        json!({
            "agent_settings": shown(&self.agent, expose),
            "conversation_settings": self.conversation,
            "llm_api_key_is_set": key.as_str().is_some_and(|key| !key.is_empty()),
            "active_profile": self.active_profile,
            "active_agent_profile_id": self.active_agent,
            "active_meta_profile": self.active_meta_profile,
            "misc_settings": self.misc,
        })
    }
}

/// Merges objects recursively. A null value removes its field.
pub(crate) fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(into) = into else {
        return;
    };
    for (name, value) in change {
        match value {
            Value::Null => {
                into.remove(name);
            }
            Value::Object(_) => merge(into.entry(name).or_insert(Value::Null), value),
            value => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expose {
    Masked,
    Encrypted,
    Plain,
}

/// Returns a value with its secrets masked, encrypted or in plain text.
pub(crate) fn shown(value: &Value, expose: Expose) -> Value {
    let mut value = value.clone();
    if expose != Expose::Plain {
        mask(&mut value, expose);
    }
    value
}

fn mask(value: &mut Value, expose: Expose) {
    let Value::Object(fields) = value else {
        return;
    };
    for (name, value) in fields {
        let secret = name.ends_with("api_key") || name.ends_with("secret_access_key");
        // All values in these maps are secret, and the credentials of an MCP server.
        let map = matches!(name.as_str(), "env" | "headers");
        let auth = name == "auth";
        if let (true, Value::Object(secrets)) = (map || auth, &mut *value) {
            let open = ["strategy", "header_name", "username"];
            let secrets = secrets.iter_mut();
            for (_, value) in secrets.filter(|(name, _)| map || !open.contains(&name.as_str())) {
                if value.is_string() {
                    *value = hidden(expose).into();
                }
            }
        }
        match value {
            Value::String(text) if secret => {
                *text = hidden(expose).to_owned();
            }
            value => mask(value, expose),
        }
    }
}

/// Returns what is shown instead of a secret.
fn hidden(expose: Expose) -> &'static str {
    match expose {
        // Cannot be decrypted. Clients may rely on nothing else.
        Expose::Encrypted => "gAAAA-encrypted-by-the-fake-server",
        _ => MASK,
    }
}
