//! Makes a client: what its caller says, what the environment says, and what cannot be sent.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    Attempt, Client, Error, ErrorKind, HttpTransport, Result, SocketTransport,
    client::{Observer, Parts, SESSION_KEY},
    connect::Connector,
    environment::{self, Variables},
    http_client::HyperTransport,
    proxy::Proxies,
    tls::Tls,
    websocket::{FastTransport, SocketLimits},
};

/// Headers that frame a message or a handshake: a second one would make it ambiguous.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a [`Client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    url: String,
    key: Option<SecretString>,
    headers: Vec<(String, String)>,
    environment: bool,
    proxy: Option<String>,
    connect_timeout: Duration,
    timeout: Duration,
    read_timeout: Duration,
    idle_timeout: Duration,
    limits: SocketLimits,
    tls: Tls,
    http: Option<Arc<dyn HttpTransport>>,
    sockets: Option<Arc<dyn SocketTransport>>,
    observer: Option<Arc<Observer>>,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            key: None,
            headers: Vec::new(),
            environment: true,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(120),
            read_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(4),
            limits: SocketLimits::default(),
            tls: Tls::default(),
            http: None,
            sockets: None,
            observer: None,
        }
    }

    /// The session key. Travels in a header (HTTP) and in the first frame (sockets).
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A header for every request and handshake, such as one a gateway wants. Its value is
    /// treated as a secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Goes through this HTTP proxy, whatever the host, instead of the one the environment names:
    /// `http://proxy:3128`, or `https://` with user and password where it wants them. Requests
    /// and sockets are tunnelled (`CONNECT`), so the proxy sees the server's name only when the
    /// server is `https`.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Takes nothing from the environment. Otherwise `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` choose a proxy (never for this machine's own addresses), and
    /// `OPENHANDS_OBSERVABILITY_METADATA`, `_TAGS`, `_SPAN_NAME` and `_PARENT_SPAN_CONTEXT` become
    /// the headers that the server hands to its traces.
    pub fn ignore_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// How long making a connection may take, name lookup, proxy and TLS included. Default 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a call may take, its repetitions included. Default 120 s: the server makes some
    /// calls wait until a running tool ends. [`CallFuture::timeout`](crate::CallFuture::timeout)
    /// sets it for one call.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How long a [`stream`](Client::stream) may stand still, in either direction, or keep us
    /// waiting for its answer's head. Default 120 s. There is no limit to how long it may take.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = limit;
        self
    }

    /// How long a connection waits for the next request before it is closed. Default 4 s: the
    /// server closes its end after 5.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How long a socket may bring nothing at all, answers to our pings included, before it
    /// counts as lost. Default 100 s: a blocking hook freezes the whole server, by default for up
    /// to a minute. A ping leaves every fifth of it.
    pub fn silence_timeout(mut self, limit: Duration) -> Self {
        self.limits = self.limits.with_silence(limit);
        self
    }

    /// The largest message a socket accepts, in bytes. Default 64 MiB, at most 1 GiB; the server
    /// sends frames of up to 4 MiB on session sockets, and of any size on legacy ones.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits = self.limits.with_message(bytes);
        self
    }

    /// Trusts these certificates too, PEM (one or several) or DER, besides the platform's.
    #[cfg(feature = "tls")]
    pub fn root_certificate(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.tls.add_root(certificate.as_ref());
        self
    }

    /// Replaces the network for HTTP.
    pub fn http_transport(mut self, transport: impl HttpTransport) -> Self {
        self.http = Some(Arc::new(transport));
        self
    }

    /// Replaces the network for sockets.
    pub fn socket_transport(mut self, transport: impl SocketTransport) -> Self {
        self.sockets = Some(Arc::new(transport));
        self
    }

    /// Is told of every attempt of every call, for metrics. Runs within the call: be quick.
    pub fn on_attempt(mut self, observer: impl Fn(&Attempt<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the client. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When the URL has no scheme `http` or `https`, has a user part, a query or a fragment; when
    /// the key, a header, the proxy or a certificate cannot be used.
    pub fn build(self) -> Result<Client> {
        if self.environment {
            self.build_in(&|name| std::env::var(name).ok())
        } else {
            self.build_in(&|_| None)
        }
    }

    pub(crate) fn build_in(self, variables: &Variables<'_>) -> Result<Client> {
        let base = base_url(&self.url)?;
        let mut headers = environment::observability_headers(variables);
        for (name, value) in &self.headers {
            let (name, value) = checked_header(name, value)?;
            headers.append(name, value);
        }
        let mut http_headers = headers.clone();
        if let Some(key) = &self.key {
            http_headers.insert(SESSION_KEY, key_header(key)?);
        }
        let proxies = match &self.proxy {
            Some(proxy) => Proxies::fixed(proxy)?,
            None => Proxies::ambient(variables),
        };
        let connector = Connector::new(self.connect_timeout, proxies, self.tls, &base)?;
        let http = self
            .http
            .unwrap_or_else(|| Arc::new(HyperTransport::new(connector.clone(), self.idle_timeout)));
        let sockets = self
            .sockets
            .unwrap_or_else(|| Arc::new(FastTransport::new(connector, self.limits)));
        Ok(Client::from_parts(Parts {
            base,
            key: self.key,
            headers,
            http_headers,
            timeout: self.timeout,
            read_timeout: self.read_timeout,
            http,
            sockets,
            observer: self.observer,
        }))
    }
}

// URL, proxy and headers may hold credentials.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("key", &self.key.as_ref().map(|_| "set"))
            .field("headers", &self.headers.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what.to_owned())
}

fn key_header(key: &SecretString) -> Result<HeaderValue> {
    let key = key.expose_secret();
    let value = HeaderValue::from_str(key).ok();
    let mut value = value
        .filter(|_| !key.trim().is_empty())
        .ok_or_else(|| invalid("the session key is empty or cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let name: HeaderName = name
        .parse()
        .map_err(|_| invalid("a header's name is not one"))?;
    if FRAMING.contains(&name) || name.as_str().starts_with("sec-websocket-") {
        return Err(invalid(&format!(
            "header {name} is not the caller's to set"
        )));
    }
    if name == SESSION_KEY {
        return Err(invalid("give the session key with session_api_key()"));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| invalid(&format!("the value of header {name} cannot stand in one")))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn base_url(text: &str) -> Result<Url> {
    // The text may hold credentials, so it is not repeated.
    let invalid = |why: &str| invalid(&format!("the server URL {why}"));
    let mut url = Url::parse(text.trim()).map_err(|error| {
        invalid("is not a URL such as http://127.0.0.1:8000").with_source(error)
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must not hold a user; give a session key instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("must not have a query or a fragment"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: ClientBuilder) -> Error {
        let error = builder.ignore_environment().build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        error
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_without_repeating_it() {
        for url in [
            "",
            "localhost:8000",
            "127.0.0.1:8000",
            "ftp://host/canary",
            "ws://host/canary",
            "file:///canary",
            "http://",
            "http://canary@host",
            "http://user:canary@host",
            "http://host?session_api_key=canary",
            "http://host/#canary",
            "http://host:99999",
            "http://ho st",
        ] {
            let error = refused(Client::builder(url));
            assert!(error.to_string().contains("server URL"), "{url}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{url}");
        }
    }

    #[test]
    fn slashes_at_the_end_are_gone_and_a_prefix_stays() {
        for (given, kept) in [
            ("http://host", "http://host/"),
            ("http://host:8000///", "http://host:8000/"),
            (" https://host/a/b/ ", "https://host/a/b"),
            ("http://[::1]:8000/", "http://[::1]:8000/"),
        ] {
            assert_eq!(base_url(given).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn a_key_cannot_smuggle_a_header() {
        for key in ["", "  ", "a\r\nX-Evil: canary", "a\ncanary", "nul\0canary"] {
            let error = refused(Client::builder("http://host").session_api_key(key));
            assert!(!format!("{error:?} {error}").contains("canary"));
        }
    }

    #[test]
    fn a_header_that_frames_the_message_is_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Upgrade",
            "Sec-WebSocket-Key",
            "X-Session-API-Key",
            "no good",
            "",
        ] {
            refused(Client::builder("http://host").header(name, "value"));
        }
        refused(Client::builder("http://host").header("X-Fine", "two\r\nlines"));
    }

    #[test]
    fn a_builder_shows_no_secret() {
        let builder = Client::builder("http://user:canary@host")
            .session_api_key("canary")
            .header("Authorization", "Bearer canary")
            .proxy("http://user:canary@proxy");
        assert!(!format!("{builder:?}").contains("canary"));
    }
}
