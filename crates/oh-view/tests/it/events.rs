//! Recorded events, and events that tests write.

use std::{collections::BTreeMap, fs, path::Path};

use oh_protocol::{Event, Payload};
use serde_json::{Value, json};

fn lines(name: &str) -> Vec<Event> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oh-protocol/fixtures/1.58.2");
    let text = fs::read_to_string(fixtures.join(name)).unwrap();
    let lines = text
        .lines()
        .map(|line| Event::from_json(line.to_owned()).unwrap());
    lines.collect()
}

/// Returns the events of a recorded conversation.
pub(crate) fn conversation() -> Vec<Event> {
    lines("conversation.jsonl")
}

/// Returns an event of each kind, by kind; of actions, observations and state changes one of each
/// kind. Recorded in a conversation, or else built by the server's own classes.
pub(crate) fn of_each_kind() -> BTreeMap<String, Event> {
    let mut kinds = BTreeMap::new();
    for event in conversation().into_iter().chain(lines("modelled.jsonl")) {
        let kind = match event.payload() {
            Payload::Action(body) => {
                let action = body
                    .action
                    .as_ref()
                    .map_or("invalid", |action| action.kind());
                format!("ActionEvent {action}")
            }
            Payload::Observation(body) => {
                format!("ObservationEvent {}", body.observation.kind())
            }
            Payload::ConversationStateUpdate(body) => {
                format!("ConversationStateUpdateEvent {}", body.key)
            }
            Payload::Message(_) => format!("MessageEvent {}", event.source()),
            Payload::HookExecution(body) => format!("HookExecutionEvent {}", body.blocked),
            _ => event.kind().to_owned(),
        };
        kinds.entry(kind).or_insert(event);
    }
    kinds
}

/// Returns an event with this body.
pub(crate) fn event(source: &str, kind: &str, body: Value) -> Event {
    let mut event = json!({
        "id": "e", "timestamp": "2026-01-02T03:04:05", "source": source, "kind": kind,
    });
    if let (Value::Object(event), Value::Object(body)) = (&mut event, body) {
        event.extend(body);
    }
    Event::from_json(event.to_string()).unwrap()
}

/// Returns a message.
pub(crate) fn message(source: &str, role: &str, text: &str) -> Event {
    let content = json!([{"type": "text", "text": text}]);
    event(
        source,
        "MessageEvent",
        json!({"llm_message": {"role": role, "content": content}}),
    )
}

/// Returns an action of a tool.
pub(crate) fn action(tool: &str, action: Value) -> Event {
    let body = json!({"tool_name": tool, "tool_call_id": "c", "action": action,
        "llm_response_id": "r"});
    event("agent", "ActionEvent", body)
}

/// Returns the totals of a conversation, as a socket reports them.
pub(crate) fn stats(prompt: u64, cost: f64) -> Event {
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": 20});
    let metrics = json!({"accumulated_cost": cost, "accumulated_token_usage": usage});
    let value = json!({"usage_to_metrics": {"default": metrics}});
    event(
        "environment",
        "ConversationStateUpdateEvent",
        json!({"key": "stats", "value": value}),
    )
}
