//! Tests for pooled connections: when they are reused, and the effect of a dead connection.

use std::{
    future::IntoFuture as _,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Method;
use oh_protocol::{Answer, Call, Operation, Repeat, Request};
use oh_transport::{Body, Client, ErrorKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use crate::common::{AGAIN, Act, ONCE, Raw, client, json, ok, request, request_to, shown, watch};

#[tokio::test]
async fn a_connection_serves_consecutive_calls() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    for _ in 0..10 {
        client.call(&ONCE).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// Starts a server that reads a request on a reused connection and closes it without a response.
async fn dies_on_second(way: fn() -> Act) -> Raw {
    Raw::start(move |number, seen| match (number, seen.connection) {
        (0, _) => Act::Say(ok()),
        (_, 0) => way(),
        _ => Act::Say(ok()),
    })
    .await
}

#[tokio::test]
async fn a_dead_kept_connection_is_invisible_to_repeatable_calls() {
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
async fn pitfall_27_a_dead_kept_connection_never_repeats_an_unrepeatable_call() {
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
async fn a_connection_closed_by_the_server_fails_no_call() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Last(ok())).await;
    let client = client(server.address).build().unwrap();
    for call in [ONCE, AGAIN, ONCE] {
        client.call(&call).await.unwrap();
        // The close arrives while no request is in progress: the server's task and the task of the
        // client's connection run before this one goes on.
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn after_a_500_the_connection_is_not_used_again() {
    let _watch = watch();
    // The real server behaves the same: it does not announce the close and resets the next request.
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
async fn a_request_above_the_limit_waits_until_a_response_was_read() {
    let _watch = watch();
    let long = json("200 OK", &format!("\"{}\"", "x".repeat(1 << 20)));
    let server = Raw::start(move |_, seen| {
        let get = seen.head.starts_with("GET");
        Act::Say(if get { long.clone() } else { ok() })
    })
    .await;
    let client = client(server.address)
        .max_connections(2.try_into().unwrap())
        .build()
        .unwrap();
    let open = || client.stream(request_to("/long"), Body::empty());
    let (first, second) = (open().await.unwrap(), open().await.unwrap());
    let short = Duration::from_millis(50);
    let error = client.call(&ONCE).timeout(short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", shown(&error));
    assert_eq!(server.seen().len(), 2, "sent in spite of the limit");
    // Dropped, and read to its end.
    drop(first);
    client.call(&ONCE).await.unwrap();
    let third = open().await.unwrap();
    second.into_body().collect(1 << 21).await.unwrap();
    client.call(&ONCE).await.unwrap();
    drop(third);
    assert_eq!(server.seen().len(), 5);
    // Concurrent calls share the connections.
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.call(&ONCE).await.map(drop) });
    }
    for done in calls.join_all().await {
        done.unwrap();
    }
    let most = server.connections.load(Ordering::SeqCst);
    assert!(most <= 5, "{most} connections");
}

#[tokio::test]
async fn an_unread_response_does_not_disturb_later_calls() {
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

/// Starts a server for one connection, which responds to one request if `answers` is set. The
/// returned task ends when the client has closed the connection.
async fn until_closed(answers: bool) -> (SocketAddr, Arc<Notify>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let arrived = Arc::new(Notify::new());
    let notify = arrived.clone();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        if answers {
            stream.write_all(&ok()).await.unwrap();
        }
        notify.notify_one();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    });
    (address, arrived, server)
}

#[tokio::test]
async fn a_dropped_client_closes_its_kept_connections() {
    let _watch = watch();
    let (address, _, server) = until_closed(true).await;
    let client = client(address).idle_timeout(Duration::MAX).build().unwrap();
    client.call(&ONCE).await.unwrap();
    let clone = client.clone();
    drop(client);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!server.is_finished(), "a clone still needs the connection");
    drop(clone);
    server.await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let _watch = watch();
    let (address, arrived, server) = until_closed(false).await;
    let client = client(address).build().unwrap();
    tokio::select! {
        _ = client.call(&ONCE).into_future() => panic!("nobody answers"),
        () = arrived.notified() => {}
    }
    server.await.unwrap();
}

/// A call with a unique number.
struct Marked(Repeat, usize);

impl Call for Marked {
    type Output = ();

    fn operation(&self) -> Operation {
        Operation::new(Method::POST, "/marked/{number}", self.0)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        Request::new(Method::POST, format!("/marked/{}/", self.1)).json("x")
    }

    fn decode(&self, _: Answer) -> oh_protocol::Result<()> {
        Ok(())
    }
}

/// Sends a call. Returns its result and how often the server received it.
async fn sent(client: &Client, server: &Raw, call: Marked) -> (Result<(), ErrorKind>, usize) {
    let outcome = client.call(&call).await.map_err(|error| error.kind());
    let mark = format!("/marked/{}/", call.1);
    let seen = server.seen();
    let times = seen.iter().filter(|seen| seen.head.contains(&mark)).count();
    (outcome, times)
}

#[tokio::test]
async fn no_unrepeatable_call_is_sent_twice_when_connections_die() {
    let _watch = watch();
    let server = Arc::new(
        Raw::start(|_, _| match fastrand::u8(..10) {
            0 => Act::Last(Vec::new()),
            1 => Act::Reset,
            2 => Act::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{".to_vec()),
            // Closes while the next request may already have been sent.
            3 | 4 => Act::Last(ok()),
            _ => Act::Say(ok()),
        })
        .await,
    );
    let client = client(server.address).build().unwrap();
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let (client, server) = (client.clone(), server.clone());
        workers.spawn(async move {
            let mut died = 0;
            for number in worker * 100..worker * 100 + 50 {
                match sent(&client, &server, Marked(Repeat::Never, number)).await {
                    (Ok(()), 1) => {}
                    (Err(ErrorKind::Interrupted), 0 | 1) => died += 1,
                    other => panic!("a call that must not be repeated: {other:?}"),
                }
                match sent(
                    &client,
                    &server,
                    Marked(Repeat::Idempotent, 10_000 + number),
                )
                .await
                {
                    (Ok(()), 1..=5) => {}
                    // Five attempts in a row failed, which is the maximum.
                    (Err(ErrorKind::Interrupted), 0..=5) => {}
                    other => panic!("a call that may be repeated: {other:?}"),
                }
            }
            died
        });
    }
    let died: usize = workers.join_all().await.into_iter().sum();
    assert!(died > 0, "nothing died: the test tried nothing");
}

#[tokio::test]
async fn a_reset_closes_idle_connections_and_lets_requests_in_progress_end() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    client.call(&ONCE).await.unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // The head of this response has arrived, and its body is read after the reset.
    let answer = client
        .stream(request_to("/x"), Body::empty())
        .await
        .unwrap();
    client.clone().reset_connections();
    client.call(&ONCE).await.unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    assert_eq!(answer.into_body().collect(1000).await.unwrap(), "{}");
    client.call(&ONCE).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_has_its_own_key_and_token_which_are_not_shown() {
    let _watch = watch();
    let refusal = "{\"detail\": \"canary-key canary-token\"}";
    let server = Raw::start(move |number, _| match number {
        2 => Act::Say(json("403 Forbidden", refusal)),
        _ => Act::Say(ok()),
    })
    .await;
    let client = client(server.address).session_api_key("of-the-client");
    let client = client.build().unwrap();
    let own = || {
        let call = client.call(&AGAIN).session_api_key("canary-key");
        call.bearer_token("canary-token")
    };
    client.call(&AGAIN).await.unwrap();
    own().await.unwrap();
    let error = own().await.unwrap_err();
    client.call(&AGAIN).await.unwrap();
    for text in [shown(&error), format!("{error:?} {:?}", own())] {
        assert!(!text.contains("canary"), "{text}");
    }
    let heads = server.seen().into_iter();
    let heads: Vec<_> = heads.map(|seen| seen.head.to_lowercase()).collect();
    for (at, head) in heads.iter().enumerate() {
        let own = matches!(at, 1 | 2);
        assert_eq!(
            head.contains("x-session-api-key: canary-key\r\n"),
            own,
            "{head}"
        );
        assert_eq!(
            head.contains("authorization: bearer canary-token\r\n"),
            own,
            "{head}"
        );
        assert_eq!(head.contains("of-the-client"), !own, "{head}");
    }
    for call in [
        client.call(&AGAIN).session_api_key("a\nb"),
        client.call(&AGAIN).bearer_token(" "),
    ] {
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
    }
    assert_eq!(server.seen().len(), 4);
}
