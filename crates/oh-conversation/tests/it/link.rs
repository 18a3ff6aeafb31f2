//! Tests of disconnects: which endings are temporary, which are final, and how often the client
//! dials.

use std::{future::IntoFuture, time::Duration};

use futures_util::StreamExt;
use oh_conversation::{Conversation, Cursor, ErrorKind, LinkStatus, Token};
use oh_protocol::config::{Agent, ConfirmationPolicy, Llm};
use oh_transport::Error;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::mock::{Mock, Place, attached, full_state, soon};

#[tokio::test(start_paused = true)]
async fn pitfall_06_clean_closes_cause_no_storm_of_reconnects() {
    let (mock, mut dials) = Mock::new();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let (mut count, begin) = (0, Instant::now());
            for code in [1000, 1001, 1012, 1013].into_iter().cycle() {
                let Some(dial) = dials.recv().await else {
                    break;
                };
                if begin.elapsed() > Duration::from_secs(60) {
                    break;
                }
                count += 1;
                let _ = dial.welcome(&mock, "idle").await;
                let _ = dial.peer.end(Error::closed(code, "")).await;
            }
            count
        }
    });
    let _conversation = mock.attach().await.unwrap();
    let dials = soon(server).await.unwrap();
    assert!((4..30).contains(&dials), "{dials} dials in a minute");
}

#[tokio::test(start_paused = true)]
async fn pitfall_08_a_rejected_key_ends_streams_and_waits_with_a_typed_error() {
    let (mock, mut dials) = Mock::new();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let dial = dials.recv().await.unwrap();
            mock.set_status("running");
            dial.welcome(&mock, "running").await.unwrap();
            sleep(Duration::from_secs(20)).await;
            dial.peer.end(Error::closed(4001, "")).await.unwrap();
        }
    });
    let conversation = mock.attach().await.unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    let (streamed, ran) = soon(async { tokio::join!(events.next(), conversation.run()) }).await;
    assert_eq!(
        streamed.unwrap().unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
    assert_eq!(ran.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert!(events.next().await.is_none());
    assert_eq!(conversation.link().status(), LinkStatus::Ended);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pitfall_23_a_lease_is_waited_out() {
    let (mock, mut dials) = Mock::new();
    let begin = Instant::now();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            while let Some(dial) = dials.recv().await {
                if begin.elapsed() < Duration::from_secs(45) {
                    let _ = dial.peer.end(Error::closed(4004, "")).await;
                } else {
                    mock.append("New", &json!({}));
                    let _ = dial.welcome(&mock, "idle").await;
                    return dial;
                }
            }
            panic!("gave up");
        }
    });
    let conversation = mock.attach().await.unwrap();
    let event = soon(conversation.subscribe(Cursor::Start).next()).await;
    assert_eq!(event.unwrap().unwrap().id(), "0");
    drop(soon(server).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_never_ends_is_a_typed_error() {
    let (mock, mut dials) = Mock::new();
    tokio::spawn(async move {
        while let Some(dial) = dials.recv().await {
            let _ = dial.peer.end(Error::closed(4004, "")).await;
        }
    });
    let conversation = mock.attach().await.unwrap();
    let error = soon(conversation.subscribe(Cursor::Start).next())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Leased);
}

/// Like the real server, the mock returns the description of the conversation but not its log.
#[tokio::test(start_paused = true)]
async fn attach_and_run_wait_for_a_lease_while_the_log_is_unreadable() {
    let (mock, mut dials) = Mock::new();
    mock.lease_away();
    let refusing = tokio::spawn(async move {
        while let Some(dial) = dials.recv().await {
            let _ = dial.peer.end(Error::closed(4004, "")).await;
        }
    });
    let begin = Instant::now();
    let error = soon(mock.attach()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Leased, "{error:?}");
    let waited = begin.elapsed().as_secs();
    assert!((85..110).contains(&waited), "{waited} s");
    refusing.abort();

    let (mock, mut dials, dial, conversation) = attached("running").await;
    mock.lease_away();
    let _ = dial.peer.end(Error::closed(1012, "")).await;
    tokio::spawn(async move {
        while let Some(dial) = dials.recv().await {
            let _ = dial.peer.end(Error::closed(4004, "")).await;
        }
    });
    let joined = soon(conversation.join().into_future()).await;
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::Leased);
}

#[tokio::test(start_paused = true)]
async fn a_delete_by_another_client_is_noticed_on_a_silent_socket() {
    let (mock, mut dials) = Mock::new();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let first = dials.recv().await.unwrap();
            first.welcome(&mock, "idle").await.unwrap();
            mock.delete();
            // The first socket stays open and silent, as on the real server.
            while let Some(dial) = dials.recv().await {
                let _ = dial.peer.end(Error::closed(4004, "")).await;
            }
            drop(first);
        }
    });
    let conversation = mock.attach().await.unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    let reason = tokio::spawn(conversation.link().ended());
    let ended = timeout(Duration::from_secs(120), events.next());
    let error = ended.await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert_eq!(soon(reason).await.unwrap().kind(), ErrorKind::Gone);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_of_a_link_does_not_keep_it_open() {
    let (_mock, _dials, _dial, conversation) = attached("idle").await;
    let closed = tokio::spawn(conversation.link().ended());
    let dropped = tokio::spawn(conversation.clone().link().ended());
    tokio::task::yield_now().await;
    assert!(!closed.is_finished());
    drop(conversation);
    for ended in [closed, dropped] {
        assert_eq!(soon(ended).await.unwrap().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_awaited() {
    let (mock, mut dials) = Mock::new();
    for _ in 0..40 {
        mock.refuse(Error::new(oh_transport::ErrorKind::Connect, "refused"));
    }
    mock.append("New", &json!({}));
    tokio::spawn({
        let mock = mock.clone();
        async move {
            let dial = dials.recv().await.unwrap();
            let _ = dial.welcome(&mock, "idle").await;
            std::future::pending::<()>().await;
            drop(dial);
        }
    });
    let conversation = mock.attach().await.unwrap();
    let event = soon(conversation.subscribe(Cursor::Start).next()).await;
    assert_eq!(event.unwrap().unwrap().id(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_socket_silent_during_a_tool_call_is_not_replaced() {
    let (mock, mut dials) = Mock::new();
    let conversation = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    // After the handshake, nothing arrives for ten minutes.
    let redialled = timeout(Duration::from_secs(600), dials.recv()).await;
    assert!(redialled.is_err(), "a second dial starves the server");
    mock.append("New", &json!({}));
    dial.welcome(&mock, "running").await.unwrap();
    let conversation = soon(conversation).await.unwrap();
    let event = soon(conversation.subscribe(Cursor::Start).next()).await;
    assert_eq!(event.unwrap().unwrap().id(), "0");
}

#[tokio::test(start_paused = true)]
async fn pitfall_04_an_event_above_the_frame_limit_is_read_by_rest() {
    let (mock, mut dials) = Mock::new();
    for _ in 0..30 {
        mock.append("New", &json!({}));
    }
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut afters = Vec::new();
            while let Some(dial) = dials.recv().await {
                afters.push(dial.after());
                if dial.after() >= 17 {
                    let _ = dial.welcome(&mock, "idle").await;
                    std::future::pending::<()>().await;
                }
                // Event 17 is too large: every replay that includes it ends there.
                dial.sync(Some(29)).await.unwrap();
                for seq in u64::try_from(dial.after() + 1).unwrap()..17 {
                    let _ = dial.durable(seq, &mock.event(seq)).await;
                }
                let _ = dial.peer.end(Error::closed(1013, "frame_too_large")).await;
                assert!(afters.len() < 5, "no progress: {afters:?}");
            }
        }
    });
    let conversation = mock.attach().await.unwrap();
    let events = conversation.subscribe(Cursor::Start).take(30);
    let ids: Vec<_> = soon(events.map(|event| event.unwrap().id().to_owned()).collect()).await;
    let expected: Vec<_> = (0..30).map(|id: u32| id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids, expected);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_state_above_the_frame_limit_falls_back_to_the_legacy_socket() {
    let (mock, mut dials) = Mock::new();
    mock.append("New", &json!({}));
    tokio::spawn({
        let mock = mock.clone();
        async move {
            while let Some(dial) = dials.recv().await {
                if dial.target.starts_with("/sockets/events/") {
                    dial.peer
                        .text(full_state("idle").to_string())
                        .await
                        .unwrap();
                    mock.append("New", &json!({}));
                    dial.peer.text(mock.event(1)).await.unwrap();
                    std::future::pending::<()>().await;
                }
                let _ = dial.sync(Some(0)).await;
                if dial.after() < 0 {
                    let _ = dial.durable(0, &mock.event(0)).await;
                }
                let _ = dial.peer.end(Error::closed(1013, "frame_too_large")).await;
            }
        }
    });
    let conversation = mock.attach().await.unwrap();
    let events = conversation.subscribe(Cursor::Start).take(2);
    let ids: Vec<_> = soon(events.map(|event| event.unwrap().id().to_owned()).collect()).await;
    assert_eq!(ids, ["0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn the_legacy_socket_notifies_and_rest_reads_in_log_order() {
    let (mock, mut dials) = Mock::new();
    mock.set_version("1.43.1");
    for _ in 0..250 {
        mock.append("New", &json!({}));
    }
    tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut round = 0;
            while let Some(dial) = dials.recv().await {
                assert!(
                    dial.target.starts_with("/sockets/events/"),
                    "{}",
                    dial.target
                );
                round += 1;
                dial.peer
                    .text(full_state("running").to_string())
                    .await
                    .unwrap();
                for _ in 0..50 {
                    mock.append("New", &json!({}));
                }
                // Events arrive out of order and twice, and most of them do not arrive at all.
                for seq in [mock.len() - 1, 3, mock.len() - 2, 3] {
                    let _ = dial.peer.text(mock.event(seq)).await;
                }
                if round == 20 {
                    std::future::pending::<()>().await;
                }
            }
        }
    });
    let conversation = mock.attach().await.unwrap();
    let all = 250 + 20 * 50;
    let events = conversation.subscribe(Cursor::Start).take(all);
    let ids: Vec<_> = soon(events.map(|event| event.unwrap().id().to_owned()).collect()).await;
    let expected: Vec<_> = (0..all).map(|id| id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids, expected);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_socket_path_falls_back_to_the_legacy_socket() {
    let (mock, mut dials) = Mock::new();
    mock.append("New", &json!({}));
    mock.refuse(Error::from_status(http::StatusCode::FORBIDDEN));
    tokio::spawn(async move {
        let dial = dials.recv().await.unwrap();
        assert!(
            dial.target.starts_with("/sockets/events/"),
            "{}",
            dial.target
        );
        dial.peer
            .text(full_state("idle").to_string())
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let conversation = mock.attach().await.unwrap();
    let event = soon(conversation.subscribe(Cursor::Start).next()).await;
    assert_eq!(event.unwrap().unwrap().id(), "0");
}

#[tokio::test(start_paused = true)]
async fn pitfall_07_close_sends_a_close_frame_at_once() {
    let (mock, mut dials) = Mock::new();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut dial = dials.recv().await.unwrap();
            dial.welcome(&mock, "idle").await.unwrap();
            while dial.peer.recv().await.is_some() {}
        }
    });
    let conversation = mock.attach().await.unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    let begin = Instant::now();
    conversation.close().await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(100));
    assert!(soon(events.next()).await.is_none(), "a close is no error");
    soon(server).await.unwrap();
    conversation.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connection() {
    let (mock, mut dials) = Mock::new();
    let server = tokio::spawn({
        let mock = mock.clone();
        async move {
            let mut dial = dials.recv().await.unwrap();
            dial.welcome(&mock, "idle").await.unwrap();
            while dial.peer.recv().await.is_some() {}
        }
    });
    let conversation = mock.attach().await.unwrap();
    let clone = conversation.clone();
    drop(conversation);
    assert!(!server.is_finished());
    drop(clone);
    soon(server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tokens_name_their_item_and_a_finished_event_closes_it() {
    let (mock, mut dials) = Mock::new();
    let (go, gone) = tokio::sync::oneshot::channel();
    tokio::spawn({
        let mock = mock.clone();
        async move {
            let dial = dials.recv().await.unwrap();
            dial.welcome(&mock, "running").await.unwrap();
            gone.await.unwrap();
            for frame in [
                json!({"type": "item_started", "item_id": "0", "attempt": 0}),
                json!({"type": "delta", "item_id": "0", "attempt": 0, "order": 0, "kind": "text", "content": "He"}),
                json!({"type": "item_aborted", "item_id": "0", "attempt": 0, "reason": "retry"}),
                json!({"type": "item_started", "item_id": "0", "attempt": 1}),
                json!({"type": "delta", "item_id": "0", "attempt": 1, "order": 0, "kind": "reasoning", "content": "Hm"}),
            ] {
                dial.peer.text(frame.to_string()).await.unwrap();
            }
            let (seq, event) = mock.append(
                "ActionEvent",
                &json!({"tool_name": "t", "tool_call_id": "c"}),
            );
            dial.durable(seq, &event).await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    let conversation = mock.attach().await.unwrap();
    let tokens = conversation.tokens().take(6);
    go.send(()).unwrap();
    let tokens: Vec<Token> = soon(tokens.collect()).await;
    assert!(matches!(&tokens[1], Token::Text { content, attempt: 0, .. } if &**content == "He"));
    assert!(matches!(tokens[2], Token::Aborted { attempt: 0, .. }));
    assert!(matches!(tokens[3], Token::Started { attempt: 1, .. }));
    assert!(matches!(&tokens[4], Token::Reasoning { attempt: 1, .. }));
    assert!(matches!(&tokens[5], Token::Finished { item_id } if &**item_id == "0"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_lost_by_the_server_is_set_again_after_a_reconnect() {
    let (mock, mut dials) = Mock::new();
    let snapshot = |kind: &str| {
        let mut event = full_state("idle");
        event["value"]["confirmation_policy"] = json!({ "kind": kind });
        json!({"type": "transient", "event": event}).to_string()
    };
    let server = tokio::spawn(async move {
        for kind in ["NeverConfirm", "AlwaysConfirm", "NeverConfirm"] {
            let dial = dials.recv().await.unwrap();
            dial.sync(None).await.unwrap();
            dial.peer.text(snapshot(kind)).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
    });
    let conversation = mock.attach().await.unwrap();
    conversation
        .approvals()
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    soon(server).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // Sent once by the program and once after the server lost it; not again while the server kept
    // it.
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
}

#[tokio::test(start_paused = true)]
async fn pitfall_25_a_masked_secret_is_rejected_before_sending() {
    let (mock, mut dials) = Mock::new();
    tokio::spawn({
        let mock = mock.clone();
        async move {
            let dial = dials.recv().await.unwrap();
            let _ = dial.welcome(&mock, "idle").await;
            std::future::pending::<()>().await;
        }
    });
    let conversation = mock.attach().await.unwrap();
    for (name, value) in [
        ("TOKEN", "**********"),
        ("1X", "v"),
        ("", "v"),
        ("A B", "v"),
    ] {
        let error = conversation
            .secrets()
            .set([(name, value)])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
    assert_eq!(mock.seen("POST /secrets"), 0);
    let canary = [("TOKEN", "canary")];
    mock.plan("/secrets", Ok((500, json!({"detail": "no"}))));
    mock.plan("/secrets", Ok((422, json!({"detail": "no"}))));
    let error = conversation.secrets().set(canary).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn an_existing_conversation_with_another_kind_of_agent_is_rejected() {
    let (mock, mut dials) = Mock::new();
    let found = json!({"id": mock.id.to_string(), "agent": {"kind": "ACPAgent"}});
    mock.plan("/api/conversations", Ok((200, found)));
    let agent = Agent::new(Llm::new("m"));
    let builder = Conversation::builder(&Place(mock.client()), agent).id(mock.id);
    let error = builder.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMismatch);
    assert!(dials.try_recv().is_err(), "no socket for it");
}

#[tokio::test(start_paused = true)]
async fn an_error_page_of_a_proxy_is_a_typed_error() {
    let (mock, _dials) = Mock::new();
    mock.delete();
    assert_eq!(mock.attach().await.unwrap_err().kind(), ErrorKind::Gone);
    let (mock, _dials) = Mock::new();
    // A response with text instead of an object comes from something other than the agent server.
    mock.plan("", Ok((200, json!("<html>502 Bad Gateway</html>"))));
    assert_eq!(mock.attach().await.unwrap_err().kind(), ErrorKind::Decode);
    mock.plan("", Ok((401, json!({"detail": "Unauthorized"}))));
    assert_eq!(
        mock.attach().await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_socket_without_tokens_is_not_used() {
    for (version, socket) in [
        ("1.44.0", "events"),
        ("1.45.0", "events"),
        ("1.46.3", "events"),
        ("1.47.0", "session"),
        ("1.58.2", "session"),
        ("a development build", "session"),
    ] {
        let (mock, mut dials) = Mock::new();
        mock.set_version(version);
        let attaching = tokio::spawn({
            let mock = mock.clone();
            async move { mock.attach().await }
        });
        let dial = soon(dials.recv()).await.unwrap();
        let target = format!("/sockets/{socket}/{}", mock.id);
        assert!(
            dial.target.starts_with(&target),
            "{version}: {}",
            dial.target
        );
        attaching.abort();
    }
}
