//! Tests of silent sockets: the client finds out the reason, and replaces a link only if it is
//! really dead.

use std::time::Duration;

use futures_util::StreamExt;
use oh_conversation::{Conversation, Cursor, ErrorKind, LinkStatus};
use oh_transport::{Error, ErrorKind as Wire};
use serde_json::json;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{sleep, timeout},
};

use crate::mock::{Dial, Mock, full_state, soon};

/// A server version with the session socket, and one without.
const VERSIONS: [&str; 2] = ["1.58.2", "1.43.1"];
/// A duration longer than the default timeout of a hook.
const FROZEN: Duration = Duration::from_secs(70);
/// How long the test observes: longer than any check of the silence takes.
const WATCHED: Duration = Duration::from_secs(600);

/// Attaches to a running conversation, because tools and hooks make a server silent.
async fn attached(version: &str) -> (Mock, UnboundedReceiver<Dial>, Dial, Conversation) {
    let (mock, mut dials) = Mock::new();
    mock.set_version(version);
    mock.append("New", &json!({}));
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    greet(&dial, &mock).await;
    let conversation = soon(attaching).await.unwrap();
    (mock, dials, dial, conversation)
}

fn is_legacy(dial: &Dial) -> bool {
    dial.target.starts_with("/sockets/events/")
}

async fn greet(dial: &Dial, mock: &Mock) {
    if is_legacy(dial) {
        let state = full_state("running").to_string();
        dial.peer.text(state).await.unwrap();
    } else {
        dial.welcome(mock, "running").await.unwrap();
    }
}

/// Logs an event and sends it.
async fn tell(dial: &Dial, mock: &Mock) {
    let (seq, event) = mock.append("New", &json!({}));
    if is_legacy(dial) {
        dial.peer.text(event).await.unwrap();
    } else {
        dial.durable(seq, &event).await.unwrap();
    }
}

async fn reads(conversation: &Conversation, count: usize) {
    let events = conversation.subscribe(Cursor::Start).take(count);
    let ids: Vec<_> = soon(events.map(|event| event.unwrap().id().to_owned()).collect()).await;
    let expected: Vec<_> = (0..count).map(|id| id.to_string()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test(start_paused = true)]
async fn a_server_frozen_by_a_hook_keeps_its_connection() {
    for version in VERSIONS {
        let (mock, mut dials, dial, conversation) = attached(version).await;
        // REST hangs too, whenever the client checks the silence.
        mock.slow_down("", FROZEN);
        let redialled = timeout(WATCHED, dials.recv()).await;
        assert!(redialled.is_err(), "{version}");
        // An event, directly followed by the next hook.
        tell(&dial, &mock).await;
        let redialled = timeout(WATCHED, dials.recv()).await;
        assert!(redialled.is_err(), "{version}");
        mock.slow_down("", Duration::ZERO);
        tell(&dial, &mock).await;
        reads(&conversation, 3).await;
        assert_eq!(conversation.link().connections(), 1, "{version}");
        assert_eq!(conversation.link().status(), LinkStatus::Live, "{version}");
        assert!(conversation.link().last_error().is_none(), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_of_a_silent_link_does_not_end_the_link() {
    for version in VERSIONS {
        let (mock, mut dials, dial, conversation) = attached(version).await;
        mock.slow_down("", Duration::from_secs(1_000));
        assert!(timeout(WATCHED, dials.recv()).await.is_err(), "{version}");
        mock.slow_down("", Duration::ZERO);
        tell(&dial, &mock).await;
        reads(&conversation, 2).await;
        assert_eq!(conversation.link().connections(), 1, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_is_replaced_before_and_after_a_freeze() {
    for version in VERSIONS {
        let (mock, mut dials, mut dial, conversation) = attached(version).await;
        for links in 2..5 {
            mock.slow_down("", FROZEN);
            assert!(timeout(WATCHED, dials.recv()).await.is_err(), "{version}");
            mock.slow_down("", Duration::ZERO);
            // The transport reports this error when pings stay unanswered for longer than any hook
            // takes.
            let dead = Error::new(Wire::Timeout, "nothing arrived, not even a pong");
            dial.peer.end(dead).await.unwrap();
            mock.append("New", &json!({}));
            dial = soon(dials.recv()).await.unwrap();
            let last_error = conversation.link().last_error().unwrap();
            assert_eq!(last_error.transport_error().unwrap().kind(), Wire::Timeout);
            greet(&dial, &mock).await;
            reads(&conversation, links).await;
            assert_eq!(conversation.link().connections(), links as u64, "{version}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_and_a_lease_after_a_freeze_are_distinguished() {
    for version in VERSIONS {
        for (deleted, expected) in [(true, ErrorKind::Gone), (false, ErrorKind::Leased)] {
            let (mock, mut dials, dial, conversation) = attached(version).await;
            mock.slow_down("", FROZEN);
            assert!(timeout(WATCHED, dials.recv()).await.is_err(), "{version}");
            mock.slow_down("", Duration::ZERO);
            if deleted {
                // The socket stays open and silent.
                mock.delete();
            } else {
                dial.peer.end(Error::closed(1012, "")).await.unwrap();
            }
            let refusing = tokio::spawn(async move {
                while let Some(dial) = dials.recv().await {
                    let _ = dial.peer.end(Error::closed(4004, "")).await;
                }
            });
            let mut events = conversation.subscribe(Cursor::Now);
            let error = soon(events.next()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), expected, "{version}");
            assert_eq!(conversation.link().status(), LinkStatus::Ended);
            refusing.abort();
            sleep(Duration::ZERO).await;
            drop(dial);
        }
    }
}
