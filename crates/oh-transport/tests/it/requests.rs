//! Tests for the content of requests: key, headers, paths.

use oh_protocol::Request;
use oh_transport::{Body, Client, ErrorKind};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, header_exists, method, path},
};

use crate::common::{AGAIN, Act, CANARY, ONCE, Raw, client, ok, request_to, shown, watch};

#[tokio::test]
async fn the_key_is_only_in_its_header() {
    let _watch = watch();
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/prefix/probe"))
        .and(header("x-session-api-key", CANARY))
        .and(header("content-type", "application/json"))
        .and(header("x-gateway", "pass"))
        .respond_with(ResponseTemplate::new(200).set_body_json([1]))
        .expect(1)
        .mount(&server)
        .await;
    let client = Client::builder(format!("{}/prefix/", server.uri()))
        .session_api_key(CANARY)
        .header("x-gateway", "pass")
        .build()
        .unwrap();
    assert_eq!(client.call(&ONCE).await.unwrap(), serde_json::json!([1]));
    let sent = &server.received_requests().await.unwrap()[0];
    assert_eq!(sent.body, b"[1,2,3]");
    assert_eq!(sent.url.path(), "/prefix/probe");
    for shown in [
        format!("{client:?}"),
        format!("{:?}", Client::builder("http://h").session_api_key(CANARY)),
    ] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[tokio::test]
async fn without_a_key_there_is_no_header() {
    let _watch = watch();
    let server = MockServer::start().await;
    Mock::given(header_exists("x-session-api-key"))
        .respond_with(ResponseTemplate::new(400))
        .mount(&server)
        .await;
    Mock::given(path("/probe"))
        .respond_with(ResponseTemplate::new(200).set_body_json(0))
        .with_priority(9)
        .mount(&server)
        .await;
    let client = Client::builder(server.uri()).build().unwrap();
    client.call(&AGAIN).await.unwrap();
}

#[tokio::test]
async fn an_ambiguous_target_is_rejected_before_sending() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    for target in [
        "",
        "ready",
        "@evil.test/",
        ":9/",
        "/a/../b",
        "/a/..",
        "/a/%2e%2E/b",
        "/./a",
        "/a\\..\\b",
        "/a#b",
        "/a b",
        "/a\r\nX-Evil: 1",
        "/ä",
    ] {
        let request = Request::new(http::Method::GET, target);
        let error = client.stream(request, Body::empty()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target:?}");
        let error = client.socket(target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target:?}");
        shown(&error);
    }
    assert_eq!(server.seen().len(), 0);
    // Dots and special characters that are not dot segments are allowed.
    for target in ["/a/..b/...?x=../y", "/%2Fetc%2fx?q=%23"] {
        client
            .stream(request_to(target), Body::empty())
            .await
            .unwrap();
        assert!(
            server
                .seen()
                .pop()
                .unwrap()
                .head
                .starts_with(&format!("GET {target} HTTP/1.1\r\n"))
        );
    }
}

#[tokio::test]
async fn calls_in_parallel_share_one_client() {
    let _watch = watch();
    let server =
        Raw::start(|number, _| Act::Say(crate::common::json("200 OK", &number.to_string()))).await;
    let client = client(server.address).build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        calls.spawn(async move { client.call(&ONCE).await.unwrap() });
    }
    let mut answers: Vec<u64> = calls
        .join_all()
        .await
        .iter()
        .map(|answer| answer.as_u64().unwrap())
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, Vec::from_iter(0..100));
    assert!(server.seen().iter().all(|seen| seen.body == b"[1,2,3]"));
}

#[tokio::test]
async fn a_port_without_a_listener_is_a_failure_to_connect() {
    let _watch = watch();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let client = client(address).build().unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(
        shown(&error).contains(&format!("cannot connect to {address}")),
        "{}",
        shown(&error)
    );
    assert_eq!(
        client.socket("/s").await.unwrap_err().kind(),
        ErrorKind::Connect
    );
}

#[tokio::test]
async fn a_call_is_traced_by_method_route_status_attempt_and_duration() {
    let watch = watch();
    let server = Raw::start(|number, _| match number {
        0 => Act::Last(Vec::new()),
        _ => Act::Say(ok()),
    })
    .await;
    client(server.address)
        .build()
        .unwrap()
        .call(&AGAIN)
        .await
        .unwrap();
    for parts in [
        &[
            "call{method=POST route=\"/probe\"}",
            "attempt=1",
            "failure=Some(Interrupted)",
            "elapsed_ms=",
            "retry_in_ms=",
        ][..],
        &[
            "call{method=POST route=\"/probe\"}",
            "attempt=2",
            "status=200",
            "failure=None",
            "elapsed_ms=",
        ],
        &["close", "status=200", "attempts=2", "elapsed_ms="],
    ] {
        assert!(watch.line(parts).is_some(), "no line with {parts:?}");
    }
}

#[tokio::test]
async fn creating_a_client_opens_no_connection() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    let clone = client.clone();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(
        server.connections.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
    clone.call(&ONCE).await.unwrap();
    assert_eq!(
        server.connections.load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}

#[tokio::test]
async fn limits_may_be_as_long_as_a_duration() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let longest = std::time::Duration::MAX;
    let client = client(server.address)
        .connect_timeout(longest)
        .timeout(longest)
        .read_timeout(longest)
        .idle_timeout(longest)
        .silence_timeout(longest)
        .max_message(usize::MAX)
        .build()
        .unwrap();
    client.call(&ONCE).await.unwrap();
    let answer = client
        .stream(request_to("/x"), Body::empty())
        .await
        .unwrap();
    assert_eq!(answer.into_body().collect(10).await.unwrap(), "{}");
}
