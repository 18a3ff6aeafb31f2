//! The actions of a conversation that have no result. Each event is decoded at most once, on
//! demand.

use std::borrow::Cow;

use bytes::Bytes;
use oh_protocol::event::SecurityRisk;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// An action without a result.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) action_id: String,
    pub(crate) tool: String,
    pub(crate) call_id: String,
    /// The fields of the action.
    pub(crate) arguments: Value,
    /// The risk that the model claims.
    pub(crate) risk: SecurityRisk,
}

/// The actions without a result on the active branch of a log.
#[derive(Default)]
pub(crate) struct Unanswered {
    actions: Vec<Pending>,
    /// The number of processed events.
    looked_at: usize,
    /// Whether the head moved to another branch, so that the collected actions are outdated.
    moved: bool,
}

impl Unanswered {
    /// Records that the head moved to another event.
    pub(crate) fn head_moved(&mut self) {
        self.moved = true;
    }

    /// Returns whether the whole branch has to be processed again.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved
    }

    /// Returns the position of the first unprocessed event.
    pub(crate) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Starts again with the events of a branch, in a log of this length.
    pub(crate) fn restart(&mut self, branch: &[Bytes], length: usize) {
        *self = Self {
            actions: of(branch),
            looked_at: length,
            moved: false,
        };
    }

    /// Processes the next events, up to a log of this length.
    pub(crate) fn go_on(&mut self, events: &[Bytes], length: usize) -> &[Pending] {
        for event in events {
            look(&mut self.actions, event);
        }
        self.looked_at = length;
        &self.actions
    }
}

/// Returns the actions among these events that have no result among them.
pub(crate) fn of(events: &[Bytes]) -> Vec<Pending> {
    let mut actions = Vec::new();
    for event in events {
        look(&mut actions, event);
    }
    actions
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    tool_name: Cow<'a, str>,
    #[serde(borrow, default)]
    tool_call_id: Cow<'a, str>,
    #[serde(borrow, default)]
    action_id: Cow<'a, str>,
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    security_risk: Cow<'a, str>,
}

fn look(actions: &mut Vec<Pending>, event: &[u8]) {
    let Ok(head) = serde_json::from_slice::<Head<'_>>(event) else {
        return;
    };
    match &*head.kind {
        // An invalid call has no action and does not wait.
        "ActionEvent" => {
            let action = head.action.map(|raw| serde_json::from_str(raw.get()));
            let Some(Ok(Value::Object(mut arguments))) = action else {
                return;
            };
            arguments.remove("kind");
            actions.push(Pending {
                action_id: head.id.into_owned(),
                tool: head.tool_name.into_owned(),
                call_id: head.tool_call_id.into_owned(),
                arguments: Value::Object(arguments),
                risk: SecurityRisk::from(&*head.security_risk),
            });
        }
        "ObservationEvent" | "UserRejectObservation" => {
            actions.retain(|action| action.action_id != head.action_id);
        }
        "AgentErrorEvent" => actions.retain(|action| action.call_id != head.tool_call_id),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(events: &[&str]) -> Vec<Bytes> {
        let events = events.iter();
        events
            .map(|event| Bytes::from((*event).to_owned()))
            .collect()
    }

    fn ids(actions: &[Pending]) -> Vec<&str> {
        actions.iter().map(|a| a.action_id.as_str()).collect()
    }

    #[test]
    fn observations_answer_by_action_and_errors_by_call() {
        let log = events(&[
            r#"{"kind":"ActionEvent","id":"a","tool_name":"t","tool_call_id":"1","action":{}}"#,
            r#"{"kind":"ActionEvent","id":"b","tool_name":"t","tool_call_id":"2","action":{}}"#,
            r#"{"kind":"ActionEvent","id":"c","tool_name":"t","tool_call_id":"3","action":{"x":1}}"#,
            r#"{"kind":"ActionEvent","id":"invalid","tool_name":"t","tool_call_id":"4"}"#,
            "not an event",
            r#"{"kind":"ObservationEvent","action_id":"a","tool_call_id":"none"}"#,
            r#"{"kind":"AgentErrorEvent","tool_call_id":"2"}"#,
        ]);
        let found = of(&log);
        assert_eq!(ids(&found), ["c"]);
        assert_eq!(found[0].arguments["x"], 1);
    }

    #[test]
    fn later_events_are_examined_separately() {
        let log = events(&[
            r#"{"kind":"ActionEvent","id":"a","tool_call_id":"1","action":{}}"#,
            r#"{"kind":"ActionEvent","id":"b","tool_call_id":"2","action":{}}"#,
            r#"{"kind":"UserRejectObservation","action_id":"a"}"#,
        ]);
        let mut unanswered = Unanswered::default();
        assert_eq!(ids(unanswered.go_on(&log[..2], 2)), ["a", "b"]);
        assert_eq!(unanswered.looked_at(), 2);
        assert_eq!(ids(unanswered.go_on(&log[2..], 3)), ["b"]);
        unanswered.head_moved();
        assert!(unanswered.has_moved());
        unanswered.restart(&log[..1], 3);
        assert_eq!(ids(unanswered.go_on(&[], 3)), ["a"]);
    }
}
