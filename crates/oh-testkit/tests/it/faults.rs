//! Tests of faults that need time, another server or a half-open connection.

use std::time::{Duration, Instant};

use oh_protocol::calls::conversations;
use oh_testkit::{FakeServer, Fault, Script};
use oh_transport::ErrorKind;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{client, create, next, rest};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_skewed_clock_changes_only_timestamps() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.log("agent", "PauseEvent", json!({}));
    server.skew_ahead(Duration::from_secs(7200));
    conversation.log("agent", "PauseEvent", json!({}));
    server.skew_back(Duration::from_secs(7200));
    conversation.log("agent", "PauseEvent", json!({}));
    let times: Vec<String> = conversation
        .events()
        .iter()
        .map(|event| event.timestamp().to_owned())
        .collect();
    assert!(times[1] > times[0] && times[2] < times[1], "{times:?}");
    // The log keeps the order of writing, regardless of the clock.
    let client = client(&server);
    let path = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    let mut socket = client.socket(&path).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = next(&mut socket).await.unwrap();
        if frame["type"] == "durable" {
            seen.push(frame["event"]["timestamp"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(seen, times);
}

#[tokio::test]
async fn a_foreign_lease_hides_all_but_the_conversation() {
    let server = FakeServer::start().await.unwrap();
    let id = create(&server, json!({})).await;
    let conversation = server.conversation(&id).unwrap();
    let path = format!("/api/conversations/{id}");
    conversation.lease_away();
    assert_eq!(rest(&server, "GET", &path, Value::Null).await.status, 200);
    for hidden in ["run", "pause", "events"] {
        let answer = rest(&server, "POST", &format!("{path}/{hidden}"), json!({})).await;
        assert_eq!(answer.status, 404, "{hidden}");
    }
    let client = client(&server);
    let socket = format!("/sockets/session/{id}?after_seq=-1");
    let mut refused = client.socket(&socket).await.unwrap();
    assert_eq!(
        next(&mut refused).await.unwrap_err().close_code(),
        Some(4004)
    );
    conversation.lease_back();
    let mut socket = client.socket(&socket).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap()["type"], "sync");
}

#[tokio::test]
async fn a_wedged_run_blocks_other_runs() {
    let server = FakeServer::builder()
        .script(Script::new().forever(|s| s.finish("Done.")))
        .start()
        .await
        .unwrap();
    let id = create(&server, json!({})).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.wedge();
    let run = format!("/api/conversations/{id}/run");
    let before = conversation.len();
    assert_eq!(rest(&server, "POST", &run, Value::Null).await.status, 409);
    assert_eq!(
        (conversation.status().as_str(), conversation.len()),
        ("idle", before)
    );
    conversation.unwedge();
    assert_eq!(rest(&server, "POST", &run, Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_stalled_socket_stays_open_and_silent() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    conversation.fill(5, 100).await;
    let client = client(&server);
    let path = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    server.inject(Fault::stall().after(2).times(1));
    let mut socket = client.socket(&path).await.unwrap();
    let mut durable = 0;
    while let Ok(frame) = timeout(SHORT, next(&mut socket)).await {
        durable += usize::from(frame.expect("it does not close")["type"] == "durable");
    }
    assert_eq!(durable, 2);
    // The fault applies only once: the next connection gets everything.
    let mut socket = client.socket(&path).await.unwrap();
    let mut durable = 0;
    while durable < 5 {
        durable += usize::from(next(&mut socket).await.unwrap()["type"] == "durable");
    }
}

#[tokio::test]
async fn a_delay_has_at_least_the_requested_length() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    server.inject(
        Fault::delay(SHORT)
            .on(conversation.id().to_string())
            .times(1),
    );
    let path = format!("/api/conversations/{}", conversation.id());
    let begun = Instant::now();
    assert_eq!(rest(&server, "GET", &path, Value::Null).await.status, 200);
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_burst_of_rejections_has_a_retry_delay_and_ends() {
    let server = FakeServer::start().await.unwrap();
    let path = format!("/api/conversations/{}", server.create().id());
    server.inject(Fault::status(503).times(2));
    server.inject(
        Fault::status(429)
            .retry_after(Duration::from_secs(7))
            .after(2)
            .times(1),
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = rest(&server, "GET", &path, Value::Null).await;
        let reported = answer.head.to_ascii_lowercase().contains("retry-after: 7");
        assert_eq!(reported, answer.status == 429, "{answer:?}");
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [503, 503, 429, 200]);
}

#[tokio::test]
async fn every_close_code_arrives_unchanged() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    let client = client(&server);
    let path = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    for (code, reason) in [
        (1000, ""),
        (1001, "going away"),
        (1008, "policy"),
        (1009, "too big"),
        (1011, "internal"),
        (1012, "restart"),
        (1013, "frame_too_large"),
        (4001, "unauthorized"),
        (4004, "not found"),
    ] {
        let mut socket = client.socket(&path).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap()["type"], "sync");
        conversation.close_sockets(code, reason);
        let end = loop {
            if let Err(end) = next(&mut socket).await {
                break end;
            }
        };
        assert_eq!(
            (end.close_code(), end.close_reason()),
            (Some(code), Some(reason))
        );
    }
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_and_returns_on_its_port() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    let (client, id) = (client(&server), conversation.id());
    server.kill();
    let call = conversations::Run::new(id);
    let error = client.call(&call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    server.come_back();
    client.call(&conversations::Get::new(id)).await.unwrap();
    server.shut_down();
    server.come_back_empty();
    let error = client.call(&conversations::Get::new(id)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let play = async |seed| {
        let server = FakeServer::builder().seed(seed).start().await.unwrap();
        let path = format!("/api/conversations/{}", server.create().id());
        server.inject(Fault::status(500).one_in(3));
        let mut statuses = Vec::new();
        for _ in 0..24 {
            statuses.push(rest(&server, "GET", &path, Value::Null).await.status);
        }
        statuses
    };
    let first = play(7).await;
    assert!(first.contains(&500) && first.contains(&200), "{first:?}");
    assert_eq!(first, play(7).await);
    assert_ne!(first, play(8).await);
}
