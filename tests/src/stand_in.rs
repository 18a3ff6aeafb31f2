//! A stand-in for a service on the internet, behind the proxy that a server is configured with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use openhands::process::LocalServerBuilder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// A response of a stand-in.
#[derive(Debug)]
pub struct Answer {
    status: &'static str,
    header: &'static str,
    body: Value,
}

impl Answer {
    /// Creates a response with this status line, such as `200 OK`, and a JSON body.
    #[must_use]
    pub fn new(status: &'static str, body: Value) -> Self {
        Self {
            status,
            header: "",
            body,
        }
    }

    /// Adds a header, such as `Link: <…>`.
    #[must_use]
    pub fn header(mut self, header: &'static str) -> Self {
        self.header = header;
        self
    }
}

/// Responds to a request with this head.
type Service = dyn Fn(&str) -> Answer + Send + Sync;

/// A proxy on loopback that responds in place of some hosts.
#[derive(Debug)]
pub struct StandIn {
    proxy: SocketAddr,
    authority: PathBuf,
}

impl StandIn {
    /// Starts the proxy and writes its certificate authority into `home`. Connections to other
    /// hosts are closed.
    ///
    /// # Panics
    ///
    /// Panics if the proxy cannot be started.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn start(
        home: &TempDir,
        hosts: &'static [&'static str],
        service: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
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
        let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
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
        let service: Arc<Service> = Arc::new(service);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, hosts, acceptor.clone(), service.clone()));
            }
        });
        Self { proxy, authority }
    }

    /// Configures the server to use the stand-in.
    pub fn used_by(&self, server: LocalServerBuilder) -> LocalServerBuilder {
        server
            .env("HTTPS_PROXY", format!("http://{}", self.proxy))
            .env("SSL_CERT_FILE", &self.authority)
    }
}

/// Returns the value of a header.
#[must_use]
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Serves one connection, until it is closed or broken. `None` is its end.
async fn tunnel(
    mut stream: TcpStream,
    hosts: &'static [&'static str],
    acceptor: TlsAcceptor,
    service: Arc<Service>,
) -> Option<()> {
    let connect = read_head(&mut stream).await?;
    let target = connect.strip_prefix("CONNECT ")?.split(' ').next()?;
    if !hosts.contains(&target.strip_suffix(":443")?) {
        return None;
    }
    let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
    stream.write_all(open).await.ok()?;
    let mut stream = acceptor.accept(stream).await.ok()?;
    loop {
        let head = read_head(&mut stream).await?;
        let length = header(&head, "content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.ok()?;
        let answer = service(&head);
        let body = answer.body.to_string();
        let mut response = format!("HTTP/1.1 {}\r\n", answer.status);
        if !answer.header.is_empty() {
            response += answer.header;
            response += "\r\n";
        }
        response += "Content-Type: application/json\r\nContent-Length: ";
        response += &format!("{}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
