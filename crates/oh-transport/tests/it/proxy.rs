//! Requests and sockets through a proxy that tunnels.

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

/// A proxy on loopback: whatever host is asked for, the tunnel leads to `target`.
pub(crate) struct Tunnels {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    pub(crate) async fn start(target: SocketAddr, answer: &'static str) -> Self {
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
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer.contains(" 200 ") {
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

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn through(proxy: SocketAddr) -> ClientBuilder {
    // Nobody here can resolve this name: only the proxy knows where it is.
    Client::builder("http://agent.test:8123")
        .session_api_key(CANARY)
        .proxy(format!("http://user:pass@{proxy}"))
}

#[tokio::test]
async fn requests_go_through_a_tunnel_that_the_proxy_is_asked_for() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let proxy = Tunnels::start(server.address, OPEN).await;
    let client = through(proxy.address).build().unwrap();
    client.call(&ONCE).await.unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!(
        proxy.heads(),
        [
            "CONNECT agent.test:8123 HTTP/1.1\r\nHost: agent.test:8123\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        ]
    );
    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /probe"), "{}", seen[0].head);
    assert!(
        !seen[0].head.to_lowercase().contains("proxy-"),
        "{}",
        seen[0].head
    );
}

#[tokio::test]
async fn sockets_go_through_it_too() {
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
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_what_to_do() {
    let _watch = watch();
    for (answer, kind, asked, says) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            ErrorKind::Proxy,
            1,
            "user and password",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            ErrorKind::Proxy,
            1,
            "NO_PROXY",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            ErrorKind::Connect,
            5,
            "503",
        ),
        (
            "nonsense\r\n\r\n",
            ErrorKind::Connect,
            5,
            "no answer from proxy",
        ),
    ] {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let proxy = Tunnels::start(nowhere, answer).await;
        let client = through(proxy.address).build().unwrap();
        let error = client.call(&ONCE).await.unwrap_err();
        let shown = shown(&error);
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(shown.contains(says) && !shown.contains("pass@"), "{shown}");
        assert_eq!(proxy.heads().len(), asked, "{shown}");
    }
}

/// Variables can be set for another process only, so this test runs itself as one.
#[tokio::test]
async fn the_environment_chooses_proxy_and_headers() {
    const CHILD: &str = "OH_TRANSPORT_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let client = Client::builder("http://agent.test:8123").build().unwrap();
        client.call(&AGAIN).await.unwrap();
        let direct = Client::builder(std::env::var(CHILD).unwrap());
        direct.build().unwrap().call(&AGAIN).await.unwrap();
        return;
    }
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let proxy = Tunnels::start(server.address, OPEN).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "proxy::the_environment_chooses_proxy_and_headers",
        ])
        .env(CHILD, format!("http://{}", server.address))
        .env("HTTP_PROXY", format!("http://{}", proxy.address))
        .env("OPENHANDS_OBSERVABILITY_TAGS", "nightly, rust");
    for name in ["http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
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
    assert_eq!(
        proxy.heads().len(),
        1,
        "the server on loopback was reached through the proxy"
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for request in seen {
        assert!(
            request
                .head
                .contains("x-openhands-observability-tags: nightly,rust\r\n"),
            "{}",
            request.head
        );
    }
}
