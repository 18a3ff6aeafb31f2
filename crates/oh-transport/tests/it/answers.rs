//! Tests for invalid responses of all kinds, and for servers that are not agent servers.

use oh_protocol::calls::server::GetServerInfo;
use oh_transport::{Capability, Client, ErrorKind};
use serde_json::json;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use crate::common::{AGAIN, Act, CANARY, ONCE, Raw, client, json as answer, ok, shown, watch};

#[tokio::test]
async fn a_broken_response_is_an_error_that_describes_it() {
    let _watch = watch();
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        (
            "page",
            head("Content-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\n\r\n<html>"),
            ErrorKind::NotAnAgentServer,
            "6 bytes of text/html",
        ),
        (
            "nothing",
            head("Content-Length: 0\r\n\r\n"),
            ErrorKind::Decode,
            "could not decode",
        ),
        (
            "half of JSON",
            answer("200 OK", "{\"a\":"),
            ErrorKind::Decode,
            "5 bytes of application/json",
        ),
        (
            "not UTF-8",
            [&head("Content-Length: 4\r\n\r\n")[..], b"\"\xff\xfe\""].concat(),
            ErrorKind::Decode,
            "4 bytes",
        ),
        (
            "cut short",
            head("Content-Length: 100\r\n\r\n{\"a\":"),
            ErrorKind::Interrupted,
            "before the response was complete",
        ),
        (
            "chunks cut short",
            head("Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\""),
            ErrorKind::Interrupted,
            "before the response was complete",
        ),
        (
            "broken chunks",
            head("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
            ErrorKind::Interrupted,
            "before the response was complete",
        ),
        (
            "length is no number",
            head("Content-Length: many\r\n\r\n{}"),
            ErrorKind::Decode,
            "not HTTP",
        ),
        (
            "two lengths",
            head("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
            ErrorKind::Decode,
            "not HTTP",
        ),
        (
            "another protocol",
            b"220 mail.test ESMTP\r\n".to_vec(),
            ErrorKind::Decode,
            "not HTTP",
        ),
        (
            "TLS",
            vec![0x15, 3, 3, 0, 2, 2, 70],
            ErrorKind::Decode,
            "not HTTP",
        ),
        (
            "endless head",
            head(&format!("X: {}", "x".repeat(1 << 20))),
            ErrorKind::Decode,
            "not HTTP",
        ),
        (
            "nothing at all",
            Vec::new(),
            ErrorKind::Interrupted,
            "before the response",
        ),
        (
            "half a head",
            b"HTTP/1.1 200 OK\r\nContent-".to_vec(),
            ErrorKind::Interrupted,
            "before the response",
        ),
        (
            "redirect",
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
            ErrorKind::Status,
            "redirects are not followed",
        ),
        (
            "refusal cut short",
            b"HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{\"det".to_vec(),
            ErrorKind::Conflict,
            "409",
        ),
    ];
    for (name, bytes, kind, says) in cases {
        let server = Raw::start(move |_, _| Act::Last(bytes.clone())).await;
        let client = client(server.address).build().unwrap();
        let error = client.call(&ONCE).await.unwrap_err();
        let shown = shown(&error);
        assert_eq!(error.kind(), kind, "{name}: {shown}");
        assert!(shown.contains(says), "{name}: {shown}");
        assert_eq!(error.target(), Some("/probe"), "{name}");
        assert_eq!(server.seen().len(), 1, "{name}: sent again");
    }
}

#[tokio::test]
async fn bytes_after_a_response_are_harmless() {
    let _watch = watch();
    let server =
        Raw::start(|_, _| Act::Say([ok(), b"HTTP/1.1 200 surplus".to_vec()].concat())).await;
    let client = client(server.address).build().unwrap();
    for _ in 0..20 {
        assert_eq!(client.call(&AGAIN).await.unwrap(), json!({}));
    }
}

#[tokio::test]
async fn a_very_long_rejection_is_not_read_to_its_end() {
    let _watch = watch();
    let body = format!("{{\"detail\":\"{}\"}}", "x".repeat(2 << 20));
    let server = Raw::start(move |_, _| Act::Say(answer("400 Bad Request", &body))).await;
    let error = client(server.address)
        .build()
        .unwrap()
        .call(&ONCE)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    assert!(error.detail().unwrap().contains("very long"), "{error}");
}

#[tokio::test]
async fn a_key_repeated_in_a_rejection_is_not_in_the_error() {
    let _watch = watch();
    let body = json!({"detail": format!("no such key: {CANARY}"), "api_key": CANARY, "headers": {"x": CANARY}});
    let body = body.to_string();
    let server = Raw::start(move |_, _| Act::Say(answer("401 Unauthorized", &body))).await;
    let error = client(server.address)
        .build()
        .unwrap()
        .call(&AGAIN)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        shown(&error).contains("no such key: <redacted>"),
        "{}",
        shown(&error)
    );
    assert!(!error.body().unwrap().to_string().contains(CANARY));
    assert_eq!(server.seen().len(), 1, "401 is final");
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_in_the_error() {
    let _watch = watch();
    let body = json!({"version": "1.58.2", "uptime": CANARY}).to_string();
    let server = Raw::start(move |_, _| Act::Say(answer("200 OK", &body))).await;
    let client = client(server.address).build().unwrap();
    let error = client.call(&GetServerInfo::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(shown(&error).contains("expected f64"), "{}", shown(&error));
}

#[tokio::test]
async fn the_info_of_a_server_is_requested_once() {
    let _watch = watch();
    let server = MockServer::start().await;
    let info = json!({
        "version": "1.44.2", "usable_tools": ["terminal"], "new_field": {"x": 1},
        "capabilities": ["idempotent_conversation_create_v1", "later_v9"],
    });
    Mock::given(path("/server_info"))
        .respond_with(ResponseTemplate::new(200).set_body_json(info))
        .expect(1)
        .mount(&server)
        .await;
    let client = client(*server.address()).build().unwrap();
    let clone = client.clone();
    let (first, second) = tokio::join!(client.server_info(), clone.server_info());
    assert_eq!(first.unwrap(), second.unwrap());
    for (capability, has) in [
        (Capability::SessionSocket, false),
        (Capability::IdempotentCreate, true),
        (Capability::ConversationRoutes, false),
        (Capability::Tool("terminal".into()), true),
        (Capability::Tool("browser".into()), false),
        (Capability::Other("later_v9".into()), true),
    ] {
        assert_eq!(
            client.has(capability.clone()).await.unwrap(),
            has,
            "{capability:?}"
        );
    }
}

#[tokio::test]
async fn the_session_socket_is_assumed_from_1_45_and_in_odd_versions() {
    let _watch = watch();
    for (version, has) in [
        ("1.45.0", true),
        ("1.58.2", true),
        ("2.0.0", true),
        ("1.44.9", false),
        ("1.40.0", false),
        ("main", true),
    ] {
        let info = format!("{{\"version\":\"{version}\"}}");
        let server = Raw::start(move |_, _| Act::Say(answer("200 OK", &info))).await;
        let client = client(server.address).build().unwrap();
        assert_eq!(
            client.has(Capability::SessionSocket).await.unwrap(),
            has,
            "{version}"
        );
    }
}

#[tokio::test]
async fn check_finds_a_wrong_session_key_although_the_server_information_needs_none() {
    let _watch = watch();
    let server = Raw::start(|_, seen| {
        let head = &seen.head;
        let (status, body) = match (head.contains("/server_info"), head.contains(CANARY)) {
            (true, _) => ("200 OK", "{\"version\":\"1.58.2\"}"),
            (false, true) => ("200 OK", "0"),
            (false, false) => ("401 Unauthorized", "{\"detail\":\"Unauthorized\"}"),
        };
        Act::Say(answer(status, body))
    })
    .await;
    let right = client(server.address).build().unwrap();
    right.check().await.unwrap();
    for (wrong, advice) in [
        (
            client(server.address)
                .session_api_key("wrong")
                .build()
                .unwrap(),
            "the session key is wrong",
        ),
        (
            Client::builder(format!("http://{}", server.address))
                .build()
                .unwrap(),
            "the client has no session key",
        ),
    ] {
        wrong.server_info().await.unwrap();
        let error = wrong.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn an_old_server_and_a_foreign_server_are_errors() {
    let _watch = watch();
    let old = Raw::start(|_, _| Act::Say(answer("200 OK", "{\"version\":\"1.39.7\"}"))).await;
    let client = client(old.address).build().unwrap();
    let error = client.has(Capability::SessionSocket).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("server 1.39.7 is not supported: use version 1.40.0 or newer"),
        "{error}"
    );
    assert_eq!(client.server_info().await.unwrap().version, "1.39.7");
    let error = client.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);

    for answer in [
        answer("404 Not Found", "{\"detail\":\"Not Found\"}"),
        answer("200 OK", "{\"name\":\"another service\"}"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"+PONG\r\n".to_vec(),
    ] {
        let other = Raw::start(move |_, _| Act::Last(answer.clone())).await;
        let client = crate::common::client(other.address).build().unwrap();
        let error = client.server_info().await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::NotAnAgentServer,
            "{}",
            shown(&error)
        );
        assert!(
            error.to_string().contains(&other.address.to_string()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_header_repeated_in_a_response_is_not_in_the_error() {
    let _watch = watch();
    let body = json!({"detail": "no access with gateway-secret-1, canary-gateway-2; flag on"});
    let body = body.to_string();
    let server = Raw::start(move |_, _| Act::Say(answer("403 Forbidden", &body))).await;
    let client = client(server.address)
        .header("x-gateway", "gateway-secret-1")
        .header("authorization", "Bearer canary-gateway-2")
        .header("x-flag", "on")
        .build()
        .unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    let shown = shown(&error);
    assert!(
        shown.contains("no access with <redacted>, <redacted>; flag on"),
        "{shown}"
    );
    assert!(!error.body().unwrap().to_string().contains("gateway-secret"));
}

#[tokio::test]
async fn a_web_page_is_named_as_the_response_of_another_server() {
    let _watch = watch();
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let gateway = Raw::start(move |_, _| Act::Say(page.to_vec())).await;
    let client = client(gateway.address).build().unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnAgentServer, "{error}");
    assert!(
        error.to_string().contains("6 bytes of text/html"),
        "{error}"
    );
    assert!(!client.is_alive().await);
}
