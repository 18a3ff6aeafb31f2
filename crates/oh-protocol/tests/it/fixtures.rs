//! Tests with recorded server data: it is decoded without loss, and deliberate damage does not
//! cause a panic.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use oh_protocol::{
    Event, Payload, SessionFrame,
    event::{
        Action, ActionEvent, MessageEvent, Observation, ObservationEvent, StateChange,
        TerminalAction,
    },
};
use serde_json::{Value, json};

fn lines(name: &str) -> Vec<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"));
    let mut all = Vec::new();
    for version in fs::read_dir(root).unwrap() {
        let text = fs::read_to_string(version.unwrap().path().join(name)).unwrap();
        all.extend(text.lines().map(str::to_owned));
    }
    assert!(!all.is_empty(), "no fixtures in {name}");
    all
}

/// Returns all recorded events, from all sources, with their original bytes.
fn events() -> Vec<String> {
    let mut all = lines("modelled.jsonl");
    all.extend(lines("conversation.jsonl"));
    all.extend(lines("legacy_frames.jsonl"));
    for frame in lines("session_frames.jsonl") {
        let event = match SessionFrame::from_json(frame).unwrap() {
            SessionFrame::Durable { event, .. } | SessionFrame::Transient { event } => event,
            _ => continue,
        };
        all.push(event.as_json().to_owned());
    }
    all
}

#[test]
fn every_event_keeps_its_bytes_and_its_header() {
    for line in events() {
        let event = Event::from_json(line.clone()).unwrap();
        assert_eq!(event.as_json(), line);
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
        let again: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(again.raw(), event.raw());
        let tree: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event.kind(), tree["kind"]);
        assert_eq!(event.id(), tree["id"]);
        assert_eq!(event.timestamp(), tree["timestamp"]);
        assert_eq!(event.source().as_str(), tree["source"]);
        assert_eq!(event.parent_id(), tree["parent_id"].as_str());
    }
}

#[test]
fn every_type_of_frame_is_recorded_and_carries_its_event_unchanged() {
    let mut types = BTreeSet::new();
    for line in lines("session_frames.jsonl") {
        let tree: Value = serde_json::from_str(&line).unwrap();
        match SessionFrame::from_json(line.clone()).unwrap() {
            SessionFrame::Durable { seq, event } => {
                assert_eq!(seq, tree["seq"]);
                assert!(line.contains(&format!("\"event\":{}", event.as_json())));
                assert_eq!(event.id(), tree["event"]["id"]);
                assert_eq!(event.kind(), tree["event"]["kind"]);
            }
            SessionFrame::Unknown { .. } => panic!("{line}"),
            SessionFrame::Error { code, detail, .. } => {
                assert_eq!(
                    (&*code, &*detail),
                    (
                        tree["code"].as_str().unwrap(),
                        tree["detail"].as_str().unwrap()
                    )
                );
                assert!(!code.is_empty() && !detail.is_empty());
            }
            _ => {}
        }
        types.insert(tree["type"].as_str().unwrap().to_owned());
    }
    let all = [
        "delta",
        "durable",
        "error",
        "item_aborted",
        "item_started",
        "sync",
        "transient",
    ];
    assert!(types.iter().eq(all), "{types:?}");
}

#[test]
fn every_kind_of_the_server_has_a_type_and_is_decoded() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in events() {
        let event = Event::from_json(line.clone()).unwrap();
        let inner = match event.payload() {
            Payload::Unknown => panic!("no type for {line}"),
            Payload::Action(body) => body.action.as_ref().map(|action| {
                assert!(!matches!(action, Action::Unknown(_)), "no type for {line}");
                action.kind().to_owned()
            }),
            Payload::Observation(body) => {
                assert!(
                    !matches!(body.observation, Observation::Unknown(_)),
                    "no type for {line}"
                );
                Some(body.observation.kind().to_owned())
            }
            _ => None,
        };
        if let Some(malformed) = event.malformed() {
            panic!("{malformed}: {line}");
        }
        for kind in [Some(event.kind().to_owned()), inner].into_iter().flatten() {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let known = Payload::KINDS
        .iter()
        .chain(Action::KINDS)
        .chain(Observation::KINDS);
    let missing: Vec<_> = known.filter(|kind| !kinds.contains_key(**kind)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
}

/// Collects the paths of all values inside an event.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                found.push(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate().take(2) {
                paths(value, &format!("{path}/{at}"), found);
            }
        }
        _ => {}
    }
}

/// Decodes damaged data, and checks that the bytes are kept and nothing panics.
fn survives(tree: &Value) -> Option<Event> {
    let line = tree.to_string();
    let event = Event::from_json(line.clone()).ok()?;
    assert_eq!(event.as_json(), line);
    _ = event.payload();
    _ = event.to_string();
    Some(event)
}

/// Returns one event of each shape, which is enough for these tests.
fn shapes() -> Vec<Value> {
    let mut seen = BTreeMap::new();
    for line in events() {
        let tree: Value = serde_json::from_str(&line).unwrap();
        let inner = [&tree["action"]["kind"], &tree["observation"]["kind"]];
        let shape = format!("{} {inner:?} {}", tree["kind"], tree["key"]);
        seen.entry(shape).or_insert(tree);
    }
    seen.into_values().collect()
}

#[test]
fn pitfall_17_a_new_field_anywhere_changes_nothing() {
    for tree in shapes() {
        let before = format!(
            "{:?}",
            Event::from_json(tree.to_string()).unwrap().payload()
        );
        let mut places = vec![String::new()];
        paths(&tree, "", &mut places);
        for place in places {
            let mut broken = tree.clone();
            // The members of this object are not fields but entries with event ids.
            if place == "/risks" {
                continue;
            }
            if let Some(Value::Object(members)) = broken.pointer_mut(&place) {
                members.insert("brand_new".into(), json!({"x": [1]}));
                let event = survives(&broken).unwrap();
                assert!(event.malformed().is_none(), "{place} of {tree}");
                if place.is_empty() {
                    let kept = format!("{:?}", event.payload()).clone();
                    assert_eq!(kept, before, "{tree}");
                }
            }
        }
    }
}

#[test]
fn broken_events_keep_their_bytes_and_never_panic() {
    let wrong = [
        Value::Null,
        json!(7),
        json!("brand_new"),
        json!([]),
        json!({}),
        json!(true),
    ];
    let (mut tried, mut reported) = (0, 0);
    for tree in shapes() {
        let mut places = Vec::new();
        paths(&tree, "", &mut places);
        for place in places {
            for value in &wrong {
                let mut broken = tree.clone();
                *broken.pointer_mut(&place).unwrap() = value.clone();
                let header = ["/kind", "/id"].contains(&place.as_str());
                let event = survives(&broken);
                assert!(
                    event.is_some() || header,
                    "{place} of {tree} lost the event"
                );
                tried += 1;
                reported += usize::from(event.is_some_and(|event| event.malformed().is_some()));
            }
            let mut broken = tree.clone();
            let (parent, key) = place.rsplit_once('/').unwrap();
            if let Some(Value::Object(members)) = broken.pointer_mut(parent) {
                members.remove(&key.replace("~1", "/").replace("~0", "~"));
                survives(&broken);
            }
        }
    }
    println!("{tried} broken events, {reported} reported as malformed");
    assert!(tried > 5_000 && reported > 1_000);
}

#[test]
fn pitfall_17_unknown_kinds_are_kept_outside_and_inside() {
    let mut action = None;
    for tree in shapes() {
        let mut unknown = tree.clone();
        unknown["kind"] = json!("BrandNewEvent");
        assert!(matches!(
            survives(&unknown).unwrap().payload(),
            Payload::Unknown
        ));
        if tree["action"].is_object() {
            let mut unknown = tree.clone();
            unknown["action"]["kind"] = json!("BrandNewAction");
            let event = survives(&unknown).unwrap();
            let Payload::Action(body) = event.payload() else {
                panic!("{unknown}")
            };
            let Some(Action::Unknown(kept)) = &body.action else {
                panic!("{unknown}")
            };
            assert_eq!(kept.json.to_value(), unknown["action"]);
            action = Some(event.clone());
        }
        if tree["observation"].is_object() {
            let mut unknown = tree.clone();
            unknown["observation"]["kind"] = json!("BrandNewObservation");
            unknown["observation"]["is_error"] = json!(true);
            unknown["observation"]["content"] = json!([{"type": "text", "text": "still here"}]);
            let event = survives(&unknown).unwrap();
            let Payload::Observation(body) = event.payload() else {
                panic!("{unknown}")
            };
            assert_eq!(
                (body.text().as_str(), body.is_error()),
                ("still here", true)
            );
        }
    }
    assert!(action.is_some());
}

#[test]
fn an_error_shows_no_value_of_a_malformed_body() {
    let secret = "sk-canary-0123456789";
    for tree in shapes() {
        let mut places = Vec::new();
        paths(&tree, "", &mut places);
        for place in places {
            let mut broken = tree.clone();
            *broken.pointer_mut(&place).unwrap() = json!(secret);
            if let Ok(event) = Event::from_json(broken.to_string())
                && let Some(malformed) = event.malformed()
            {
                assert!(!malformed.to_string().contains(secret), "{malformed}");
                assert!(!malformed.reason.is_empty());
            }
        }
    }
}

/// Returns the state change in an event.
fn change(event: &Event) -> Option<StateChange> {
    match event.payload() {
        Payload::ConversationStateUpdate(update) => Some(update.change.clone()),
        _ => None,
    }
}

#[test]
fn an_undecodable_state_change_is_reported() {
    let mut reported = Vec::new();
    for tree in shapes() {
        let before = change(&Event::from_json(tree.to_string()).unwrap());
        let Some(before) = before else { continue };
        assert!(!matches!(before, StateChange::Malformed(_)), "{tree}");
        let mut broken = tree.clone();
        broken["value"] = json!([7]);
        let event = survives(&broken).unwrap();
        match change(&event).unwrap() {
            StateChange::Malformed(malformed) => {
                assert_eq!(event.malformed(), Some(&*malformed));
                assert_eq!(malformed.kind, tree["key"].as_str().unwrap());
                assert_eq!(malformed.json.to_value(), json!([7]));
                assert!(!malformed.reason.is_empty());
                reported.push(malformed.kind.to_string());
            }
            now => assert!(
                matches!((&now, &before), (StateChange::Other, StateChange::Other)),
                "{now:?} of {broken}"
            ),
        }
    }
    reported.sort();
    assert_eq!(
        reported,
        ["execution_status", "full_state", "goal", "stats"]
    );
}

#[test]
fn an_unknown_word_is_kept_in_every_enumeration() {
    let word = "brand_new_value";
    let mut words = BTreeSet::new();
    for tree in shapes() {
        let mut places = Vec::new();
        paths(&tree, "", &mut places);
        for place in places {
            if !tree.pointer(&place).unwrap().is_string() {
                continue;
            }
            let mut changed = tree.clone();
            *changed.pointer_mut(&place).unwrap() = json!(word);
            let event = survives(&changed).unwrap();
            if let Some(malformed) = event.malformed() {
                panic!("{place} of {tree}: {malformed}");
            }
            let received = format!("{:?} {:?}", event.source(), event.payload());
            if received.contains(&format!("Other(\"{word}\")")) {
                words.insert(place);
            }
        }
    }
    let found: Vec<_> = words.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "/action/command",
            "/action/task_list/0/status",
            "/classification/kind",
            "/llm_message/role",
            "/observation/command",
            "/observation/task_list/0/status",
            "/risks/text",
            "/security_risk",
            "/source",
            "/value",
            "/value/execution_status",
            "/value/status",
        ]
    );
}

#[test]
fn every_recorded_action_and_observation_survives_a_round_trip() {
    let (mut actions, mut observations) = (BTreeSet::new(), BTreeSet::new());
    for line in events() {
        match Event::from_json(line.clone()).unwrap().payload() {
            Payload::Action(body) => {
                let json = serde_json::to_string(&**body).unwrap();
                assert_eq!(serde_json::from_str::<ActionEvent>(&json).unwrap(), **body);
                let Some(action) = &body.action else { continue };
                let json = serde_json::to_string(action).unwrap();
                let tree: Value = serde_json::from_str(&json).unwrap();
                assert_eq!(tree["kind"], action.kind());
                let again: Action = serde_json::from_str(&json).unwrap();
                assert_eq!(again, *action, "{line}");
                actions.insert(action.kind().to_owned());
            }
            Payload::Observation(body) => {
                let json = serde_json::to_string(&**body).unwrap();
                assert_eq!(
                    serde_json::from_str::<ObservationEvent>(&json).unwrap(),
                    **body
                );
                observations.insert(body.observation.kind().to_owned());
            }
            Payload::Message(body) => {
                let json = serde_json::to_string(&**body).unwrap();
                assert_eq!(serde_json::from_str::<MessageEvent>(&json).unwrap(), **body);
            }
            _ => {}
        }
    }
    assert!(
        actions.len() > 5 && observations.len() > 5,
        "{actions:?} {observations:?}"
    );
}

#[test]
fn a_body_that_a_program_builds_equals_the_decoded_one() {
    let mut action = TerminalAction::default();
    action.command = "ls".into();
    let json = json!({"kind": "TerminalAction", "command": "ls", "new": [1]});
    let decoded: Action = serde_json::from_value(json).unwrap();
    assert_eq!(decoded, Action::Terminal(action));
    let unknown = json!({"kind": "NewAction", "x": 1.0});
    let decoded: Action = serde_json::from_value(unknown.clone()).unwrap();
    assert!(matches!(decoded, Action::Unknown(_)));
    assert_eq!(serde_json::to_value(&decoded).unwrap(), unknown);
}
