//! Typed accessors for the state fields that every server sends. A field of an unexpected type is
//! treated as absent; [`ConversationState::get`] returns its JSON.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap,
};

use super::{ConversationInfo, ConversationState};
use crate::{Json, Text, hooks::HookConfig, json::declare::deserialize};

/// Serializes to one object with all fields, each as the server sent it.
impl Serialize for ConversationState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.0.len()))?;
        for (name, value) in self.fields() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

deserialize!(ConversationState);

impl Serialize for ConversationInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ConversationInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json(json.as_str().as_bytes()).map_err(serde::de::Error::custom)
    }
}

impl ConversationState {
    /// Returns every field with its value as the server sent it, sorted by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Json)> {
        let fields = self.fields.0.iter();
        fields.map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the agent's configuration, with masked keys.
    pub fn agent(&self) -> Option<&Json> {
        self.get("agent")
    }

    /// Returns the kind of the agent: `Agent` or `ACPAgent`.
    pub fn agent_kind(&self) -> Option<Text> {
        self.agent()?.get("kind")?.as_text()
    }

    /// Returns the name of the agent's model, as in its configuration.
    pub fn model(&self) -> Option<Text> {
        self.agent()?.get("llm")?.get("model")?.as_text()
    }

    /// Returns the agent's working directory on the server.
    pub fn working_dir(&self) -> Option<Text> {
        self.get("workspace")?.get("working_dir")?.as_text()
    }

    /// Returns the title, if the conversation already has one. Only the description from the REST
    /// API contains the title; snapshots and changes omit it.
    pub fn title(&self) -> Option<Text> {
        self.get("title")?.as_text()
    }

    /// Returns the tags.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.typed("tags").unwrap_or_default()
    }

    /// Returns the hooks that the server runs. The REST API omits the hooks before the first
    /// message.
    pub fn hook_config(&self) -> Option<HookConfig> {
        self.typed("hook_config")
    }

    /// Returns the kind of the confirmation policy: `NeverConfirm`, `AlwaysConfirm`, `ConfirmRisky`
    /// or a newer kind.
    pub fn confirmation_policy(&self) -> Option<Text> {
        self.get("confirmation_policy")?.get("kind")?.as_text()
    }

    /// Returns whether the confirmation policy may ask for approval of an action: any policy except
    /// `NeverConfirm`. Whether `ConfirmRisky` asks depends on the risk of the action, which a
    /// [security analyzer](Self::security_analyzer) determines.
    pub fn may_ask_for_confirmation(&self) -> bool {
        let policy = self.confirmation_policy();
        policy.is_some_and(|kind| kind != "NeverConfirm")
    }

    /// Returns the kind of the security analyzer, if there is one.
    pub fn security_analyzer(&self) -> Option<Text> {
        self.get("security_analyzer")?.get("kind")?.as_text()
    }

    /// Returns the names of the secrets that the agent may use. The server never returns their
    /// values.
    pub fn secret_names(&self) -> Vec<String> {
        let sources = self
            .get("secret_registry")
            .and_then(|registry| registry.get("secret_sources"));
        let sources: Option<BTreeMap<String, Json>> =
            sources.and_then(|sources| sources.decode().ok());
        sources.unwrap_or_default().into_keys().collect()
    }

    /// Returns the maximum number of steps of a run. After that number, the run fails.
    pub fn max_iterations(&self) -> Option<u64> {
        self.typed("max_iterations")
    }

    /// Returns whether a run that repeats itself ends with the status `stuck`.
    pub fn stuck_detection(&self) -> Option<bool> {
        self.typed("stuck_detection")
    }

    /// Returns the skills that were activated by a keyword in the conversation.
    pub fn activated_skills(&self) -> Vec<String> {
        self.typed("activated_knowledge_skills").unwrap_or_default()
    }

    /// Returns the skills that the agent invoked with its tool for skills, in the order of their
    /// first use.
    pub fn invoked_skills(&self) -> Vec<String> {
        self.typed("invoked_skills").unwrap_or_default()
    }

    /// Returns the actions that hooks blocked: the reason for each one, by id.
    pub fn blocked_actions(&self) -> BTreeMap<String, String> {
        self.typed("blocked_actions").unwrap_or_default()
    }

    /// Returns the messages that hooks blocked: the reason for each one, by id.
    pub fn blocked_messages(&self) -> BTreeMap<String, String> {
        self.typed("blocked_messages").unwrap_or_default()
    }

    /// Returns the id of the newest user message.
    pub fn last_user_message_id(&self) -> Option<Text> {
        self.get("last_user_message_id")?.as_text()
    }

    /// Returns the id of the last event in the current branch. The next event is added after that
    /// event. Only snapshots contain the id.
    pub fn leaf_event_id(&self) -> Option<Text> {
        self.get("leaf_event_id")?.as_text()
    }

    /// Adds missing fields from `other`, such as the title, which snapshots omit. Always replaces
    /// the fields that only the REST API returns.
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

/// The fields that only the REST API returns; snapshots and changes omit them.
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
    fn fields_of_another_shape_count_as_absent() {
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
    fn all_fields_are_listed_and_written_unchanged() {
        let json = serde_json::json!({
            "execution_status": "idle", "newer": {"deep": [1, null]}, "title": "T",
        });
        let state = state(&json);
        let names: Vec<_> = state.fields().map(|(name, _)| name).collect();
        assert_eq!(names, ["execution_status", "newer", "title"]);
        assert_eq!(serde_json::to_value(&state).unwrap(), json);
        let again = ConversationState::from_json(&Json::from(&json)).unwrap();
        assert_eq!(again, state);
        let none = serde_json::to_string(&ConversationState::default()).unwrap();
        assert_eq!(none, "{}");
    }

    #[test]
    fn a_state_names_its_analyzer_its_skills_and_its_hooks() {
        let hook = serde_json::json!({"pre_tool_use": [
            {"matcher": "terminal", "hooks": [{"command": "./guard"}]}]});
        let fields = serde_json::json!({
            "security_analyzer": {"kind": "LLMSecurityAnalyzer"},
            "activated_knowledge_skills": ["a", "b"],
            "invoked_skills": ["c"],
            "hook_config": hook,
            "secret_registry": {"secret_sources": {
                "TOKEN": {"kind": "StaticSecret", "value": "**********"},
                "KEY": {"kind": "LookupSecret", "url": "/api/settings/secrets/KEY"},
            }},
        });
        let read = state(&fields);
        assert_eq!(
            read.security_analyzer().as_deref(),
            Some("LLMSecurityAnalyzer")
        );
        assert_eq!(read.activated_skills(), ["a", "b"]);
        assert_eq!(read.invoked_skills(), ["c"]);
        assert_eq!(read.secret_names(), ["KEY", "TOKEN"]);
        let hooks = serde_json::to_value(read.hook_config().unwrap()).unwrap();
        assert_eq!(hooks["pre_tool_use"][0]["hooks"][0]["command"], "./guard");
        let none = serde_json::json!({"security_analyzer": null, "activated_knowledge_skills": 7});
        let none = state(&none);
        assert_eq!(none.security_analyzer(), None);
        assert!(none.activated_skills().is_empty() && none.invoked_skills().is_empty());
    }

    #[test]
    fn every_policy_except_never_may_ask() {
        for (policy, asks) in [
            (serde_json::json!({"kind": "NeverConfirm"}), false),
            (serde_json::json!({"kind": "AlwaysConfirm"}), true),
            (serde_json::json!({"kind": "ConfirmRisky"}), true),
            (serde_json::json!({"kind": "Newer"}), true),
            (serde_json::json!(null), false),
        ] {
            let state = state(&serde_json::json!({"confirmation_policy": policy}));
            assert_eq!(state.may_ask_for_confirmation(), asks, "{policy}");
        }
        assert!(!ConversationState::default().may_ask_for_confirmation());
    }

    #[test]
    fn a_description_adds_only_fields_that_snapshots_omit() {
        let mut merged = state(&serde_json::json!({"execution_status": "running", "title": "old"}));
        merged.complete(&state(&serde_json::json!({
            "execution_status": "idle", "title": "new", "parent_conversation_id": "p",
        })));
        assert_eq!(merged.execution_status().as_str(), "running");
        assert_eq!(merged.title().as_deref(), Some("new"));
        assert!(merged.get("parent_conversation_id").is_some());
    }
}
