//! The fields of a state that every server has, typed. A field of another shape reads as absent;
//! [`ConversationState::get`] has it as it came.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::ConversationState;
use crate::{Json, Text, hooks::HookConfig};

impl ConversationState {
    /// The agent's configuration; keys in it are masked.
    pub fn agent(&self) -> Option<&Json> {
        self.get("agent")
    }

    /// The agent's kind: `Agent` or `ACPAgent`.
    pub fn agent_kind(&self) -> Option<Text> {
        self.agent()?.get("kind")?.as_text()
    }

    /// The model that the agent uses, as its configuration names it.
    pub fn model(&self) -> Option<Text> {
        self.agent()?.get("llm")?.get("model")?.as_text()
    }

    /// The directory in which the agent works, on the server.
    pub fn working_dir(&self) -> Option<Text> {
        self.get("workspace")?.get("working_dir")?.as_text()
    }

    /// The title, once it has one. Only the description by REST has it: snapshots and changes
    /// leave it out.
    pub fn title(&self) -> Option<Text> {
        self.get("title")?.as_text()
    }

    /// The tags.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.typed("tags").unwrap_or_default()
    }

    /// The hooks that run on the server. Not known by REST before the first message.
    pub fn hook_config(&self) -> Option<HookConfig> {
        self.typed("hook_config")
    }

    /// Which actions await approval: `NeverConfirm`, `AlwaysConfirm`, `ConfirmRisky` or a newer
    /// kind.
    pub fn confirmation_policy(&self) -> Option<Text> {
        self.get("confirmation_policy")?.get("kind")?.as_text()
    }

    /// What judges the risk of actions: the analyzer's kind, if there is one.
    pub fn security_analyzer(&self) -> Option<Text> {
        self.get("security_analyzer")?.get("kind")?.as_text()
    }

    /// The names of the secrets that the agent may use; nobody is told their values.
    pub fn secret_names(&self) -> Vec<String> {
        let sources = self
            .get("secret_registry")
            .and_then(|registry| registry.get("secret_sources"));
        let sources: Option<BTreeMap<String, Json>> =
            sources.and_then(|sources| sources.decode().ok());
        sources.unwrap_or_default().into_keys().collect()
    }

    /// After how many steps a run ends in error.
    pub fn max_iterations(&self) -> Option<u64> {
        self.typed("max_iterations")
    }

    /// Whether a run that goes in circles ends as `stuck`.
    pub fn stuck_detection(&self) -> Option<bool> {
        self.typed("stuck_detection")
    }

    /// The skills that the conversation has made active by a word in it.
    pub fn activated_skills(&self) -> Vec<String> {
        self.typed("activated_knowledge_skills").unwrap_or_default()
    }

    /// The actions that hooks have blocked: id and reason.
    pub fn blocked_actions(&self) -> BTreeMap<String, String> {
        self.typed("blocked_actions").unwrap_or_default()
    }

    /// The messages that hooks have blocked: id and reason.
    pub fn blocked_messages(&self) -> BTreeMap<String, String> {
        self.typed("blocked_messages").unwrap_or_default()
    }

    /// Id of the newest message of a user.
    pub fn last_user_message_id(&self) -> Option<Text> {
        self.get("last_user_message_id")?.as_text()
    }

    /// Id of the event after which the next one comes. Only snapshots tell it.
    pub fn leaf_event_id(&self) -> Option<Text> {
        self.get("leaf_event_id")?.as_text()
    }

    /// Takes from another description what this one has no field for, such as the title, which
    /// snapshots leave out.
    pub fn complete(&mut self, other: &Self) {
        for (field, value) in &other.fields.0 {
            let missing = self.fields.get(field).is_none_or(Json::is_null);
            if missing || ONLY_DESCRIBED.contains(&field.as_str()) {
                self.fields.set(field, value.detached());
            }
        }
    }

    fn typed<T: DeserializeOwned>(&self, field: &str) -> Option<T> {
        serde_json::from_str(self.get(field)?.as_str()).ok()
    }
}

/// What no snapshot and no change tells: the description by REST alone.
const ONLY_DESCRIBED: [&str; 6] = [
    "title",
    "created_at",
    "updated_at",
    "metrics",
    "current_model_id",
    "sub_conversation_ids",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn state(json: &serde_json::Value) -> ConversationState {
        ConversationState::from_json(&Json::from(json)).unwrap()
    }

    #[test]
    fn fields_of_another_shape_read_as_absent() {
        let state = state(&serde_json::json!({
            "agent": 7, "workspace": [], "tags": {"a": 1}, "hook_config": "none",
            "secret_registry": {"secret_sources": []}, "max_iterations": "many", "title": null,
            "confirmation_policy": "Never", "blocked_actions": null,
        }));
        assert_eq!(
            (state.agent_kind(), state.model(), state.title()),
            (None, None, None)
        );
        assert_eq!((state.working_dir(), state.max_iterations()), (None, None));
        assert!(state.tags().is_empty() && state.secret_names().is_empty());
        assert!(state.hook_config().is_none() && state.confirmation_policy().is_none());
        assert!(state.blocked_actions().is_empty());
        assert_eq!(state.get("max_iterations").unwrap().as_str(), r#""many""#);
    }

    #[test]
    fn a_description_adds_what_snapshots_leave_out_and_overrules_nothing_else() {
        let mut told = state(&serde_json::json!({"execution_status": "running", "title": "old"}));
        told.complete(&state(&serde_json::json!({
            "execution_status": "idle", "title": "new", "parent_conversation_id": "p",
        })));
        assert_eq!(told.execution_status().as_str(), "running");
        assert_eq!(told.title().as_deref(), Some("new"));
        assert!(told.get("parent_conversation_id").is_some());
    }
}
