//! What arrives broken or strange: an error value or a kept event, never a panic.
//! Knows nothing of sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use oh_protocol::{ErrorKind, Event, SessionFrame, event::Payload};

fn refused(raw: impl Into<bytes::Bytes>) {
    let error = Event::from_json(raw.into()).expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn what_is_no_event_is_an_error_value() {
    for raw in [
        "",
        "nonsense",
        "[]",
        "3",
        "null",
        "{",
        "{}",
        r#"{"kind":"X"}"#,
        r#"{"id":"e"}"#,
    ] {
        refused(raw);
    }
    refused(r#"{"kind":"X","kind":"Y","id":"e"}"#);
    refused(&b"{\"kind\":\"\xff\",\"id\":\"e\"}"[..]);
    refused(r#"{"kind":"\ud800","id":"e"}"#);
}

#[test]
fn a_depth_bomb_does_not_overflow_the_stack() {
    let deep = "[".repeat(200_000);
    let raw = format!(r#"{{"kind":"ActionEvent","id":"e","action":{deep}"#);
    refused(raw.clone());
    let frame = format!(r#"{{"type":"durable","seq":0,"event":{raw}"#);
    assert!(SessionFrame::from_json(frame).is_err());
}

#[test]
fn a_huge_string_is_kept_without_a_second_copy_of_it() {
    let raw = bytes::Bytes::from(format!(
        r#"{{"kind":"New","id":"e","text":"{}"}}"#,
        "a".repeat(50 * 1024 * 1024)
    ));
    let event = Event::from_json(raw.clone()).unwrap();
    assert_eq!(event.raw().as_ptr(), raw.as_ptr());
    assert_eq!(event.raw().len(), raw.len());
}

#[test]
fn nulls_in_the_header_lose_no_event() {
    let raw = r#"{"kind":"PauseEvent","id":"e","timestamp":null,"source":null,"parent_id":null}"#;
    let event = Event::from_json(raw).unwrap();
    assert_eq!((event.timestamp(), event.source().as_str()), ("", ""));
    assert_eq!(&event.raw()[..], raw.as_bytes());
}

#[test]
fn a_body_that_does_not_fit_is_malformed_and_keeps_its_bytes() {
    let raw = r#"{"kind":"MessageEvent","id":"e","llm_message":7}"#;
    let event = Event::from_json(raw).unwrap();
    assert!(
        matches!(event.payload(), Payload::Malformed { .. }),
        "{:?}",
        event.payload()
    );
    assert_eq!(&event.raw()[..], raw.as_bytes());
}

#[test]
fn a_new_frame_type_may_use_a_known_name_for_another_shape() {
    let raw = r#"{"type":"hologram","seq":"three","event":[1],"attempt":{"x":1}}"#;
    let SessionFrame::Unknown {
        frame_type,
        raw: kept,
    } = SessionFrame::from_json(raw).unwrap()
    else {
        panic!("not unknown");
    };
    assert_eq!(&*frame_type, "hologram");
    assert_eq!(&kept[..], raw.as_bytes());
}
