//! Property tests with arbitrary JSON and damaged recordings. The decoder accepts the same JSON as
//! a full parser, keeps everything that it accepts, and never panics.

use std::sync::LazyLock;

use oh_protocol::{Event, Payload, SessionFrame};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

static RECORDED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/1.58.2");
    let read = |name: &str| std::fs::read_to_string(format!("{root}/{name}")).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for name in [
        "modelled.jsonl",
        "session_frames.jsonl",
        "legacy_frames.jsonl",
    ] {
        // Skip the longest lines, which would take most of the time.
        lines.extend(
            read(name)
                .lines()
                .filter(|line| line.len() < 4096)
                .map(str::to_owned),
        );
    }
    lines
});

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Accesses everything that can be decoded from an event.
fn read_all(event: &Event) {
    _ = event.malformed();
    _ = event.to_string();
}

proptest! {
    #[test]
    fn any_members_keep_their_bytes(
        members in prop::collection::btree_map(any::<String>(), value(), 0..8),
        kind in prop_oneof![
            any::<String>(),
            prop::sample::select(Payload::KINDS).prop_map(str::to_owned),
        ],
        id in any::<String>(),
        pretty in any::<bool>(),
    ) {
        let mut event: Map<String, Value> = members.into_iter().collect();
        event.insert("kind".into(), json!(kind));
        event.insert("id".into(), json!(id));
        let event = Value::Object(event);
        let text = if pretty {
            serde_json::to_string_pretty(&event).unwrap()
        } else {
            event.to_string()
        };
        let read = Event::from_json(text.clone()).unwrap();
        prop_assert_eq!(read.as_json(), &text);
        prop_assert_eq!((read.kind(), read.id()), (&*kind, &*id));
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text.clone());
        read_all(&read);

        let frame = format!(r#"{{"seq": 7, "event": {text}, "new": [1], "type": "durable"}}"#);
        match SessionFrame::from_json(frame).unwrap() {
            SessionFrame::Durable { seq: 7, event } => {
                prop_assert_eq!(event.as_json(), &text);
                prop_assert_eq!((event.kind(), event.id()), (&*kind, &*id));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn damaged_input_never_panics(
        line in prop::sample::select(&**RECORDED),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut bytes = line.into_bytes();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, byte),
            }
        }
        // Everything that is accepted is valid JSON: a frame at once, an event once its body was
        // decoded.
        let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
        if SessionFrame::from_json(bytes.clone()).is_ok() {
            prop_assert!(is_json());
        }
        let read = Event::from_json(bytes.clone());
        if let Ok(event) = &read {
            prop_assert_eq!(&event.raw()[..], &bytes[..]);
            read_all(event);
            if !matches!(event.payload(), Payload::Malformed(_)) {
                prop_assert!(is_json(), "{:?}", event.payload());
            }
        }
        // In a log, no input is lost, not even invalid data.
        let kept = Event::from_json_lossy(bytes.clone());
        prop_assert!(!kept.id().is_empty() || read.is_ok());
        read_all(&kept);
        // A full parser decides what must be accepted. It does not check that skipped strings are
        // valid UTF-8, so this is checked separately.
        #[derive(serde::Deserialize)]
        struct Least {
            #[serde(rename = "kind")]
            _kind: String,
            #[serde(rename = "id")]
            _id: String,
        }
        let text = std::str::from_utf8(&bytes);
        if text.is_ok_and(|text| serde_json::from_str::<Least>(text).is_ok()) {
            prop_assert!(read.is_ok(), "{read:?}");
        }
    }

    #[test]
    fn any_bytes_decode_to_an_error_or_an_event(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        _ = SessionFrame::from_json(bytes.clone());
        if let Ok(event) = Event::from_json(bytes) {
            read_all(&event);
        }
    }
}
