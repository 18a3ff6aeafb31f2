//! Whether a conversation was made or found, and how what was found differs from what was asked
//! for. Knows no server; it compares two descriptions.

use std::fmt;

use oh_protocol::{config::StartConversation, state::ConversationInfo};
use serde_json::Value;

/// How a handle came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The conversation was made as it was asked for.
    Created,
    /// The server had a conversation of this id: it ignored what was asked for, the first message
    /// included. Where it can be told, here is what differs.
    Found(Vec<Difference>),
    /// It was there, and nothing else was asked for.
    Attached,
    /// It is a copy of another.
    Forked,
}

impl Origin {
    /// Whether the conversation was made for this handle.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Created | Self::Forked)
    }

    /// What differs in a conversation that was found; nothing for any other.
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Found(differences) => differences,
            _ => &[],
        }
    }
}

/// A field of a conversation that was found with another value than was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Difference {
    path: String,
}

impl Difference {
    /// The path to the field in the start request, such as `agent.llm.model`. Values are not
    /// told: there may be secrets among them.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// What the server does not tell of a conversation, or not as it was given.
const UNTOLD: [&str; 12] = [
    "agent_settings",
    "agent_profile_id",
    "agent_launch_additions",
    "conversation_id",
    "initial_message",
    "secrets",
    "secrets_encrypted",
    "worktree",
    "worktree_options",
    "workspace",
    "container",
    "conversation_runtime",
];

/// How a conversation differs from what was asked for. Only what the server tells is compared: not
/// secrets, nor what it fills in where nothing was asked for.
pub(super) fn differences(start: &StartConversation, found: &ConversationInfo) -> Vec<Difference> {
    let Ok(Value::Object(wanted)) = serde_json::to_value(start) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for (field, wanted) in &wanted {
        if UNTOLD.contains(&field.as_str()) {
            continue;
        }
        if let Some(found) = found.state().get(field) {
            compare(field, wanted, &found.to_value(), &mut paths);
        }
    }
    let directory = |value: &Value| value["working_dir"].as_str().map(str::to_owned);
    let told = found.state().get("workspace").map(|told| told.to_value());
    // A worktree has a directory of its own.
    if wanted
        .get("worktree")
        .is_none_or(|worktree| worktree != true)
        && let (Some(wanted), Some(told)) = (wanted.get("workspace").and_then(directory), told)
        && let Some(told) = directory(&told)
        && wanted.trim_end_matches('/') != told.trim_end_matches('/')
        && wanted.starts_with('/')
    {
        paths.push("workspace.working_dir".into());
    }
    paths.into_iter().map(|path| Difference { path }).collect()
}

fn compare(path: &str, wanted: &Value, found: &Value, paths: &mut Vec<String>) {
    match (wanted, found) {
        (_, Value::Null) if untold(path) => {}
        (_, Value::String(mask)) if mask == "**********" => {}
        (Value::Object(wanted), Value::Object(found)) => {
            for (field, wanted) in wanted {
                match found.get(field) {
                    Some(found) => compare(&format!("{path}.{field}"), wanted, found, paths),
                    // The server leaves out what is null or empty.
                    None if wanted.is_null() => {}
                    None => paths.push(format!("{path}.{field}")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}[{index}]"), wanted, found, paths);
            }
        }
        (Value::Number(wanted), Value::Number(found)) if wanted.as_f64() == found.as_f64() => {}
        (wanted, found) if wanted == found => {}
        _ => paths.push(path.to_owned()),
    }
}

/// Whether a null may stand for a value: of a secret, or of hooks before the first message.
fn untold(path: &str) -> bool {
    let mut parts = path.rsplit('.');
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let secret = [
        "key",
        "secret",
        "token",
        "password",
        "authorization",
        "value",
    ];
    let within = ["env", "headers", "extra_headers", "secrets"];
    path == "hook_config"
        || secret.iter().any(|word| name.contains(word))
        || parts.any(|part| within.contains(&part))
}

#[cfg(test)]
mod tests {
    use oh_protocol::config::{Agent, Llm};
    use serde_json::json;

    use super::*;

    fn found(start: &StartConversation, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut info = serde_json::to_value(start).unwrap();
        info["id"] = start.id().to_string().into();
        info["agent"]["llm"]["api_key"] = Value::Null;
        change(&mut info);
        let info = ConversationInfo::from_json(info.to_string().as_bytes()).unwrap();
        let differences = differences(start, &info);
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_differs_is_told_by_its_path_and_the_rest_is_not() {
        let agent = Agent::default_preset(Llm::new("m").api_key("canary").temperature(1.0));
        let start = StartConversation::new(agent, "/w")
            .tag("a", "1")
            .max_iterations(7)
            .secret("TOKEN", "canary");
        assert!(found(&start, |_| ()).is_empty());
        let same = found(&start, |info| {
            info["agent"]["llm"]["temperature"] = json!(1);
            info["agent"]["llm"]["filled_in"] = json!(true);
            info["workspace"]["working_dir"] = "/w/".into();
            info["hook_config"] = Value::Null;
        });
        assert!(same.is_empty(), "{same:?}");
        let other = found(&start, |info| {
            info["agent"]["llm"]["model"] = "n".into();
            info["agent"]["llm"]["temperature"] = Value::Null;
            info["agent"]["tools"].as_array_mut().unwrap().pop();
            info["tags"] = json!({});
            info["max_iterations"] = 500.into();
            info["workspace"]["working_dir"] = "/v".into();
        });
        assert_eq!(
            other,
            [
                "agent.llm.model",
                "agent.llm.temperature",
                "agent.tools",
                "max_iterations",
                "tags.a",
                "workspace.working_dir"
            ]
        );
    }
}
