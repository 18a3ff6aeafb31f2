//! The actions in a log that have no answer yet, updated event by event. Contains no I/O.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use oh_protocol::{Event, Payload, Source};

use crate::{
    lock::lock,
    mirror::{
        head::{Head, STATE_UPDATE},
        log::Log,
    },
};

/// Facts about the part of a log that has been processed.
#[derive(Default)]
pub(crate) struct Lineage(Mutex<Seen>);

/// The open actions of a log with one branch.
#[derive(Debug)]
pub(crate) struct Open {
    /// Actions without an answer, in order.
    pub(crate) actions: Vec<Event>,
    /// Whether no earlier action can be open.
    pub(crate) complete: bool,
}

#[derive(Default)]
struct Seen {
    /// Index of the first event that was processed, and of the first that was not.
    first: usize,
    next: usize,
    responses: Responses,
    /// Id of the last event that belongs to a branch.
    last: Option<Box<str>>,
    /// Whether the parent of any event is not the event before it.
    branched: bool,
    open: Unanswered,
}

impl Lineage {
    /// Returns the open actions, if the log has only one branch and `head` is its last event.
    pub(crate) fn open(&self, log: &Log, head: &Head) -> Option<Open> {
        let mut seen = lock(&self.0);
        if log.start() > seen.next {
            // Events were removed before they were processed.
            let first = log.start();
            *seen = Seen {
                first,
                next: first,
                ..Seen::default()
            };
        }
        for event in log.range(seen.next..log.end()) {
            seen.add(event);
        }
        seen.next = seen.next.max(log.end());
        let at_end = match head {
            Head::Event(id) => seen.last.as_deref() == Some(id),
            Head::Start => seen.last.is_none(),
            Head::Last => true,
        };
        (at_end && !seen.branched).then(|| Open {
            actions: seen.open.actions().cloned().collect(),
            complete: seen.first == 0 || seen.responses.are_two(),
        })
    }

    /// Returns the open actions of a branch.
    pub(crate) fn open_in(branch: &[Event]) -> Open {
        let mut seen = Seen::default();
        branch.iter().for_each(|event| seen.add(event));
        Open {
            actions: seen.open.actions().cloned().collect(),
            complete: seen.responses.are_two(),
        }
    }
}

/// The model's responses in a part of a log.
///
/// The agent calls its model only when every action has an answer. So an action that is open
/// belongs to the last response, and a part with two responses has all of the last one.
#[derive(Default)]
struct Responses {
    first: Option<Box<str>>,
    two: bool,
}

impl Responses {
    fn add(&mut self, id: Option<&str>) {
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return;
        };
        match &self.first {
            None => self.first = Some(id.into()),
            Some(first) => self.two |= **first != *id,
        }
    }

    fn are_two(&self) -> bool {
        self.two
    }
}

impl Seen {
    fn add(&mut self, event: &Event) {
        if event.kind() == STATE_UPDATE {
            return;
        }
        if let Some(parent) = event.parent_id() {
            self.branched |= self.last.as_deref().is_some_and(|last| last != parent);
        }
        self.last = Some(event.id().into());
        match event.kind() {
            "ActionEvent" | "ObservationEvent" | "UserRejectObservation" | "AgentErrorEvent" => {}
            "MessageEvent" if !self.responses.two && *event.source() == Source::Agent => {}
            _ => return,
        }
        // Decoded without caching: most of these events are never used again.
        match event.decode() {
            Payload::Message(body) => self.responses.add(body.llm_response_id.as_deref()),
            Payload::Action(body) => {
                self.responses.add(body.llm_response_id.as_deref());
                if body.action.is_some() {
                    self.open.add(event, Some(&body.tool_call_id));
                }
            }
            Payload::Observation(body) => self.open.remove(&body.action_id),
            Payload::UserReject(body) => self.open.remove(&body.action_id),
            Payload::AgentError(body) => self.open.remove_call(&body.tool_call_id),
            // An action that this version cannot decode may be valid for the server.
            Payload::Malformed(_) if event.kind() == "ActionEvent" => self.open.add(event, None),
            _ => {}
        }
    }
}

/// Actions without an answer. Finds an action by its id or by its call in constant time, because a
/// log may have thousands of them.
#[derive(Default)]
struct Unanswered {
    /// The actions with the ids of their calls, by the order in which they were added.
    actions: BTreeMap<usize, (Event, Option<Box<str>>)>,
    added: usize,
    by_id: HashMap<Box<str>, usize>,
    by_call: HashMap<Box<str>, Vec<usize>>,
}

impl Unanswered {
    /// Returns the actions in order.
    fn actions(&self) -> impl Iterator<Item = &Event> {
        self.actions.values().map(|(event, _)| event)
    }

    fn add(&mut self, event: &Event, call: Option<&str>) {
        let number = self.added;
        self.added += 1;
        self.by_id.insert(event.id().into(), number);
        if let Some(call) = call {
            self.by_call.entry(call.into()).or_default().push(number);
        }
        let call = call.map(Box::from);
        self.actions.insert(number, (event.clone(), call));
    }

    /// Removes the action with an id.
    fn remove(&mut self, id: &str) {
        let Some(number) = self.by_id.remove(id) else {
            return;
        };
        let Some((_, Some(call))) = self.actions.remove(&number) else {
            return;
        };
        if let Some(numbers) = self.by_call.get_mut(&call) {
            numbers.retain(|it| *it != number);
            if numbers.is_empty() {
                self.by_call.remove(&call);
            }
        }
    }

    /// Removes the actions of a call.
    fn remove_call(&mut self, call: &str) {
        for number in self.by_call.remove(call).unwrap_or_default() {
            if let Some((event, _)) = self.actions.remove(&number) {
                self.by_id.remove(event.id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mirror::log::Appender;

    fn event(id: &str, kind: &str, fields: &Value) -> Event {
        let mut event = json!({"kind": kind, "id": id, "source": "agent"});
        let fields = fields.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(fields);
        Event::from_json(event.to_string()).unwrap()
    }

    fn action(id: &str, parent: &str) -> Event {
        let fields = json!({"parent_id": parent, "tool_name": "terminal", "tool_call_id":
            format!("call-{id}"), "action": {"kind": "TerminalAction", "command": "ls"}});
        event(id, "ActionEvent", &fields)
    }

    fn at(id: &str) -> Head {
        Head::Event(id.to_owned())
    }

    fn ids(open: Option<Open>) -> Option<Vec<String>> {
        Some(
            open?
                .actions
                .iter()
                .map(|event| event.id().to_owned())
                .collect(),
        )
    }

    #[test]
    fn actions_stay_open_until_answered_by_id_or_call() {
        let (mut log, mut appender) = (Log::default(), Appender::default());
        let lineage = Lineage::default();
        let mut seq = 0;
        let mut add = |log: &mut Log, event: Event| {
            appender.append(log, seq, event);
            seq += 1;
        };
        assert_eq!(ids(lineage.open(&log, &Head::Start)), Some(vec![]));
        for (id, parent) in [("a", "__root__"), ("b", "a"), ("c", "b")] {
            add(&mut log, action(id, parent));
        }
        assert_eq!(ids(lineage.open(&log, &at("c"))).unwrap(), ["a", "b", "c"]);
        let answer = json!({"parent_id": "c", "tool_name": "t", "tool_call_id": "call-b",
            "action_id": "b", "rejection_reason": "no"});
        add(&mut log, event("d", "UserRejectObservation", &answer));
        let error =
            json!({"parent_id": "d", "tool_name": "t", "tool_call_id": "call-a", "error": "e"});
        add(&mut log, event("e", "AgentErrorEvent", &error));
        assert_eq!(ids(lineage.open(&log, &at("e"))).unwrap(), ["c"]);
    }

    #[test]
    fn an_error_ends_all_open_actions_of_its_call() {
        let call = |id: &str, call: &str| {
            let fields = json!({"tool_name": "terminal", "tool_call_id": call,
                "action": {"kind": "TerminalAction", "command": "ls"}});
            event(id, "ActionEvent", &fields)
        };
        let answered = json!({"tool_name": "t", "tool_call_id": "x", "action_id": "a",
            "rejection_reason": "no"});
        let failed = json!({"tool_name": "t", "tool_call_id": "x", "error": "e"});
        let log = [
            call("a", "x"),
            call("b", "y"),
            event("c", "UserRejectObservation", &answered),
            call("d", "x"),
            call("e", "x"),
            event("f", "AgentErrorEvent", &failed),
            call("g", "x"),
        ];
        let open = Lineage::open_in(&log).actions;
        let open: Vec<_> = open.iter().map(Event::id).collect();
        assert_eq!(open, ["b", "g"]);
    }

    #[test]
    fn a_log_with_branches_or_another_head_is_left_to_the_branch() {
        let (mut log, mut appender) = (Log::default(), Appender::default());
        let lineage = Lineage::default();
        appender.append(&mut log, 0, action("a", "__root__"));
        appender.append(&mut log, 1, action("b", "a"));
        assert_eq!(ids(lineage.open(&log, &at("a"))), None);
        appender.append(&mut log, 2, action("c", "a"));
        assert_eq!(ids(lineage.open(&log, &at("c"))), None);
        let branch = [action("a", "__root__"), action("c", "a")];
        assert_eq!(Lineage::open_in(&branch).actions.len(), 2);
    }
}
