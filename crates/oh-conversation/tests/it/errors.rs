//! Tests of error callbacks, and of fetching missed events on request.

use std::{sync::mpsc, time::Duration};

use oh_conversation::{Conversation, Cursor, Error, ErrorKind};
use oh_protocol::config::{Agent, Llm};
use oh_testkit::{FakeServer, Fault};
use oh_transport::Error as Wire;
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use crate::{
    approvals::until,
    mock::{Mock, Place, attached, polled, soon},
};

const LONG: Duration = Duration::from_secs(60);

/// Returns a callback that sends each error.
fn errors() -> (
    impl FnMut(&Error) + Send + 'static,
    UnboundedReceiver<Error>,
) {
    let (calls, called) = unbounded_channel();
    (move |error: &Error| _ = calls.send(error.clone()), called)
}

/// Returns whether the newest event that is held has this id.
fn holds(conversation: &Conversation, id: &str) -> bool {
    let events = conversation.events();
    events
        .iter()
        .next_back()
        .is_some_and(|event| event.id() == id)
}

#[tokio::test(start_paused = true)]
async fn an_error_callback_receives_each_interruption_and_last_the_end() {
    let (mock, mut dials, mut dial, conversation) = attached("idle").await;
    let (callback, mut called) = errors();
    conversation.on_error(callback).detach();
    for code in [1012, 1011] {
        dial.peer.end(Wire::closed(code, "")).await.unwrap();
        let error = soon(called.recv()).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert_eq!(error.conversation_id(), Some(mock.id));
        dial = soon(dials.recv()).await.unwrap();
        dial.welcome(&mock, "idle").await.unwrap();
        soon(conversation.ready()).await.unwrap();
    }
    dial.peer.end(Wire::closed(4001, "")).await.unwrap();
    let error = soon(called.recv()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(
        soon(called.recv()).await.is_none(),
        "the callback was dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_by_the_program_is_not_an_error() {
    for way in ["close", "drop", "cancel"] {
        let (_mock, _dials, _dial, conversation) = attached("idle").await;
        let (callback, mut called) = errors();
        let subscription = conversation.on_error(callback);
        match way {
            "close" => {
                subscription.detach();
                conversation.close().await.unwrap();
            }
            "drop" => {
                subscription.detach();
                drop(conversation);
            }
            _ => soon(subscription.cancel()).await,
        }
        assert!(soon(called.recv()).await.is_none(), "{way}");
    }
}

// In real time: the paused clock stands still while a callback blocks.
#[tokio::test]
async fn the_error_for_which_a_callback_skips_events_is_passed() {
    let (mock, mut dials) = Mock::new();
    let created = json!({"id": mock.id.to_string(), "execution_status": "idle",
        "workspace": {"working_dir": "/w"}});
    mock.plan("/api/conversations", Ok((201, created)));
    let (release, blocked) = mpsc::channel::<()>();
    let (callback, mut called) = errors();
    let builder = Conversation::builder(&Place(mock.client()), Agent::new(Llm::new("m")));
    let builder = builder.id(mock.id).unchecked_tools().keep_last(1000);
    let builder = builder.on_error(callback).on_event_blocking(move |_| {
        _ = blocked.recv();
    });
    let starting = tokio::spawn(builder.start());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(starting).await.unwrap().unwrap();
    // The callback falls behind the events that are kept, and the older ones cannot be read.
    for _ in 0..3000 {
        let (seq, event) = mock.append("New", &json!({}));
        dial.durable(seq, &event).await.unwrap();
    }
    until(|| holds(&conversation, "2999")).await;
    for _ in 0..10 {
        mock.plan(
            "/events/search",
            Ok((401, json!({"detail": "Unauthorized"}))),
        );
        mock.plan(
            "/events/count",
            Ok((401, json!({"detail": "Unauthorized"}))),
        );
    }
    drop(release);
    let error = soon(called.recv()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(conversation.link().status().is_up());
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn reconcile_returns_the_number_of_missed_events_and_each_arrives_once() {
    let server = FakeServer::start().await.unwrap();
    let fake = server.create();
    fake.fill(5, 500).await;
    let client = server.client().unwrap();
    let conversation = Conversation::attach(&client, fake.id()).await.unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    assert_eq!(
        timeout(LONG, conversation.reconcile())
            .await
            .unwrap()
            .unwrap(),
        0
    );
    // Neither a socket nor REST brings the events until the call has begun.
    server.inject(Fault::status(503).on("/sockets/").named("sockets"));
    server.inject(Fault::status(503).on("/events/search").named("search"));
    server.cut_sockets();
    until(|| !conversation.link().status().is_up()).await;
    fake.fill(250, 500).await;
    let reconciling = tokio::spawn(conversation.reconcile());
    until(|| {
        server
            .requests_to("GET", "/api/conversations/{conversation_id}/events/search")
            .len()
            > 8
    })
    .await;
    server.lift("search");
    assert_eq!(
        timeout(LONG, reconciling).await.unwrap().unwrap().unwrap(),
        250
    );
    assert_eq!(conversation.events().len(), 255);
    // The socket replays, and delivers new events while they are fetched.
    server.lift("sockets");
    let mut total = 0;
    for _ in 0..5 {
        fake.fill(40, 500).await;
        let before = conversation.events().len();
        let added = timeout(LONG, conversation.reconcile())
            .await
            .unwrap()
            .unwrap();
        assert!(conversation.events().len() >= before + added);
        total += added;
    }
    assert!(total <= 200, "{total}");
    assert_eq!(conversation.events().len(), 455);
    for expected in fake.events() {
        let event = timeout(LONG, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event.id(), expected.id());
    }
    assert_eq!(events.seq(), Some(454));
    conversation.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reconcile_keeps_the_pages_that_were_fetched_before_a_failure() {
    let (mock, _dials, conversation) = polled().await;
    mock.slow_down("/events/search", Duration::from_secs(1));
    for _ in 0..250 {
        mock.append("New", &json!({}));
    }
    let reconciling = tokio::spawn(conversation.reconcile());
    until(|| conversation.events().len() > 1).await;
    mock.cut_pages_of_more_than(0);
    let error = soon(reconciling).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let kept = conversation.events().len();
    assert!((2..251).contains(&kept), "{kept}");
    mock.cut_pages_of_more_than(usize::MAX);
    let added = soon(conversation.reconcile()).await.unwrap();
    assert_eq!((kept + added, conversation.events().len()), (251, 251));
    assert_eq!(soon(conversation.reconcile()).await.unwrap(), 0);
}
