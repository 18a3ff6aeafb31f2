//! Tests for requests and sockets through a proxy that forwards or tunnels.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
};

use oh_transport::{Client, ClientBuilder, ErrorKind};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::common::{AGAIN, Act, CANARY, ONCE, Raw, head, ok, shown, watch};

/// A loopback proxy whose tunnels all lead to `target`, regardless of the requested host.
pub(crate) struct Tunnels {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    pub(crate) async fn start(target: SocketAddr, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = heads.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let noted = noted.clone();
                tokio::spawn(async move {
                    let asked = head(&mut stream).await.unwrap();
                    noted.lock().unwrap().push(asked);
                    stream.write_all(answer).await.unwrap();
                    if answer == OPEN {
                        let mut server = TcpStream::connect(target).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut server).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub(crate) const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

fn through(proxy: SocketAddr) -> ClientBuilder {
    // Only the proxy can resolve this name.
    Client::builder("http://agent.test:8123")
        .session_api_key(CANARY)
        .proxy(format!("http://user:pass@{proxy}"))
}

#[tokio::test]
async fn plain_requests_are_forwarded_because_proxies_permit_no_tunnel_to_such_ports() {
    let _watch = watch();
    let proxy = Raw::start(|_, _| Act::Say(ok())).await;
    let client = through(proxy.address).build().unwrap();
    client.call(&ONCE).await.unwrap();
    client.call(&ONCE).await.unwrap();
    for seen in proxy.seen() {
        let line = "POST http://agent.test:8123/probe?query=canary-3f9c-session-key HTTP/1.1\r\n";
        assert!(seen.head.starts_with(line), "{}", seen.head);
        let head = seen.head.to_lowercase();
        assert!(head.contains("host: agent.test:8123\r\n"), "{head}");
        assert!(
            seen.head.contains("Basic dXNlcjpwYXNz") && head.contains("proxy-authorization: "),
            "{head}"
        );
        assert_eq!(
            seen.connection, 0,
            "the connection to the proxy was not kept"
        );
    }
}

#[tokio::test]
async fn a_forwarding_proxy_that_requires_a_password_is_reported_once() {
    let _watch = watch();
    for reason in [
        &b"Proxy Authentication Required"[..],
        b"Authentification n\xe9cessaire",
    ] {
        let answer = [b"HTTP/1.1 407 ", reason, b"\r\nContent-Length: 0\r\n\r\n"].concat();
        let proxy = Raw::start(move |_, _| Act::Say(answer.clone())).await;
        let client = through(proxy.address).build().unwrap();
        let error = client.call(&AGAIN).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Proxy, "{}", shown(&error));
        assert!(shown(&error).contains("user and password"), "{error}");
        assert_eq!(error.status().unwrap().as_u16(), 407);
        assert!(error.never_sent());
        assert_eq!(proxy.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_proxy_surrounded_by_blanks_is_used() {
    let _watch = watch();
    let proxy = Raw::start(|_, _| Act::Say(ok())).await;
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = crate::common::client(server.address)
        .proxy(format!(" http://{}\n", proxy.address))
        .build()
        .unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!((proxy.seen().len(), server.seen().len()), (1, 0));
}

#[tokio::test]
async fn an_unusable_proxy_is_rejected_when_the_client_is_built() {
    for proxy in [
        "http://user:pa/canary@p:1",
        "socks5://p:1",
        "proxy",
        "http://p:port",
    ] {
        let builder = Client::builder("http://127.0.0.1:9").ignore_environment();
        let error = builder.proxy(proxy).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{proxy}");
        assert!(!shown(&error).contains("pa/"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn sockets_use_a_tunnel_of_the_proxy() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Tunnels::start(listener.local_addr().unwrap(), OPEN).await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        crate::sockets::accept(&mut stream).await.0
    });
    let client = through(proxy.address).build().unwrap();
    let _socket = client.socket("/sockets/x").await.unwrap();
    let head = server.await.unwrap();
    assert!(head.contains("Host: agent.test:8123\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("proxy-"), "{head}");
    assert_eq!(
        proxy.heads(),
        [
            "CONNECT agent.test:8123 HTTP/1.1\r\nHost: agent.test:8123\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        ]
    );
}

#[tokio::test]
async fn a_rejecting_proxy_is_named_with_a_remedy() {
    let _watch = watch();
    for (answer, kind, says) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            ErrorKind::Proxy,
            "user and password",
        ),
        (
            b"HTTP/1.1 407 Authentification n\xe9cessaire\r\nX: \xe9\r\n\r\n",
            ErrorKind::Proxy,
            "user and password",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\nno colon\r\n\r\n",
            ErrorKind::Proxy,
            "NO_PROXY",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            ErrorKind::Connect,
            "503",
        ),
        (
            b"nonsense\r\n\r\n",
            ErrorKind::Connect,
            "no valid response from proxy",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 smuggled",
            ErrorKind::Connect,
            "unexpected data",
        ),
    ] {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let proxy = Tunnels::start(nowhere, answer).await;
        let client = through(proxy.address).build().unwrap();
        let error = client.socket("/sockets/x").await.unwrap_err();
        let shown = shown(&error);
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(shown.contains(says) && !shown.contains("pass@"), "{shown}");
        assert!(error.never_sent(), "{shown}");
        assert_eq!(proxy.heads().len(), 1, "{shown}");
    }
}

/// Runs itself as a child process, because environment variables can only be set safely there.
#[tokio::test]
async fn the_environment_chooses_proxy_and_headers() {
    const CHILD: &str = "OH_TRANSPORT_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let client = Client::builder("http://agent.test:8123").build().unwrap();
        client.call(&AGAIN).await.unwrap();
        let direct = Client::builder(std::env::var(CHILD).unwrap());
        direct.build().unwrap().call(&AGAIN).await.unwrap();
        let error = Client::builder("https://agent.test").build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
        assert!(!format!("{error:?}").contains("pass"), "{error:?}");
        return;
    }
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let proxy = Raw::start(|_, _| Act::Say(ok())).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "proxy::the_environment_chooses_proxy_and_headers",
        ])
        .env(CHILD, format!("http://{}", server.address))
        .env("HTTP_PROXY", format!("http://{}", proxy.address))
        .env("HTTPS_PROXY", "http://user:pa ss/@proxy")
        .env("OPENHANDS_OBSERVABILITY_TAGS", "nightly, rust");
    for name in [
        "http_proxy",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "REQUEST_METHOD",
    ] {
        child.env_remove(name);
    }
    let ran = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
    let (forwarded, direct) = (proxy.seen(), server.seen());
    assert_eq!(
        (forwarded.len(), direct.len()),
        (1, 1),
        "the server on loopback was reached through the proxy"
    );
    for request in [forwarded, direct].concat() {
        assert!(
            request
                .head
                .contains("x-openhands-observability-tags: nightly,rust\r\n"),
            "{}",
            request.head
        );
    }
}
