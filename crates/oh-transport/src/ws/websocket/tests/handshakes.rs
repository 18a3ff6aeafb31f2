//! Tests for responses to an upgrade request.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_request_is_for_this_path_and_has_the_callers_headers() {
    let (ours, theirs) = duplex(1 << 16);
    let mut peer = Peer(theirs);
    let mut headers = HeaderMap::new();
    headers.insert("x-gateway", "pass".parse().unwrap());
    let url = url();
    let opening = open(Stream::new(ours), &url, &headers, SocketLimits::default());
    let (socket, head) = tokio::join!(opening, async {
        let (head, accept) = peer.asked().await;
        peer.say(upgrade(&accept)).await;
        head
    });
    socket.unwrap();
    assert!(
        head.starts_with("GET /prefix/sockets/x?after_seq=3 HTTP/1.1\r\nHost: server:8000\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nx-gateway: pass\r\n"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_our_upgrade_is_rejected() {
    type Answer = fn(String) -> String;
    let cases: [(&str, Answer, &str); 11] = [
        (
            "wrong key",
            |_| upgrade("AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "accept key",
        ),
        (
            "other case",
            |accept| upgrade(&accept.to_lowercase()),
            "accept key",
        ),
        (
            "no key",
            |_| upgrade("x").replace("Sec-WebSocket-Accept: x\r\n", ""),
            "accept key",
        ),
        (
            "other protocol",
            |accept| upgrade(&accept).replace("websocket", "h2c"),
            "does not upgrade",
        ),
        (
            "no connection",
            |accept| upgrade(&accept).replace("Connection: Upgrade\r\n", ""),
            "does not upgrade",
        ),
        (
            "extension",
            |accept| {
                upgrade(&accept).replace(
                    "\r\n\r\n",
                    "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
                )
            },
            "extension",
        ),
        (
            "subprotocol",
            |accept| {
                upgrade(&accept).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n")
            },
            "subprotocol",
        ),
        (
            "page",
            |_| "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>".into(),
            "200 OK instead",
        ),
        (
            "redirect",
            |_| "HTTP/1.1 307 Temporary Redirect\r\nLocation: /x\r\n\r\n".into(),
            "307",
        ),
        (
            "not http",
            |_| "SSH-2.0-OpenSSH_9.7\r\n\r\n".into(),
            "not HTTP",
        ),
        (
            "header",
            |_| "HTTP/1.1 101 x\r\nno colon\r\n\r\n".into(),
            "invalid header",
        ),
    ];
    for (name, answer, says) in cases {
        let error = answered(answer).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Handshake, "{name}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_has_the_kind_of_its_status() {
    for (status, kind) in [
        ("401 Unauthorized", ErrorKind::Unauthorized),
        ("403 Forbidden", ErrorKind::Forbidden),
        ("404 Not Found", ErrorKind::NotFound),
        ("429 Too Many Requests", ErrorKind::RateLimited),
        ("503 Service Unavailable", ErrorKind::Server),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let error = answered(|_| answer).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_is_limited() {
    let endless = format!("HTTP/1.1 101 x\r\nX: {}", "x".repeat(20_000));
    let error = answered(|_| endless).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_in_the_handshake_was_interrupted() {
    let (ours, theirs) = duplex(1 << 16);
    let mut peer = Peer(theirs);
    let (url, headers) = (url(), HeaderMap::new());
    let (result, ()) = tokio::join!(
        open(Stream::new(ours), &url, &headers, SocketLimits::default()),
        async {
            peer.asked().await;
            peer.say("HTTP/1.1 101 Switch").await;
            drop(peer);
        }
    );
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_times_out() {
    let (ours, _theirs) = duplex(1 << 16);
    let begun = Instant::now();
    let (url, headers) = (url(), HeaderMap::new());
    let limits = SocketLimits::default().with_handshake(Duration::from_secs(7));
    let result = open(Stream::new(ours), &url, &headers, limits).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_subprotocol_is_accepted_when_it_was_offered() {
    for (chosen, accepted) in [("b", true), ("c", false), ("a, b", false)] {
        let (ours, theirs) = duplex(1 << 16);
        let mut peer = Peer(theirs);
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-protocol", "a, b".parse().unwrap());
        let url = url();
        let opening = open(Stream::new(ours), &url, &headers, SocketLimits::default());
        let (socket, ()) = tokio::join!(opening, async {
            let (_, accept) = peer.asked().await;
            let chosen = format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n");
            peer.say(upgrade(&accept).replace("\r\n\r\n", &chosen))
                .await;
        });
        assert_eq!(socket.is_ok(), accepted, "{chosen}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_handshake_has_its_retry_delay() {
    for status in [
        "429 Too Many Requests",
        "503 Service Unavailable",
        "426 Upgrade Required",
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\n\r\n");
        let error = answered(|_| answer).await.unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(7)),
            "{status}"
        );
        assert!(status.starts_with(error.status().unwrap().as_str()));
    }
}
