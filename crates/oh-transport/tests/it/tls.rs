//! Tests for TLS with a private certificate authority, including invalid certificates.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oh_transport::{Client, ErrorKind, Message};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::common::{AGAIN, Act, CANARY, ONCE, Raw, ok, request, shown, watch};
use crate::proxy::{OPEN, Tunnels};

/// The length of a message that is read directly into its allocation.
const LONG: u64 = 200_000;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    named_authority("authority")
}

fn named_authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// Starts a server with a certificate for `name` that responds to every request and sends a message
/// on every socket.
async fn start(authority: &Authority, name: &str, expired: bool) -> Server {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                while let Some((head, _)) = request(&mut stream).await {
                    assert!(head.starts_with("POST"), "{head}");
                    stream.write_all(&ok()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    Server {
        address,
        connections,
    }
}

fn client(address: SocketAddr) -> oh_transport::ClientBuilder {
    Client::builder(format!("https://{address}"))
        .session_api_key(CANARY)
        .ignore_environment()
}

#[tokio::test]
async fn a_named_private_authority_is_trusted() {
    let _watch = watch();
    let authority = authority();
    let server = start(&authority, "127.0.0.1", false).await;
    let other = self::authority().pem();
    let pem = authority.pem();
    let bundle = format!("# a bundle\n{other}\n{pem}");
    for root in [pem.as_bytes(), bundle.as_bytes(), authority.der()] {
        let client = client(server.address)
            .root_certificate(root)
            .build()
            .unwrap();
        client.call(&ONCE).await.unwrap();
    }
}

#[tokio::test]
async fn sockets_are_encrypted_too() {
    let _watch = watch();
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await
            .unwrap();
        let (_, first) = crate::sockets::accept(&mut stream).await;
        // A TLS record holds at most 16 KiB, so the long message arrives in several records.
        let frames = [
            &b"\x81\x02hi\x81\x7f"[..],
            &LONG.to_be_bytes(),
            &vec![b'l'; LONG as usize],
        ];
        stream.write_all(&frames.concat()).await.unwrap();
        stream.flush().await.unwrap();
        (stream, first)
    });
    let client = client(address)
        .root_certificate(authority.pem())
        .build()
        .unwrap();
    let mut socket = client.socket("/sockets/x").await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), Message::Text("hi".into()));
    let long = Message::Text(vec![b'l'; LONG as usize].into());
    assert!(socket.recv().await.unwrap() == long);
    assert!(server.await.unwrap().1.contains(CANARY));
}

#[tokio::test]
async fn a_certificate_that_does_not_prove_the_server_is_final() {
    let _watch = watch();
    let authority = authority();
    let root = authority.pem();
    let stranger = named_authority("stranger");
    for (name, server, says) in [
        (
            "unknown authority",
            start(&stranger, "127.0.0.1", false).await,
            "UnknownIssuer",
        ),
        (
            "wrong name",
            start(&authority, "other.test", false).await,
            "not valid for",
        ),
        (
            "expired",
            start(&authority, "127.0.0.1", true).await,
            "expired",
        ),
    ] {
        let client = client(server.address)
            .root_certificate(&root)
            .build()
            .unwrap();
        for error in [
            client.call(&AGAIN).await.unwrap_err(),
            client.socket("/s").await.unwrap_err(),
        ] {
            let shown = shown(&error);
            assert_eq!(error.kind(), ErrorKind::Tls, "{name}: {shown}");
            assert!(shown.contains(says), "{name}: {shown}");
        }
        // One connection for the call, one for the socket: nothing was retried.
        assert_eq!(server.connections.load(Ordering::SeqCst), 2, "{name}");
    }
}

#[tokio::test]
async fn without_its_authority_a_private_server_is_not_trusted() {
    let _watch = watch();
    let server = start(&authority(), "127.0.0.1", false).await;
    // On a platform without certificates, creating the client already fails.
    let error = match client(server.address).build() {
        Ok(client) => client.call(&ONCE).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Tls, "{}", shown(&error));
}

#[tokio::test]
async fn a_server_without_tls_and_a_closed_connection_are_distinguished() {
    let _watch = watch();
    let root = authority().pem();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = plain.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            tokio::spawn(async move { request(&mut stream).await });
        }
    });
    let client = client(address).root_certificate(&root).build().unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{}", shown(&error));

    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(deaf.accept().await.unwrap())
        }
    });
    let client = self::client(address)
        .root_certificate(&root)
        .build()
        .unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{}", shown(&error));
}

#[tokio::test]
async fn the_limit_for_connecting_includes_the_handshake() {
    let _watch = watch();
    // The operating system accepts the connections, but nothing responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(silent.local_addr().unwrap())
        .root_certificate(authority().pem())
        .connect_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let error = client.call(&ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(shown(&error).contains("within 50ms"), "{}", shown(&error));
}

#[tokio::test]
async fn tls_through_a_tunnel_verifies_the_requested_name() {
    let _watch = watch();
    let authority = authority();
    let server = start(&authority, "agent.test", false).await;
    let proxy = Tunnels::start(server.address, OPEN).await;
    let client = Client::builder("https://agent.test")
        .session_api_key(CANARY)
        .proxy(format!("http://{}", proxy.address))
        .root_certificate(authority.pem())
        .build()
        .unwrap();
    client.call(&ONCE).await.unwrap();
    assert_eq!(
        proxy.heads(),
        ["CONNECT agent.test:443 HTTP/1.1\r\nHost: agent.test:443\r\n\r\n"]
    );
}

#[tokio::test]
async fn an_invalid_root_is_rejected_at_once() {
    let _watch = watch();
    let client = |root: &[u8]| {
        client(SocketAddr::from(([127, 0, 0, 1], 9)))
            .root_certificate(root)
            .build()
    };
    for root in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let error = client(root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
    }
    assert_eq!(client(b"garbage").unwrap_err().kind(), ErrorKind::Tls);
    // Plain HTTP needs no certificates.
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    crate::common::client(server.address)
        .build()
        .unwrap()
        .call(&ONCE)
        .await
        .unwrap();
}

/// Starts a server that requires a client certificate from `authority`.
async fn start_mutual(authority: &Authority) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => stream,
                    Err((_, mut stream)) => {
                        // Drain the connection, so that a reset does not discard the alert.
                        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                        return;
                    }
                };
                while request(&mut stream).await.is_some() {
                    stream.write_all(&ok()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_client_certificate_is_presented_to_a_server_that_wants_one() {
    let _watch = watch();
    let authority = authority();
    let address = start_mutual(&authority).await;
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["client".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let known = client(address)
        .root_certificate(authority.pem())
        .client_certificate(certificate.pem(), key.serialize_pem())
        .build()
        .unwrap();
    known.call(&ONCE).await.unwrap();

    let unknown = client(address).root_certificate(authority.pem());
    let unknown = unknown.build().unwrap();
    for error in [
        unknown.call(&AGAIN).await.unwrap_err(),
        unknown.socket("/sockets/x").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Tls, "{}", shown(&error));
        assert!(error.never_sent(), "{}", shown(&error));
    }
}

#[tokio::test]
async fn an_unusable_client_certificate_is_rejected_at_once() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let params = CertificateParams::new(["client".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    for (chain, key) in [
        (&*certificate, other.serialize_pem()),
        (&certificate, "canary".to_owned()),
        (&certificate, certificate.clone()),
        ("", key.serialize_pem()),
    ] {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let error = client(address)
            .client_certificate(chain, key)
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
        assert!(!shown(&error).contains("canary"));
    }
}
