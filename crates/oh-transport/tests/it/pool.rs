//! Connections that are kept: when they are used again, and what a dead one may cost.

use std::{sync::atomic::Ordering, time::Duration};

use oh_transport::{Body, ErrorKind};

use crate::common::{AGAIN, Act, ONCE, Raw, client, json, ok, request_to, shown, watch};

#[tokio::test]
async fn one_connection_serves_calls_one_after_another() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    for _ in 0..10 {
        client.call(&ONCE).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// The server reads a request on a connection it used before, and closes without an answer.
async fn dies_on_second(way: fn() -> Act) -> Raw {
    Raw::start(move |number, seen| match (number, seen.connection) {
        (0, _) => Act::Say(ok()),
        (_, 0) => way(),
        _ => Act::Say(ok()),
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_dies_never_shows_in_a_call_that_may_be_repeated() {
    let _watch = watch();
    for way in [|| Act::Last(Vec::new()), || Act::Reset] {
        let server = dies_on_second(way).await;
        let client = client(server.address).build().unwrap();
        client.call(&AGAIN).await.unwrap();
        client.call(&AGAIN).await.unwrap();
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn pitfall_27_a_kept_connection_that_dies_never_repeats_a_call_that_must_not_be() {
    let _watch = watch();
    for way in [|| Act::Last(Vec::new()), || Act::Reset] {
        let server = dies_on_second(way).await;
        let client = client(server.address).build().unwrap();
        client.call(&ONCE).await.unwrap();
        let error = client.call(&ONCE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{}", shown(&error));
        assert_eq!(server.seen().len(), 2, "sent again");
        client.call(&ONCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_the_server_closed_meanwhile_costs_nobody_anything() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Last(ok())).await;
    let client = client(server.address).build().unwrap();
    for call in [ONCE, AGAIN, ONCE] {
        client.call(&call).await.unwrap();
        // The close arrives while nothing is under way.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn after_a_500_the_connection_is_not_used_again() {
    let _watch = watch();
    // As the server does: it announces nothing, and resets what comes next.
    let server = Raw::start(|_, seen| match seen.connection {
        0 if seen.head.starts_with("GET") => {
            Act::Say(json("500 Internal Server Error", "{\"error_id\":\"e1\"}"))
        }
        0 => Act::Reset,
        _ => Act::Say(ok()),
    })
    .await;
    let client = client(server.address).build().unwrap();
    let failed = client
        .stream(request_to("/x"), Body::empty())
        .await
        .unwrap();
    assert_eq!(failed.status().as_u16(), 500);
    failed.into_body().collect(1000).await.unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_waited_too_long_is_not_used_again() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let short = Duration::from_millis(20);
    let client = client(server.address).idle_timeout(short).build().unwrap();
    client.call(&ONCE).await.unwrap();
    tokio::time::sleep(short * 10).await;
    client.call(&ONCE).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_left_unread_does_not_get_in_the_way() {
    let _watch = watch();
    let long = json("200 OK", &format!("\"{}\"", "x".repeat(1 << 20)));
    let server = Raw::start(move |_, seen| {
        let get = seen.head.starts_with("GET");
        Act::Say(if get { long.clone() } else { ok() })
    })
    .await;
    let client = client(server.address).build().unwrap();
    drop(
        client
            .stream(request_to("/long"), Body::empty())
            .await
            .unwrap(),
    );
    assert_eq!(client.call(&ONCE).await.unwrap(), serde_json::json!({}));
}
