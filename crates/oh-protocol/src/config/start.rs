//! The request that starts a conversation.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Agent;
use crate::{ConversationId, Error, Result, hooks::HookConfig};

/// Everything a conversation is started with (`StartConversationRequest` on the server).
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct StartConversation {
    conversation_id: ConversationId,
    agent: Agent,
    workspace: Workspace,
    autotitle: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_config: Option<HookConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_iterations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmation_policy: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize)]
struct Workspace {
    working_dir: String,
}

impl StartConversation {
    /// An agent in a directory of the server, under a fresh random id.
    ///
    /// The server makes the directory if need be, and a git repository in it if there is none.
    /// Its own titles are off: they cost a model call.
    pub fn new(agent: Agent, working_dir: impl Into<String>) -> Self {
        Self {
            conversation_id: ConversationId::random(),
            agent,
            workspace: Workspace {
                working_dir: working_dir.into(),
            },
            autotitle: false,
            hook_config: None,
            max_iterations: None,
            confirmation_policy: None,
            tags: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Uses this id. If the server has it already, everything else here is ignored.
    pub fn conversation_id(mut self, id: ConversationId) -> Self {
        self.conversation_id = id;
        self
    }

    /// Hooks to run on the server.
    pub fn hook_config(mut self, hooks: HookConfig) -> Self {
        self.hook_config = Some(hooks);
        self
    }

    /// After how many steps a run ends in error. Server's default: 500.
    pub fn max_iterations(mut self, steps: u32) -> Self {
        self.max_iterations = Some(steps);
        self
    }

    /// Asks for approval of every action before it runs.
    pub fn always_confirm(mut self) -> Self {
        self.confirmation_policy = Some(json!({ "kind": "AlwaysConfirm" }));
        self
    }

    /// A tag: key of `a-z` and `0-9`, value of at most 256 characters.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Any other field of the server's request, by its own name.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// The id it will have.
    pub fn id(&self) -> ConversationId {
        self.conversation_id
    }

    /// Checks the server's rules before anything travels.
    ///
    /// # Errors
    ///
    /// When the directory is empty, or a tag or a hook breaks its rules.
    pub fn check(&self) -> Result<()> {
        if self.workspace.working_dir.is_empty() {
            return Err(Error::invalid("a conversation needs a working directory"));
        }
        for (key, value) in &self.tags {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if key.is_empty() || !key.chars().all(fits) {
                return Err(Error::invalid(format!(
                    "tag `{key}`: a key is made of a-z and 0-9"
                )));
            }
            if value.chars().count() > 256 {
                return Err(Error::invalid(format!(
                    "tag `{key}`: a value has at most 256 characters"
                )));
            }
        }
        self.hook_config.as_ref().map_or(Ok(()), HookConfig::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Llm;

    fn start() -> StartConversation {
        StartConversation::new(Agent::new(Llm::new("m").api_key("canary")), "/w")
    }

    #[test]
    fn tags_outside_the_rules_are_refused_before_the_wire() {
        assert!(start().tag("ok9", "v").check().is_ok());
        for (key, value) in [
            ("Bad", "v".to_owned()),
            ("", "v".into()),
            ("long", "x".repeat(257)),
        ] {
            assert!(start().tag(key, value).check().is_err(), "{key}");
        }
    }

    #[test]
    fn the_key_is_in_the_wire_form_and_nowhere_else() {
        let start = start();
        assert!(serde_json::to_string(&start).unwrap().contains("canary"));
        assert!(!format!("{start:?}").contains("canary"));
    }
}
