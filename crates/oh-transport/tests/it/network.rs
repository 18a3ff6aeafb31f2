//! Tests for networks that programs wrap and share, and for keys that rotate.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderMap, Request, Response};
use oh_transport::{
    AuthProvider, Body, Client, Error, ErrorKind, HttpTransport, Network, Result, Socket,
    SocketTransport, async_trait,
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use url::Url;

use crate::common::{AGAIN, Act, CANARY, ONCE, Raw, client, json, ok, request_to, shown, watch};

/// A transport that adds its own header to all requests.
#[derive(Debug, Clone)]
struct Signed(Network);

#[async_trait]
impl HttpTransport for Signed {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let headers = request.headers_mut();
        headers.insert("x-signature", "signed".parse().unwrap());
        self.0.send(request).await
    }
}

#[async_trait]
impl SocketTransport for Signed {
    async fn connect(&self, url: &Url, headers: &HeaderMap) -> Result<Socket> {
        let mut headers = headers.clone();
        headers.insert("x-signature", "signed".parse().unwrap());
        self.0.connect(url, &headers).await
    }
}

#[tokio::test]
async fn the_network_can_be_wrapped_and_shared() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let network = Signed(Network::builder().ignore_environment().build().unwrap());
    for _ in 0..2 {
        let builder = client(server.address).http_transport(network.clone());
        builder.build().unwrap().call(&ONCE).await.unwrap();
    }
    for seen in server.seen() {
        assert!(
            seen.head.contains("x-signature: signed\r\n"),
            "{}",
            seen.head
        );
        assert_eq!(
            seen.connection, 0,
            "clients of one network share its connections"
        );
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        crate::sockets::accept(&mut stream).await.0
    });
    let builder = client(address).socket_transport(network);
    let _socket = builder.build().unwrap().socket("/sockets/x").await.unwrap();
    let head = accepting.await.unwrap();
    assert!(head.contains("x-signature: signed\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_sends_its_name_and_requests_no_compression() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    client(server.address)
        .build()
        .unwrap()
        .call(&ONCE)
        .await
        .unwrap();
    let builder = client(server.address)
        .header("User-Agent", "mine/1")
        .header("Accept-Encoding", "gzip");
    builder.build().unwrap().call(&ONCE).await.unwrap();
    let [default, own] = &server.seen()[..] else {
        panic!("{:?}", server.seen());
    };
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        &*format!("user-agent: openhands-rust/{version}\r\n"),
        "accept-encoding: identity\r\n",
    ] {
        assert!(
            default.head.to_lowercase().contains(line),
            "{}",
            default.head
        );
    }
    for line in ["user-agent: mine/1\r\n", "accept-encoding: gzip\r\n"] {
        assert_eq!(
            own.head.to_lowercase().matches(line).count(),
            1,
            "{}",
            own.head
        );
    }
    assert!(!own.head.contains("openhands-rust"), "{}", own.head);
}

#[tokio::test]
async fn a_compressed_response_is_named_in_the_error() {
    let _watch = watch();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b";
    let server = Raw::start(|_, _| Act::Say(answer.to_vec())).await;
    let error = client(server.address)
        .build()
        .unwrap()
        .call(&ONCE)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("compressed (gzip)"), "{error}");
}

/// A provider that returns a different key each time, and an error the third time.
struct Rotating(Arc<AtomicUsize>);

#[async_trait]
impl AuthProvider for Rotating {
    async fn session_api_key(&self) -> Result<SecretString> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            2 => Err(Error::new(ErrorKind::Unauthorized, "the vault is sealed")),
            3 => Ok("two\r\nlines".into()),
            number => Ok(format!("{CANARY}-{number}").into()),
        }
    }
}

#[tokio::test]
async fn a_provider_is_asked_for_the_key_of_each_request() {
    let _watch = watch();
    let echo = json(
        "401 Unauthorized",
        &format!("{{\"detail\":\"not {CANARY}-1\"}}"),
    );
    let server =
        Raw::start(move |number, _| Act::Say(if number == 0 { ok() } else { echo.clone() })).await;
    let builder = Client::builder(format!("http://{}", server.address)).ignore_environment();
    let client = builder
        .auth_provider(Rotating(Arc::default()))
        .build()
        .unwrap();
    assert!(format!("{client:?}").contains("set"));
    client.call(&AGAIN).await.unwrap();
    let error = client.call(&AGAIN).await.unwrap_err();
    assert!(
        error.is_auth() && shown(&error).contains("not <redacted>"),
        "{}",
        shown(&error)
    );
    for (number, seen) in server.seen().iter().enumerate() {
        let line = format!("x-session-api-key: {CANARY}-{number}\r\n");
        assert!(seen.head.contains(&line), "{}", seen.head);
    }
    let sealed = client.call(&AGAIN).await.unwrap_err();
    assert_eq!(
        (sealed.kind(), sealed.never_sent()),
        (ErrorKind::Unauthorized, true)
    );
    assert!(shown(&sealed).contains("the vault is sealed"), "{sealed}");
    let smuggled = client.call(&AGAIN).await.unwrap_err();
    assert_eq!(smuggled.kind(), ErrorKind::InvalidInput);
    assert_eq!(server.seen().len(), 2, "a request without a key was sent");
    client
        .stream(request_to("/x"), Body::empty())
        .await
        .unwrap();
    assert!(server.seen()[2].head.contains(&format!("{CANARY}-4")));
}

#[tokio::test]
async fn a_socket_authenticates_with_the_current_key() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        crate::sockets::accept(&mut stream).await
    });
    let builder = Client::builder(url).ignore_environment();
    let client = builder
        .auth_provider(Rotating(Arc::default()))
        .build()
        .unwrap();
    let _socket = client.socket("/sockets/x").await.unwrap();
    let (head, first) = accepting.await.unwrap();
    assert!(!head.contains(CANARY), "{head}");
    assert!(first.contains(&format!("{CANARY}-0")), "{first}");
}

#[tokio::test]
async fn a_name_can_be_given_its_address() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let builder = Client::builder(format!("http://agent.test:{}", server.address.port()));
    let client = builder
        .ignore_environment()
        .resolve("agent.test", [server.address.ip()])
        .build()
        .unwrap();
    client.call(&ONCE).await.unwrap();
    assert!(server.seen()[0].head.contains("agent.test"));
}
