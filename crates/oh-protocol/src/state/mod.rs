//! What the server says of a conversation as a whole.

mod fields;
mod goal;
mod stats;

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

pub use goal::{GoalState, GoalStatus, GoalVerdict};
pub use stats::{Cost, Metrics, ResponseLatency, Stats, TokenUsage};

use crate::{
    ConversationId, Error, Json, Result, Text,
    event::{ConversationStateUpdateEvent, text},
    open_enum::open_enum,
    scan::Flaw,
    wire,
};

open_enum! {
    /// What a conversation is doing, in the server's own words (`execution_status`).
    ExecutionStatus {
        /// Ready for a message or a run.
        Idle = "idle",
        /// A run is under way.
        Running = "running",
        /// Paused by someone; a run continues it.
        Paused = "paused",
        /// An action awaits approval.
        WaitingForConfirmation = "waiting_for_confirmation",
        /// The agent declared itself done. A Stop hook may still turn this into `running`.
        Finished = "finished",
        /// A run failed; it can be run again.
        Error = "error",
        /// The stuck detector ended the run.
        Stuck = "stuck",
        /// The conversation is being deleted (webhooks only).
        Deleting = "deleting",
    }
}

impl ExecutionStatus {
    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

/// The state of a conversation: every field as the server last said it, typed where it is read.
///
/// Fields nobody knew when this was written are kept under [`get`](Self::get).
#[derive(Clone, Default, PartialEq)]
pub struct ConversationState {
    fields: BTreeMap<Text, Json>,
}

/// Shows the status and which fields there are. A snapshot is large, and not for logs.
impl fmt::Debug for ConversationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationState")
            .field("execution_status", &self.execution_status())
            .field("fields", &self.fields.keys())
            .finish()
    }
}

impl ConversationState {
    /// Reads an object of fields.
    pub(crate) fn from_json(json: &Json) -> Result<Self, Flaw> {
        let mut fields: BTreeMap<Text, Json> = wire::decode(json.text())?;
        for value in fields.values_mut() {
            *value = value.detached();
        }
        Ok(Self { fields })
    }

    /// Applies an update: a snapshot overwrites the fields it has, a single key just that one.
    pub fn apply(&mut self, update: &ConversationStateUpdateEvent) {
        if update.is_full_state() {
            // A snapshot that is no object says nothing.
            if let Ok(Self { fields }) = Self::from_json(&update.value) {
                self.fields.extend(fields);
            }
        } else {
            let key = Text::from(update.key.as_str());
            self.fields.insert(key, update.value.detached());
        }
    }

    /// What the conversation is doing; `idle` before anything is known.
    pub fn execution_status(&self) -> ExecutionStatus {
        self.fields
            .get("execution_status")
            .and_then(Json::as_text)
            .map_or(ExecutionStatus::Idle, |status| status.as_str().into())
    }

    /// Cost, tokens and latencies.
    pub fn stats(&self) -> Stats {
        self.fields
            .get("stats")
            .and_then(|stats| wire::decode(stats.text()).ok())
            .unwrap_or_default()
    }

    /// The last goal, where there was one since this program has been told of the state: a
    /// snapshot does not hold it.
    pub fn goal(&self) -> Option<GoalStatus> {
        wire::decode(self.fields.get("goal")?.text()).ok()
    }

    /// Any field, as the server wrote it.
    pub fn get(&self, field: &str) -> Option<&Json> {
        self.fields.get(field)
    }
}

/// A conversation as `GET /api/conversations/{conversation_id}` describes it.
#[derive(Debug, Clone)]
pub struct ConversationInfo {
    id: ConversationId,
    state: ConversationState,
}

impl ConversationInfo {
    /// Reads the server's description.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object with an `id`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let json = Bytes::copy_from_slice(json);
        let json = Json::from(text(json, "conversation")?);
        let state = ConversationState::from_json(&json)
            .map_err(|flaw| Error::decode("conversation", flaw))?;
        let id = state.get("id").and_then(Json::as_text);
        let id = id.and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| Error::decode("conversation", "no `id` that is a UUID"))?;
        Ok(Self { id, state })
    }

    /// Its id.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Its title, once it has one.
    pub fn title(&self) -> Option<Text> {
        self.state.get("title").and_then(Json::as_text)
    }

    /// What it is doing. Lags up to a step behind the sockets.
    pub fn execution_status(&self) -> ExecutionStatus {
        self.state.execution_status()
    }

    /// All of its fields.
    pub fn state(&self) -> &ConversationState {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Payload};

    fn update(key: &str, value: &serde_json::Value) -> ConversationStateUpdateEvent {
        let json = serde_json::json!({
            "kind": "ConversationStateUpdateEvent", "id": "1", "key": key, "value": value,
        });
        match Event::from_json(json.to_string()).unwrap().payload() {
            Payload::ConversationStateUpdate(update) => (**update).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_overwrites_what_it_names_and_keeps_the_rest() {
        let mut state = ConversationState::default();
        state.apply(&update("tags", &serde_json::json!({"a": "1"})));
        state.apply(&update(
            "full_state",
            &serde_json::json!({"execution_status": "running", "new": 7}),
        ));
        state.apply(&update("execution_status", &"paused".into()));
        assert_eq!(state.execution_status(), ExecutionStatus::Paused);
        assert_eq!(state.get("tags").unwrap().as_str(), r#"{"a":"1"}"#);
        assert_eq!(state.get("new").unwrap().as_str(), "7");
    }

    #[test]
    fn an_unknown_status_is_kept_as_text() {
        let mut state = ConversationState::default();
        state.apply(&update("execution_status", &"dreaming".into()));
        assert_eq!(state.execution_status().as_str(), "dreaming");
    }

    #[test]
    fn a_model_s_headers_are_in_no_debug_text() {
        let agent =
            serde_json::json!({"llm": {"model": "m", "extra_headers": {"x-key": "canary"}}});
        let whole = update(
            "full_state",
            &serde_json::json!({"agent": agent, "execution_status": "idle"}),
        );
        let field = update("agent", &agent);
        let mut state = ConversationState::default();
        for update in [whole, field] {
            state.apply(&update);
            let shown = format!(
                "{update:?} {:?} {:?} {state:?}",
                update.change(),
                state.get("agent")
            );
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("execution_status: Idle"), "{shown}");
        }
    }
}
