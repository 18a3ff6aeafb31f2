//! The settings, secrets and model profiles of a server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) const MASK: &str = "**********";

/// Settings, secrets and profiles of one server.
pub(crate) struct Stored {
    pub(crate) agent: Value,
    pub(crate) conversation: Value,
    pub(crate) misc: Value,
    pub(crate) active_profile: Option<String>,
    pub(crate) secrets: BTreeMap<String, (String, Option<String>)>,
    pub(crate) profiles: BTreeMap<String, Value>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            agent: json!({"agent_kind": "openhands", "llm": {"model": "gpt-5.5", "api_key": null}, "mcp_config": {}}),
            conversation: json!({"max_iterations": 500}),
            misc: json!({}),
            active_profile: None,
            secrets: BTreeMap::new(),
            profiles: BTreeMap::new(),
        }
    }
}

impl Stored {
    pub(crate) fn profile(&self, name: &str) -> Option<&Value> {
        self.profiles.get(name)
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
            "active_agent_profile_id": null,
            "active_meta_profile": null,
            "misc_settings": self.misc,
        })
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
        match value {
            Value::String(text) if secret => {
                *text = match expose {
                    // Cannot be decrypted. Clients may rely on nothing else.
                    Expose::Encrypted => "gAAAA-encrypted-by-the-fake-server".to_owned(),
                    _ => MASK.to_owned(),
                };
            }
            value => mask(value, expose),
        }
    }
}
