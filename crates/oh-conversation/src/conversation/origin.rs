//! Whether a conversation was created or found, and how a found one differs from the request.
//! Contains no I/O.

use std::fmt;

use oh_protocol::{config::StartConversation, state::ConversationInfo};
use serde_json::Value;

/// Where the conversation of a handle came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The conversation was created as requested.
    Created,
    /// The server already had a conversation with this id, and ignored the request, including the
    /// first message. Contains the differences that can be detected.
    ///
    /// Also if this program set the id, created the conversation, and the connection failed before
    /// the response: the repeated request finds the conversation. A generated id is never found.
    Found(Vec<Difference>),
    /// The conversation existed and was attached to, without a start request.
    Attached,
    /// The conversation is a copy of another one.
    Forked,
}

impl Origin {
    /// Returns whether the conversation was created for this handle.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Created | Self::Forked)
    }

    /// Returns the differences of a found conversation; empty for any other.
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Found(differences) => differences,
            _ => &[],
        }
    }
}

/// A field whose value in a found conversation differs from the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Difference {
    path: String,
}

impl Difference {
    /// Returns the path of the field in the start request, such as `agent.llm.model`. Values are
    /// not included, because they may be secrets.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Fields that the server does not return, or returns in another form than they were sent.
const NOT_RETURNED: [&str; 12] = [
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

/// Compares a conversation with the request. Only fields that the server returns are compared,
/// without secrets and without fields that the request leaves to the server.
pub(crate) fn differences(start: &StartConversation, found: &ConversationInfo) -> Vec<Difference> {
    let Ok(Value::Object(wanted)) = serde_json::to_value(start) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for (field, wanted) in &wanted {
        if NOT_RETURNED.contains(&field.as_str()) {
            continue;
        }
        if let Some(found) = found.state().get(field) {
            compare(field, wanted, &found.to_value(), &mut paths);
        }
    }
    let directory = |value: &Value| value["working_dir"].as_str().map(str::to_owned);
    let returned = found
        .state()
        .get("workspace")
        .map(|returned| returned.to_value());
    // A worktree has its own directory.
    if wanted
        .get("worktree")
        .is_none_or(|worktree| worktree != true)
        && let (Some(wanted), Some(returned)) =
            (wanted.get("workspace").and_then(directory), returned)
        && let Some(returned) = directory(&returned)
        && wanted.trim_end_matches('/') != returned.trim_end_matches('/')
        && wanted.starts_with('/')
    {
        paths.push("workspace.working_dir".into());
    }
    paths.into_iter().map(|path| Difference { path }).collect()
}

fn compare(path: &str, wanted: &Value, found: &Value, paths: &mut Vec<String>) {
    match (wanted, found) {
        (_, Value::Null) if may_be_null(path) => {}
        (_, Value::String(mask)) if mask == "**********" => {}
        (Value::Object(wanted), Value::Object(found)) => {
            for (field, wanted) in wanted {
                match found.get(field) {
                    Some(found) => compare(&format!("{path}.{field}"), wanted, found, paths),
                    // The server omits null and empty values.
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

/// Returns whether the server may return null for a value: for a secret, or for hooks before the
/// first message.
fn may_be_null(path: &str) -> bool {
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
    fn only_paths_of_different_values_are_reported() {
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
