//! Tests of problems that users of other clients had, and that no other file here covers.

use std::time::Duration;

use futures_util::StreamExt;
use oh_conversation::{Conversation, Cursor, ErrorKind, LinkStatus, RunStatus, Token};
use oh_protocol::{Payload, config::ConfirmationPolicy};
use oh_testkit::FakeServer;
use oh_transport::{Client, Error, ErrorKind as Wire};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::mock::{attached, full_state, soon};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn pitfall_05_an_event_above_a_mebibyte_arrives_live() {
    let server = FakeServer::start().await.unwrap();
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    let fake = server.create();
    let conversation = Conversation::attach(&client.build().unwrap(), fake.id())
        .await
        .unwrap();
    let mut events = conversation.subscribe(Cursor::Now);
    for bytes in [1_500_000, 3_900_000] {
        fake.fill(1, bytes).await;
        let event = timeout(LONG, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(event.raw().len() > bytes / 2);
    }
    assert_eq!(
        conversation.link().connections(),
        1,
        "no connection ended for it"
    );
}

#[tokio::test(start_paused = true)]
async fn pitfall_14_an_unanswered_message_does_not_count_as_a_finished_run() {
    let (mock, mut dials, dial, conversation) = attached("finished").await;
    // The message arrived at the very end of the previous run, and the server overlooked it.
    let message = json!({"source": "user",
        "llm_message": {"role": "user", "content": [{"type": "text", "text": "hello?"}]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert_eq!(outcome.status(), RunStatus::Wedged, "{outcome}");
    // The client has checked the silence: another socket has replaced the first.
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "finished").await.unwrap();
    // If the last message is the agent's, nothing is left to do.
    let (seq, event) = mock.append(
        "MessageEvent",
        &json!({"llm_message": {"role": "assistant"}}),
    );
    dial.durable(seq, &event).await.unwrap();
    let outcome = soon(conversation.run().into_future()).await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn a_title_is_refreshed_by_a_connection_that_also_sets_a_policy_again() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    approvals
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    drop(dial);
    let titled = json!({"id": mock.id.to_string(), "title": "Made meanwhile",
        "execution_status": "idle"});
    mock.plan(conversation_path(&mock.id.to_string()), Ok((200, titled)));
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let refreshed = async {
        while conversation.state().title().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(refreshed).await;
    assert_eq!(
        conversation.state().title().as_deref(),
        Some("Made meanwhile")
    );
    assert!(
        mock.seen("POST /confirmation_policy") >= 2,
        "and the policy is set again"
    );
}

#[tokio::test(start_paused = true)]
async fn pitfall_16_cost_and_state_are_fresh_after_a_drop() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let mut states = conversation.states();
    let before = soon(states.next()).await.unwrap();
    assert!((before.stats().combined().accumulated_cost - 0.5).abs() < 1e-9);
    let running = tokio::spawn({
        let conversation = conversation.clone();
        async move { conversation.run().await }
    });
    while mock.seen("POST /run") == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(dial);
    for status in ["running", "finished"] {
        let fields = json!({"key": "execution_status", "value": status});
        mock.append("ConversationStateUpdateEvent", &fields);
    }
    mock.set_status("finished");
    // A title was generated in the meantime. No socket reports it.
    let titled = json!({"id": mock.id.to_string(), "title": "Made meanwhile",
        "execution_status": "idle", "tags": {"old": "1"}});
    mock.plan(conversation_path(&mock.id.to_string()), Ok((200, titled)));
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(Some(1)).await.unwrap();
    for seq in 0..2 {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    let mut snapshot = full_state("finished");
    snapshot["value"]["stats"]["usage_to_metrics"]["default"]["accumulated_cost"] = json!(2.0);
    snapshot["value"]["tags"] = json!({"new": "2"});
    let frame = json!({"type": "transient", "event": snapshot});
    dial.peer.text(frame.to_string()).await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert!(
        outcome.cost().is_some_and(|cost| (cost - 1.5).abs() < 1e-9),
        "{:?}",
        outcome.cost()
    );
    let state = soon(
        states
            .filter(|state| {
                let titled = state.title().is_some();
                async move { titled }
            })
            .boxed()
            .next(),
    )
    .await
    .unwrap();
    assert_eq!(state.title().as_deref(), Some("Made meanwhile"));
    assert_eq!(
        state.execution_status().as_str(),
        "finished",
        "REST is older than the socket"
    );
    assert_eq!(
        state.tags().into_iter().collect::<Vec<_>>(),
        [("new".into(), "2".into())]
    );
}

/// Returns the path of a conversation's description.
fn conversation_path(id: &str) -> &'static str {
    format!("/api/conversations/{id}").leak()
}

#[tokio::test(start_paused = true)]
async fn pitfall_17_data_of_a_newer_server_is_kept_and_breaks_nothing() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let mut events = conversation.subscribe(Cursor::Start);
    let mut send = Vec::new();
    for (kind, fields) in [
        ("HologramEvent", json!({"depth": 3, "parent_id": "p"})),
        (
            "MessageEvent",
            json!({"source": "alien", "llm_message": {"role": "oracle",
            "content": [{"type": "smell", "x": 1}]}, "mood": [1]}),
        ),
        (
            "ActionEvent",
            json!({"tool_name": "t", "tool_call_id": "c", "security_risk": "COSMIC",
            "action": {"kind": "DanceAction", "steps": 4}}),
        ),
        (
            "ConversationStateUpdateEvent",
            json!({"key": "execution_status", "value": "dreaming"}),
        ),
        (
            "ConversationStateUpdateEvent",
            json!({"key": "aura", "value": {"x": null}}),
        ),
        ("MessageEvent", json!({"llm_message": 7})),
    ] {
        send.push(mock.append(kind, &fields));
    }
    dial.peer
        .text(r#"{"type":"hologram","seq":[0]}"#)
        .await
        .unwrap();
    for (seq, event) in &send {
        let event = std::str::from_utf8(event).unwrap();
        let frame = format!(r#"{{"novelty":{{}},"type":"durable","seq":{seq},"event":{event}}}"#);
        dial.peer.text(frame).await.unwrap();
    }
    for (seq, raw) in &send {
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(event.id(), seq.to_string());
        assert_eq!(event.raw(), raw, "byte for byte");
    }
    let held = conversation.events();
    assert!(matches!(held[0].payload(), Payload::Unknown));
    assert!(held[5].malformed().is_some() && held[1].malformed().is_none());
    let state = conversation.state();
    assert_eq!(state.execution_status().as_str(), "dreaming");
    assert_eq!(state.get("aura").unwrap().as_str(), r#"{"x":null}"#);
    let mut snapshot = full_state("idle");
    snapshot["value"]["agent"] = json!({"kind": "SwarmAgent", "llm": [{"model": "m"}]});
    let frame = json!({"type": "transient", "event": snapshot, "ttl": 4});
    dial.peer.text(frame.to_string()).await.unwrap();
    while conversation.state().agent_kind().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(conversation.state().model(), None);
    assert_eq!(conversation.link().connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn pitfall_22_a_first_message_may_take_minutes() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    // This is below the default timeout of a request.
    mock.slow_down("/events", Duration::from_secs(110));
    conversation.send("hello").await.unwrap();
    assert_eq!(mock.seen("POST /events"), 1);
}

#[tokio::test(start_paused = true)]
async fn pitfall_26_a_proxy_that_cuts_idle_connections_costs_no_event() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut dial = dial;
            for _ in 0..50 {
                sleep(Duration::from_secs(60)).await;
                let _ = dial
                    .peer
                    .end(Error::new(Wire::Interrupted, "cut while idle"))
                    .await;
                mock.append("New", &json!({}));
                dial = dials.recv().await.unwrap();
                dial.welcome(&mock, "idle").await.unwrap();
            }
            dial
        }
    });
    let events = conversation.subscribe(Cursor::Start).take(50);
    let ids: Vec<_> = soon(events.map(|event| event.unwrap().id().to_owned()).collect()).await;
    assert_eq!(
        ids,
        (0..50).map(|id: u32| id.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(conversation.link().connections(), 51);
    drop(soon(server).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failing_link_shows_its_last_error_until_it_recovers() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    assert!(conversation.link().last_error().is_none());
    // A proxy's page, a certificate error and another service on the port, each for a while.
    for kind in [
        Wire::Tls,
        Wire::Proxy,
        Wire::NotAnAgentServer,
        Wire::Server,
        Wire::Connect,
    ] {
        mock.refuse(Error::new(kind, format!("{kind:?}")));
    }
    drop(dial);
    let mut seen = Vec::new();
    let dial = loop {
        if let Ok(dial) = dials.try_recv() {
            break dial;
        }
        sleep(Duration::from_millis(5)).await;
        if let Some(last_error) = conversation.link().last_error() {
            let kind = last_error.transport_error().unwrap().kind();
            if seen.last() != Some(&kind) {
                seen.push(kind);
            }
            assert_ne!(conversation.link().status(), LinkStatus::Ended);
        }
    };
    let expected = [
        Wire::Interrupted,
        Wire::Tls,
        Wire::Proxy,
        Wire::NotAnAgentServer,
        Wire::Server,
        Wire::Connect,
    ];
    assert_eq!(seen, expected);
    mock.append("New", &json!({}));
    dial.welcome(&mock, "idle").await.unwrap();
    let event = soon(conversation.subscribe(Cursor::Start).next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(event.id(), "0");
    while conversation.link().status() != LinkStatus::Live {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(conversation.link().last_error().is_none());
    // A final error is kept.
    dial.peer.end(Error::closed(4001, "")).await.unwrap();
    let mut links = conversation.link().changes();
    while soon(links.next()).await.is_some() {}
    assert_eq!(
        conversation.link().last_error().unwrap().kind(),
        ErrorKind::Unauthorized
    );
}

#[tokio::test(start_paused = true)]
async fn legacy_deltas_are_typed_and_never_stored() {
    let (mock, mut dials) = crate::mock::Mock::new();
    mock.set_version("1.43.1");
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    dial.peer
        .text(full_state("running").to_string())
        .await
        .unwrap();
    let conversation = soon(attaching).await.unwrap();
    let mut tokens = conversation.tokens();
    for (content, reasoning) in [("", "Hm"), ("He", ""), ("", ""), ("llo", "")] {
        let delta = json!({"kind": "StreamingDeltaEvent", "id": "d", "source": "agent",
            "content": content, "reasoning_content": reasoning});
        dial.peer.text(delta.to_string()).await.unwrap();
    }
    let message = json!({"llm_message": {"role": "assistant", "content": []}});
    let (_, event) = mock.append("MessageEvent", &message);
    dial.peer.text(event).await.unwrap();
    let mut typed = String::new();
    loop {
        match soon(tokens.next()).await.unwrap() {
            Token::Text { content, .. } => typed.push_str(&content),
            Token::Reasoning { content, .. } => typed.push_str(&format!("({content})")),
            Token::Finished { item_id } => break assert_eq!(&*item_id, "0"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(typed, "(Hm)Hello");
    assert_eq!(conversation.events().len(), 1);
}
