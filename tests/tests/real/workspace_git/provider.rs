//! Repositories of a provider: a GitHub stand-in on loopback, behind the proxy that the server is
//! configured with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use openhands::{
    LocalServer, Workspace,
    process::LocalServerBuilder,
    protocol::{Request, calls::git::SearchRepositories},
    transport::Body,
    workspace::ErrorKind,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
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

const HOST: &str = "api.github.com";
const TOKEN: &str = "canary-of-the-provider";

/// The part of GitHub that the server uses.
pub(super) struct Provider {
    proxy: SocketAddr,
    authority: PathBuf,
}

impl Provider {
    /// Starts the stand-in and writes its certificate authority into `home`.
    pub(super) async fn start(home: &TempDir) -> Self {
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

        let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
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
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, acceptor.clone()));
            }
        });
        Self { proxy, authority }
    }

    /// Configures the server to use the stand-in.
    pub(super) fn reported(&self, server: LocalServerBuilder) -> LocalServerBuilder {
        server
            .env("HTTPS_PROXY", format!("http://{}", self.proxy))
            .env("SSL_CERT_FILE", &self.authority)
    }
}

async fn tunnel(mut stream: TcpStream, acceptor: TlsAcceptor) {
    let Some(head) = head(&mut stream).await else {
        return;
    };
    if !head.starts_with(&format!("CONNECT {HOST}:443 ")) {
        return;
    }
    let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
    stream.write_all(open).await.unwrap();
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    while let Some(head) = self::head(&mut stream).await {
        let (status, link, body) = answer(&head);
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\n{link}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Returns three repositories on two pages, if the request has the token.
fn answer(head: &str) -> (&'static str, &'static str, Value) {
    let authorized = head.lines().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == format!("Bearer {TOKEN}")
        })
    });
    if !authorized || !head.starts_with("GET /user/repos?") {
        return (
            "401 Unauthorized",
            "",
            json!({"message": "Bad credentials"}),
        );
    }
    let one = |id: u32, name: &str, private: bool| {
        json!({"id": id, "full_name": name, "private": private, "stargazers_count": 7,
               "pushed_at": "2026-01-02T03:04:05Z", "default_branch": "main"})
    };
    if head.contains("&page=2&") {
        return ("200 OK", "", json!([one(3, "ada/engine", true)]));
    }
    (
        "200 OK",
        "Link: <https://api.github.com/user/repos?page=2>; rel=\"next\"\r\n",
        json!([one(1, "ada/notes", false), one(2, "ada/letters", false)]),
    )
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn keep(server: &LocalServer, token: &str) {
    let mut kept = Request::new(http::Method::PUT, "/api/settings/secrets")
        .json(&json!({"name": "GITHUB_TOKEN", "value": token}))
        .unwrap();
    let json = http::HeaderValue::from_static("application/json");
    kept.headers.insert(http::header::CONTENT_TYPE, json);
    let body = Body::from(kept.body.take().unwrap());
    let answer = server.client().stream(kept, body).await.unwrap();
    server.client().accepted(answer).await.unwrap();
}

pub(super) async fn repositories_are_searched(server: &LocalServer, workspace: &Workspace) {
    let search = || SearchRepositories::new("github");
    let none = workspace.search_repositories(search()).await.unwrap();
    assert!(none.missing_token && none.items.is_empty(), "{none:?}");

    keep(server, "canary-of-another").await;
    let refused = workspace.search_repositories(search()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");

    keep(server, TOKEN).await;
    let first = workspace.search_repositories(search()).await.unwrap();
    let [notes, letters] = &first.items[..] else {
        panic!("{first:?}")
    };
    assert_eq!((&*notes.full_name, &*notes.id), ("ada/notes", "1"));
    assert_eq!(letters.main_branch.as_deref(), Some("main"));
    assert_eq!((notes.is_public, notes.stargazers_count), (true, Some(7)));
    assert_eq!(notes.git_provider, "github");
    assert!(notes.pushed_at.is_some() && !first.missing_token);
    let next = first.next_page_id.unwrap();
    let last = search().page_id(next);
    let last = workspace.search_repositories(last).await.unwrap();
    assert_eq!(last.items[0].full_name, "ada/engine");
    assert_eq!((last.items.len(), last.next_page_id), (1, None));
    // A page with a different size ends within one of the provider's pages.
    let one = workspace.search_repositories(search().limit(1)).await;
    let second = search()
        .limit(1)
        .page_id(one.unwrap().next_page_id.unwrap());
    let second = workspace.search_repositories(second).await.unwrap();
    assert_eq!(second.items[0].full_name, "ada/letters");
    // The searched repository may be on any page.
    let named = workspace
        .search_repositories(search().query("ENGINE"))
        .await;
    assert_eq!(named.unwrap().items[0].full_name, "ada/engine");

    for wrong in [
        search().page_id("junk"),
        SearchRepositories::new("bitbucket"),
        SearchRepositories::new("junk"),
        search().limit(0),
    ] {
        let error = workspace.search_repositories(wrong).await.unwrap_err();
        let kinds = [ErrorKind::InvalidInput, ErrorKind::Validation];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}
