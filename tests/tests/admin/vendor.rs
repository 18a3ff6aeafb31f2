//! The vendor of a subscription: a stand-in on loopback, behind the proxy that the server is
//! configured with.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use openhands::process::LocalServerBuilder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::CANARY;

const HOSTS: [&str; 2] = ["auth.openai.com", "chatgpt.com"];

/// The parts of the vendor that the server uses.
pub(crate) struct Vendor {
    proxy: SocketAddr,
    authority: PathBuf,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    approved: AtomicBool,
    fails: AtomicBool,
    model_asked: AtomicBool,
    polled: Notify,
}

impl Vendor {
    /// Starts the stand-in and writes its certificate authority into `home`.
    pub(crate) async fn start(home: &TempDir) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Python 3.13 and newer require this and the authority key identifier.
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = home.path().join("authority.pem");
        std::fs::write(&authority, issuer.pem()).unwrap();
        let mut params = CertificateParams::new(HOSTS.map(str::to_owned)).unwrap();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, acceptor.clone(), shared.clone()));
            }
        });
        Self {
            proxy,
            authority,
            state,
        }
    }

    /// Configures the server to use the stand-in.
    pub(crate) fn used_by(&self, server: LocalServerBuilder) -> LocalServerBuilder {
        server
            .env("HTTPS_PROXY", format!("http://{}", self.proxy))
            .env("SSL_CERT_FILE", &self.authority)
    }

    /// Returns the code that the user enters.
    pub(crate) fn code(&self) -> &'static str {
        "ABCD-EFGH"
    }

    /// Waits until the server has asked whether the user has entered the code.
    pub(crate) async fn polled(&self) {
        self.state.polled.notified().await;
    }

    /// Enters the code, as the user would.
    pub(crate) fn approve(&self) {
        self.state.approved.store(true, Ordering::SeqCst);
    }

    /// Rejects each login from now on.
    pub(crate) fn fail(&self) {
        self.state.fails.store(true, Ordering::SeqCst);
    }

    /// Returns whether a model was asked with the token of a login.
    pub(crate) fn model_was_asked(&self) -> bool {
        self.state.model_asked.load(Ordering::SeqCst)
    }
}

async fn tunnel(mut stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let Some(head) = head(&mut stream).await else {
        return;
    };
    if !HOSTS
        .iter()
        .any(|host| head.starts_with(&format!("CONNECT {host}:443 ")))
    {
        return;
    }
    let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
    stream.write_all(open).await.unwrap();
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    while let Some(head) = self::head(&mut stream).await {
        let length = value(&head, "content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let (status, body) = answer(&head, &state);
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn answer(head: &str, state: &State) -> (&'static str, Value) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    match target {
        _ if state.fails.load(Ordering::SeqCst) => ("500 Internal Server Error", json!({})),
        "/api/accounts/deviceauth/usercode" => (
            "200 OK",
            json!({"device_auth_id": "auth-id", "user_code": "ABCD-EFGH", "interval": "1"}),
        ),
        "/api/accounts/deviceauth/token" => {
            state.polled.notify_one();
            match state.approved.load(Ordering::SeqCst) {
                true => (
                    "200 OK",
                    json!({"authorization_code": "c", "code_verifier": "v"}),
                ),
                false => ("403 Forbidden", json!({})),
            }
        }
        "/oauth/token" => (
            "200 OK",
            json!({"access_token": CANARY, "refresh_token": CANARY, "expires_in": 3600}),
        ),
        _ if target.starts_with("/backend-api/") => {
            let token = value(head, "authorization");
            let known = token.as_deref() == Some(&format!("Bearer {CANARY}"));
            state.model_asked.fetch_or(known, Ordering::SeqCst);
            (
                "401 Unauthorized",
                json!({"error": {"message": "no such account"}}),
            )
        }
        _ => ("404 Not Found", json!({"keys": []})),
    }
}

/// Returns the value of a header.
fn value(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
