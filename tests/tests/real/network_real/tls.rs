//! A scene with a TLS terminator in front of the server that wants a client certificate.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use openhands::{
    Client, Conversation, conversation,
    conversation::LinkStatus,
    protocol::calls::server::GetServerInfo,
    transport::{ClientBuilder, Error, ErrorKind},
    workspace::ErrorKind as OfWorkspace,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use super::stage::{Stage, converses, start, workspace};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A TLS terminator with a certificate for loopback.
struct Terminator {
    address: SocketAddr,
    /// The number of connections that were forwarded to the server.
    forwarded: Arc<AtomicUsize>,
    running: JoinHandle<()>,
}

impl Terminator {
    /// Starts a terminator that forwards clients with a certificate of this authority.
    async fn start(server: SocketAddr, authority: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forwarded = Arc::<AtomicUsize>::default();
        let counted = forwarded.clone();
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, counted) = (acceptor.clone(), counted.clone());
                connections.spawn(async move {
                    let mut client = match acceptor.accept(stream).into_fallible().await {
                        Ok(client) => client,
                        Err((_, mut stream)) => {
                            // Drain the connection, so that a reset does not discard the alert.
                            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                            return;
                        }
                    };
                    counted.fetch_add(1, Ordering::SeqCst);
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // An error on one side ends both.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            forwarded,
            running,
        }
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub(crate) async fn a_terminator_that_wants_a_client_certificate(stage: &Stage) {
    let (company, stranger) = (authority("company"), authority("stranger"));
    let terminator = Terminator::start(stage.server.address(), &company).await;
    let client = |root: &Authority| {
        let url = format!("https://{}", terminator.address);
        stage.client(url).root_certificate(root.pem())
    };
    let known = certified(client(&company), &company);
    converses(&known, &stage.directory("tls"), LinkStatus::Live).await;

    let directory = stage.directory("tls-refused");
    let (conversation, _model) = start(&known, &directory).await;
    let forwarded = terminator.forwarded.load(Ordering::SeqCst);
    for (what, client) in [
        ("no certificate", client(&company).build().unwrap()),
        (
            "another certificate",
            certified(client(&company), &stranger),
        ),
        ("another authority", certified(client(&stranger), &company)),
    ] {
        let shows = |error: &Error| {
            assert_eq!(error.kind(), ErrorKind::Tls, "{what}: {error}");
            assert!(error.never_sent(), "{what}: {error:?}");
        };
        shows(&client.call(&GetServerInfo::default()).await.unwrap_err());
        shows(&client.socket("/sockets/bash-events").await.unwrap_err());
        let workspace = workspace(&client, &directory);
        let executed = workspace.execute("echo a").await.unwrap_err();
        let written = workspace.write("a", "a").await.unwrap_err();
        for error in [executed, written] {
            assert_eq!(error.kind(), OfWorkspace::Tls, "{what}: {error}");
            shows(error.transport_error().unwrap());
        }
        let attach = Conversation::attach(&client, conversation.id());
        let error = attach.await.unwrap_err();
        assert_eq!(error.kind(), conversation::ErrorKind::Tls, "{error}");
        shows(error.transport_error().unwrap());
    }
    assert_eq!(terminator.forwarded.load(Ordering::SeqCst), forwarded);
}

/// Creates the client, with a certificate of this authority.
fn certified(client: ClientBuilder, authority: &Authority) -> Client {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["client".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let client = client.client_certificate(certificate.pem(), key.serialize_pem());
    client.build().unwrap()
}
