//! Tests with a server whose clock jumps: the order is that of the log, regardless of the
//! timestamps.

use std::time::Duration;

use oh_conversation::{Attach, Conversation, Cursor};
use serde_json::json;
use tokio::time::timeout;

use crate::mock::{Mock, full_state, soon};

/// Timestamps hours back, days ahead, in the hour that a DST change repeats and in the one that it
/// skips; without a time zone, and in formats of other servers; missing and invalid.
const TIMES: [&str; 10] = [
    "2026-03-29T01:59:59.999999",
    "2026-03-29T03:00:00",
    "2026-10-25T02:30:00.000001",
    "2026-10-25T02:00:00",
    "2026-10-24T21:00:00",
    "2026-11-03T21:00:00",
    "2026-10-25T02:00:00Z",
    "2026-10-25T02:00:00+02:00",
    "1970-01-01T00:00:00",
    "the day before",
];

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_and_ahead_loses_repeats_and_reorders_nothing() {
    for version in ["1.58.2", "1.43.1"] {
        let (mock, mut dials) = Mock::new();
        mock.set_version(version);
        let log = |times: usize| {
            for n in 0..times {
                let time = TIMES[(mock.len() as usize + n / 7) % TIMES.len()];
                mock.append("New", &json!({ "timestamp": time }));
            }
        };
        // The log starts with more than a page of events. The clock jumps between and during
        // connections.
        log(150);
        let attach: Attach = Conversation::attach(&mock.client(), mock.id);
        let attaching = tokio::spawn(attach.into_future());
        let mut conversation = None;
        let mut attaching = Some(attaching);
        for _ in 0..10 {
            let dial = soon(dials.recv()).await.unwrap();
            if dial.target.starts_with("/sockets/events/") {
                let state = full_state("idle").to_string();
                dial.peer.text(state).await.unwrap();
                let begin = mock.len();
                log(20);
                // Live events arrive in the order of their timestamps.
                let mut live: Vec<_> = (begin..mock.len()).map(|seq| mock.event(seq)).collect();
                live.sort();
                for event in live {
                    dial.peer.text(event).await.unwrap();
                }
            } else {
                dial.welcome(&mock, "idle").await.unwrap();
                for _ in 0..20 {
                    log(1);
                    let seq = mock.len() - 1;
                    dial.durable(seq, &mock.event(seq)).await.unwrap();
                }
            }
            if let Some(attaching) = attaching.take() {
                conversation = Some(soon(attaching).await.unwrap().unwrap());
            }
            // These events are logged while no client is connected.
            drop(dial);
            log(5);
        }
        let dial = soon(dials.recv()).await.unwrap();
        if dial.target.starts_with("/sockets/events/") {
            let state = full_state("idle").to_string();
            dial.peer.text(state).await.unwrap();
        } else {
            dial.welcome(&mock, "idle").await.unwrap();
        }
        let conversation = conversation.unwrap();
        let all = mock.len() as usize;
        let mut events = conversation.subscribe(Cursor::Start);
        for expected in 0..all {
            let event = soon(events.next()).await.unwrap().unwrap();
            assert_eq!(event.id(), expected.to_string(), "{version}");
        }
        let more = timeout(Duration::from_secs(100), events.next()).await;
        assert!(more.is_err(), "{version}: {more:?}");
        assert_eq!(conversation.events().len(), all);
        let times: Vec<_> = conversation
            .events()
            .iter()
            .map(|e| e.raw().clone())
            .collect();
        assert!((0..all).all(|seq| times[seq] == mock.event(seq as u64)));
        drop(dial);
    }
}
