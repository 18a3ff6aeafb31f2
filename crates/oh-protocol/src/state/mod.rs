//! The state of a conversation.

mod fields;
mod goal;
mod stats;

use std::{cmp::Ordering, fmt};

use bytes::Bytes;

pub use goal::{GoalState, GoalStatus, GoalVerdict};
pub use stats::{Cost, Metrics, ResponseLatency, Stats, TokenUsage};

use crate::{
    ConversationId, Error, Json, Result, Text,
    json::{
        open_enum::open_enum,
        scan::{Flaw, Stop},
        text::{detached, text},
        wire::{self, Reader, Wire},
    },
};

open_enum! {
    /// The activity of a conversation (`execution_status` on the server).
    ExecutionStatus {
        /// Ready for a message or a run.
        Idle = "idle",
        /// A run is in progress.
        Running = "running",
        /// Paused. A new run continues the work.
        Paused = "paused",
        /// An action waits for approval.
        WaitingForConfirmation = "waiting_for_confirmation",
        /// The agent finished its work. A Stop hook may still change this to `running`.
        Finished = "finished",
        /// A run failed. The conversation can be run again.
        Error = "error",
        /// The stuck detector ended the run.
        Stuck = "stuck",
        /// The conversation is being deleted (webhooks only).
        Deleting = "deleting",
    }
}

impl ExecutionStatus {
    /// Returns whether a run is in progress.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

/// The state of a conversation: the latest value of every field, decoded on access.
///
/// Fields that this version does not support are available with [`get`](Self::get).
#[derive(Clone, Default, PartialEq)]
pub struct ConversationState {
    fields: Fields,
}

/// Names and values, sorted by name. The values of a snapshot share its bytes, so a state from one
/// snapshot needs little more memory than the snapshot's JSON.
#[derive(Clone, Default, PartialEq)]
struct Fields(Vec<(Text, Json)>);

impl Wire for Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let mut fields = Vec::new();
        let mut more = reader.scanner.object()?;
        while more {
            fields.push((reader.name()?, Json::read(reader)?));
            more = reader.scanner.more_members()?;
        }
        // For a duplicate name, the last value is used, as usual in JSON.
        fields.reverse();
        fields.sort_by(by_name);
        fields.dedup_by(|one, other| one.0 == other.0);
        fields.shrink_to_fit();
        Ok(Self(fields))
    }
}

fn by_name(one: &(Text, Json), other: &(Text, Json)) -> Ordering {
    one.0.cmp(&other.0)
}

impl Fields {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    fn get(&self, name: &str) -> Option<&Json> {
        let place = self.place(name).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Json) {
        match self.place(name) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (name.into(), value)),
        }
    }

    fn take(&mut self, snapshot: Self) {
        let mut left = std::mem::replace(self, snapshot).0;
        left.retain(|(name, _)| self.place(name).is_err());
        if left.is_empty() {
            return;
        }
        // Detach old fields, which would otherwise keep the whole older snapshot in memory.
        self.0.append(&mut detached(&left));
        self.0.sort_by(by_name);
        self.0.shrink_to_fit();
    }
}

/// Shows the status and the field names only: a snapshot is too large for logs.
impl fmt::Debug for ConversationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationState")
            .field("execution_status", &self.execution_status())
            .field("fields", &Names(&self.fields))
            .finish()
    }
}

struct Names<'a>(&'a Fields);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl ConversationState {
    /// Decodes an object of fields, which share its bytes.
    pub(crate) fn from_json(json: &Json) -> Result<Self, Flaw> {
        wire::decode(json.text())
    }

    /// Replaces the fields with those of a snapshot, and keeps the fields that the snapshot omits.
    pub(crate) fn take(&mut self, snapshot: &Self) {
        self.fields.take(snapshot.fields.clone());
    }

    /// Replaces a field.
    pub(crate) fn set(&mut self, name: &str, value: Json) {
        self.fields.set(name, value);
    }

    /// Returns the execution status. Returns `Idle` if the field is missing.
    pub fn execution_status(&self) -> ExecutionStatus {
        self.fields
            .get("execution_status")
            .and_then(Json::as_text)
            .map_or(ExecutionStatus::Idle, |status| status.as_str().into())
    }

    /// Returns the cost, tokens and latencies.
    pub fn stats(&self) -> Stats {
        self.fields
            .get("stats")
            .and_then(|stats| wire::decode(stats.text()).ok())
            .unwrap_or_default()
    }

    /// Returns the last goal that was received in a state change. Snapshots do not contain goals.
    pub fn goal(&self) -> Option<GoalStatus> {
        wire::decode(self.fields.get("goal")?.text()).ok()
    }

    /// Returns the JSON of any field.
    pub fn get(&self, field: &str) -> Option<&Json> {
        self.fields.get(field)
    }
}

impl Wire for ConversationState {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        Fields::read(reader).map(|fields| Self { fields })
    }
}

const NO_ID: &str = "field `id` is missing or not a UUID";

/// A conversation as returned by `GET /api/conversations/{conversation_id}`.
///
/// Serializes to its fields, as the server sent them.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationInfo {
    id: ConversationId,
    state: ConversationState,
    flaw: Option<Box<str>>,
}

impl ConversationInfo {
    /// Decodes the server's description.
    ///
    /// # Errors
    ///
    /// Returns an error if `json` is not an object with a valid `id`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::of(None, json)
    }

    /// Decodes the description of a conversation. `asked` is the id in the request, if there was
    /// one.
    pub(crate) fn of(asked: Option<ConversationId>, json: &[u8]) -> Result<Self> {
        let read = || {
            let json = Bytes::copy_from_slice(json);
            let json = Json::new(Text::came(text(json, "a conversation")?));
            ConversationState::from_json(&json)
                .map_err(|flaw| Error::decode("a conversation", flaw))
        };
        let (state, flaw) = match (read(), asked) {
            (Ok(state), _) => (state, None),
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => (ConversationState::default(), Some(error.to_string().into())),
        };
        let id = state.get("id").and_then(Json::as_text);
        match (id.and_then(|id| id.parse().ok()), asked) {
            (Some(id), _) => Ok(Self { id, state, flaw }),
            (None, Some(id)) => Ok(Self {
                id,
                state,
                flaw: flaw.or_else(|| Some(NO_ID.into())),
            }),
            (None, None) => Err(Error::decode("a conversation", NO_ID)),
        }
    }

    /// Returns the error if the server's description could not be decoded. Some or all of the
    /// [`state`](Self::state) is missing in that case. Only batch requests return such
    /// descriptions, because the request contains the ids.
    pub fn flaw(&self) -> Option<&str> {
        self.flaw.as_deref()
    }

    /// Returns the id.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Returns the title, if the conversation already has one.
    pub fn title(&self) -> Option<Text> {
        self.state.get("title").and_then(Json::as_text)
    }

    /// Returns the execution status, which may be one step behind the sockets. Returns `unknown` if
    /// the description could not be decoded.
    pub fn execution_status(&self) -> ExecutionStatus {
        match self.flaw {
            Some(_) if self.state.get("execution_status").is_none() => "unknown".into(),
            _ => self.state.execution_status(),
        }
    }

    /// Returns all fields of the conversation.
    pub fn state(&self) -> &ConversationState {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{Event, Payload, event::ConversationStateUpdateEvent};

    fn update(key: &str, value: &Value) -> ConversationStateUpdateEvent {
        let json = serde_json::json!({
            "kind": "ConversationStateUpdateEvent", "id": "1", "key": key, "value": value,
        });
        match Event::from_json(json.to_string()).unwrap().payload() {
            Payload::ConversationStateUpdate(update) => (**update).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_overwrites_its_fields_and_keeps_the_rest() {
        let mut state = ConversationState::default();
        for update in [
            update("tags", &serde_json::json!({"a": "1"})),
            update(
                "full_state",
                &serde_json::json!({"execution_status": "running", "new": 7}),
            ),
            update("execution_status", &"paused".into()),
        ] {
            state.apply(&update).unwrap();
        }
        assert_eq!(state.execution_status(), ExecutionStatus::Paused);
        assert_eq!(state.get("tags").unwrap().as_str(), r#"{"a":"1"}"#);
        assert_eq!(state.get("new").unwrap().as_str(), "7");
    }

    #[test]
    fn remaining_fields_of_an_older_snapshot_do_not_keep_its_memory() {
        let mut state = ConversationState::default();
        for value in [
            serde_json::json!({"a": [1], "b": 2}),
            serde_json::json!({"c": 3, "b": 4}),
        ] {
            state.apply(&update("full_state", &value)).unwrap();
        }
        let fields: Vec<_> = state.fields.0.iter().collect();
        let shown = fields.iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(shown.collect::<Vec<_>>(), ["a=[1]", "b=4", "c=3"]);
        let whole = |text: &Text| std::sync::Arc::as_ptr(&text.located().0);
        let (name, value) = &fields[0];
        let newest = whole(fields[2].1.text());
        // Name and value share bytes that contain nothing else.
        assert!(whole(name) != newest && whole(value.text()) == whole(name));
        assert_eq!(name.located().0.all(), "a[1]");
        assert_eq!([whole(&fields[1].0), whole(&fields[2].0)], [newest; 2]);
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let json = Json::new(Text::from(r#"{"b":1,"a":2,"b":3,"\u0062":4}"#));
        let state = ConversationState::from_json(&json).unwrap();
        assert_eq!(state.fields.0.len(), 2);
        assert_eq!(state.get("b").unwrap().as_str(), "4");
    }

    #[test]
    fn a_snapshot_that_is_not_an_object_is_an_error_and_changes_nothing() {
        let mut state = ConversationState::default();
        let running = update("execution_status", &"running".into());
        state.apply(&running).unwrap();
        let before = state.clone();
        for value in [
            serde_json::json!([1]),
            "secret".into(),
            7.into(),
            Value::Null,
        ] {
            let broken = update("full_state", &value);
            let error = state.apply(&broken).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Decode);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
            assert_eq!(state, before);
        }
    }

    #[test]
    fn an_undecodable_field_is_kept_unchanged() {
        let mut state = ConversationState::default();
        let odd = update("stats", &serde_json::json!([7]));
        state.apply(&odd).unwrap();
        assert!(odd.change.malformed().is_some());
        assert_eq!(state.get("stats").unwrap().as_str(), "[7]");
        assert_eq!(state.stats(), Stats::default());
    }

    #[test]
    fn an_error_names_the_missing_id_of_a_description() {
        for (json, lacks) in [
            ("{}", "field `id` is missing or not a UUID"),
            (r#"{"id":"first"}"#, "field `id` is missing or not a UUID"),
            (r#"{"id":7}"#, "field `id` is missing or not a UUID"),
            ("[]", "expected an object at byte 0"),
        ] {
            let error = ConversationInfo::from_json(json.as_bytes()).unwrap_err();
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.to_string(), lacks, "{json}");
        }
    }

    #[test]
    fn an_unknown_status_is_kept_as_text() {
        let mut state = ConversationState::default();
        let dreaming = update("execution_status", &"dreaming".into());
        state.apply(&dreaming).unwrap();
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
            state.apply(&update).unwrap();
            let shown = format!(
                "{update:?} {:?} {:?} {state:?}",
                update.change,
                state.get("agent")
            );
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("execution_status: Idle"), "{shown}");
        }
    }
}
