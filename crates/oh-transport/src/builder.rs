//! Options for a client, set by the caller or by environment variables, and their validation.

use std::{fmt, net::IpAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use oh_protocol::redact::Redactor;
use secrecy::SecretString;
use url::Url;

use crate::{
    Attempt, AuthProvider, Client, Error, ErrorKind, HttpTransport, Network, NetworkBuilder,
    Result, SocketTransport,
    auth::{Auth, SESSION_KEY, key_header},
    client::{Observer, Parts},
    environment::{self, Variables},
    origin::Origin,
};

/// The default `User-Agent` header of a client.
const USER_AGENT: &str = concat!("openhands-rust/", env!("CARGO_PKG_VERSION"));

/// Header values shorter than this are not redacted in the server's responses: they are common
/// flags, not secrets.
const SECRET: usize = 8;
/// The variables with the session key, in order of precedence.
const SESSION_KEYS: [&str; 2] = ["OH_SESSION_API_KEYS_0", "SESSION_API_KEY"];
/// Headers that frame a message or a handshake. A duplicate would make the framing ambiguous.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Options for a [`Client`].
///
/// Unless [`ignore_environment`](Self::ignore_environment) is called, [`build`](Self::build) reads
/// two groups of variables: the proxy variables, which [`NetworkBuilder::ignore_environment`]
/// lists, and the observability variables `OPENHANDS_OBSERVABILITY_METADATA`, `_TAGS`, `_SPAN_NAME`
/// and `_PARENT_SPAN_CONTEXT` (or `LMNR_SPAN_CONTEXT`). The observability variables are sent with
/// every request, to any host, as the headers that the server adds to its traces.
///
/// A client has one server and one session key. No request can name another host, because the key
/// would be sent to it: create a client for each server. For keys that change, use an
/// [`auth_provider`](Self::auth_provider); a [`Call`](oh_protocol::Call) may have its own headers.
///
/// ```no_run
/// # fn build() -> oh_transport::Result<()> {
/// use oh_transport::Client;
/// use std::time::Duration;
///
/// let client = Client::builder("https://agents.example.com/prefix")
///     .session_api_key("key")
///     .header("X-Tenant", "team-a")
///     .timeout(Duration::from_secs(60))
///     .on_attempt(|attempt| eprintln!("{} {:?}", attempt.operation.route, attempt.status))
///     .build()?;
/// # drop(client);
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    url: String,
    auth: Auth,
    headers: Vec<(String, String)>,
    environment: bool,
    timeout: Duration,
    attempt_timeout: Option<Duration>,
    read_timeout: Duration,
    network: NetworkBuilder,
    http: Option<Arc<dyn HttpTransport>>,
    sockets: Option<Arc<dyn SocketTransport>>,
    observer: Option<Arc<Observer>>,
}

impl Client {
    /// Creates a builder for a client of the server at `url`, such as `http://127.0.0.1:8000`.
    ///
    /// A path prefix is kept, but a trailing slash is removed. Building the client reads proxy and
    /// observability variables from the environment; see [`ClientBuilder`].
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            auth: Auth::None,
            headers: Vec::new(),
            environment: true,
            timeout: Duration::from_secs(120),
            attempt_timeout: None,
            read_timeout: Duration::from_secs(120),
            network: Network::builder(),
            http: None,
            sockets: None,
            observer: None,
        }
    }
}

impl ClientBuilder {
    /// Sets the session key. HTTP requests send it in a header, sockets in the first frame.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.auth = Auth::Fixed(key.into());
        self
    }

    /// Sets the session key from the environment variable `OH_SESSION_API_KEYS_0`, or else
    /// `SESSION_API_KEY`. Programs that run in the sandbox of a server have the key in these
    /// variables. An empty variable counts as unset. If both are unset, this changes nothing.
    ///
    /// No other method reads the variables. [`ignore_environment`](Self::ignore_environment) has no
    /// effect on this method.
    pub fn session_api_key_from_env(self) -> Self {
        self.session_api_key_in(&|name| std::env::var_os(name))
    }

    fn session_api_key_in(self, variables: &Variables<'_>) -> Self {
        let mut set = SESSION_KEYS.iter().filter_map(|name| variables(name));
        match set.find(|key| !key.is_empty()) {
            // A key that is not UTF-8 becomes an empty key, which `build` rejects.
            Some(key) => self.session_api_key(key.into_string().unwrap_or_default()),
            None => self,
        }
    }

    /// Sets a provider that returns the session key for each request, for keys that rotate.
    /// Replaces [`session_api_key`](Self::session_api_key).
    pub fn auth_provider(mut self, provider: impl AuthProvider) -> Self {
        self.auth = Auth::provided(Arc::new(provider));
        self
    }

    /// Adds a header to every request and handshake, for example one that a gateway requires.
    ///
    /// The value is treated as a secret. By default a client sends `User-Agent:
    /// openhands-rust/<version>` and `Accept-Encoding: identity`, because it does not decompress
    /// responses. A header set here replaces the default.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the HTTP proxy. See [`NetworkBuilder::proxy`].
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.network = self.network.proxy(url);
        self
    }

    /// Ignores the environment: variables neither choose a proxy nor add headers.
    pub fn ignore_environment(mut self) -> Self {
        self.environment = false;
        self.network = self.network.ignore_environment();
        self
    }

    /// Sets the addresses of a host. See [`NetworkBuilder::resolve`].
    pub fn resolve(mut self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.network = self.network.resolve(host, addresses);
        self
    }

    /// Sets the timeout for opening a connection. Default: 10 s. See
    /// [`NetworkBuilder::connect_timeout`].
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.network = self.network.connect_timeout(limit);
        self
    }

    /// Sets the timeout of a call, including retries. Default: 120 s, because the server delays
    /// some calls until a running tool has finished. Use
    /// [`CallFuture::timeout`](crate::CallFuture::timeout) to set it for a single call.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets how long one attempt of a call may go without progress before the call is retried on
    /// another connection.
    ///
    /// Progress means that part of the request is sent or part of the response arrives. Applies
    /// only to calls that may be repeated. Default: half of the call's [`timeout`](Self::timeout),
    /// but at least 90 s, because a blocking hook freezes the whole server, by default for up to a
    /// minute.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// Sets how long a [`stream`](Client::stream) may go without progress in either direction, and
    /// how long it may wait for the response head. Default: 120 s. The total duration is not
    /// limited.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = limit;
        self
    }

    /// Sets how long an idle connection is kept. Default: 4 s. See
    /// [`NetworkBuilder::idle_timeout`].
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.network = self.network.idle_timeout(limit);
        self
    }

    /// Sets how many HTTP connections may be in use at the same time. Default: no limit. See
    /// [`NetworkBuilder::max_connections`].
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.network = self.network.max_connections(connections);
        self
    }

    /// Sets the timeout for the response to a WebSocket handshake. Default: 30 s. See
    /// [`NetworkBuilder::handshake_timeout`].
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.network = self.network.handshake_timeout(limit);
        self
    }

    /// Sets how long a socket may receive nothing before it counts as lost. Default: 100 s. See
    /// [`NetworkBuilder::silence_timeout`].
    pub fn silence_timeout(mut self, limit: Duration) -> Self {
        self.network = self.network.silence_timeout(limit);
        self
    }

    /// Sets the maximum size of a message that a socket accepts, in bytes. Default: 64 MiB. See
    /// [`NetworkBuilder::max_message`].
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.network = self.network.max_message(bytes);
        self
    }

    /// Adds trusted root certificates, in PEM (one or several) or DER, to those of the platform.
    #[cfg(feature = "tls")]
    pub fn root_certificate(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.network = self.network.root_certificate(certificate);
        self
    }

    /// Sets the client certificate for mTLS. See [`NetworkBuilder::client_certificate`].
    #[cfg(feature = "tls")]
    pub fn client_certificate(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl Into<SecretString>,
    ) -> Self {
        self.network = self.network.client_certificate(chain, key);
        self
    }

    /// Replaces or wraps the HTTP transport; see [`Network`]. Connection settings of this builder
    /// (proxy, certificates, connection timeouts) do not apply to a custom transport.
    pub fn http_transport(mut self, transport: impl HttpTransport) -> Self {
        self.http = Some(Arc::new(transport));
        self
    }

    /// Replaces or wraps the socket transport, as [`http_transport`](Self::http_transport) does for
    /// HTTP.
    pub fn socket_transport(mut self, transport: impl SocketTransport) -> Self {
        self.sockets = Some(Arc::new(transport));
        self
    }

    /// Sets a callback that runs after every attempt of every call, for metrics. The callback runs
    /// inside the call and must not block.
    pub fn on_attempt(mut self, observer: impl Fn(&Attempt<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Creates the client. Reads environment variables (see [`ClientBuilder`]), but opens no
    /// connection.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`] if the URL's scheme is not `http` or `https`, or if the
    /// URL has a user part, a query or a fragment. The same applies to an invalid key, header,
    /// certificate or proxy (set here or by the environment). Returns [`ErrorKind::Tls`] if TLS is
    /// needed and the platform has no usable root certificates.
    pub fn build(self) -> Result<Client> {
        self.build_in(&|name| std::env::var_os(name))
    }

    pub(crate) fn build_in(self, variables: &Variables<'_>) -> Result<Client> {
        let base = base_url(&self.url)?;
        let mut headers = match self.environment {
            true => environment::observability_headers(variables),
            false => HeaderMap::new(),
        };
        let mut secrets = Redactor::new();
        for (name, text) in &self.headers {
            let (name, value) = checked_header(name, text)?;
            headers.append(name, value);
            // Redact the whole value, and the credential after a scheme such as `Bearer`.
            let parts = [
                Some(text.as_str()),
                text.split_once(' ').map(|(_, rest)| rest),
            ];
            for part in parts
                .into_iter()
                .flatten()
                .filter(|part| part.len() >= SECRET)
            {
                secrets.add(&part.into());
            }
        }
        for (name, value) in [
            (header::USER_AGENT, USER_AGENT),
            (header::ACCEPT_ENCODING, "identity"),
        ] {
            let value = HeaderValue::from_static(value);
            headers.entry(name).or_insert(value);
        }
        let origin = Origin::of(&base)?;
        let mut http_headers = headers.clone();
        http_headers.insert(header::HOST, origin.host()?);
        if let Auth::Fixed(key) = &self.auth {
            http_headers.insert(SESSION_KEY, key_header(key)?);
        }
        let (http, sockets) = match (self.http, self.sockets) {
            (Some(http), Some(sockets)) => (http, sockets),
            (http, sockets) => {
                let network = self.network.build_in(variables)?;
                network.check(&base)?;
                (
                    http.unwrap_or_else(|| Arc::new(network.clone())),
                    sockets.unwrap_or_else(|| Arc::new(network)),
                )
            }
        };
        Ok(Client::from_parts(Parts {
            base,
            origin,
            auth: self.auth,
            secrets,
            headers,
            http_headers,
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
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
            .field("key", &self.auth.is_set().then_some("set"))
            .field("headers", &self.headers.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what.to_owned())
}

fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let name: HeaderName = name.parse().map_err(|_| invalid("invalid header name"))?;
    if FRAMING.contains(&name) || name.as_str().starts_with("sec-websocket-") {
        return Err(invalid(&format!(
            "header {name} must not be set: the client sets it itself"
        )));
    }
    if name == SESSION_KEY {
        return Err(invalid(
            "the session key header must not be set: use session_api_key()",
        ));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| invalid(&format!("invalid value of header {name} (hidden)")))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn base_url(text: &str) -> Result<Url> {
    // The text may contain credentials, so the error does not include it.
    let invalid = |why: &str| invalid(&format!("the server URL {why}"));
    if !text.trim().is_empty() && !text.contains(":/") {
        return Err(invalid(
            "has no scheme: add http:// or https:// before the host",
        ));
    }
    let mut url = Url::parse(text.trim()).map_err(|error| {
        invalid("is not a valid URL such as http://127.0.0.1:8000").with_source(error)
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "must not contain a user; use a session key instead",
        ));
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
    use secrecy::ExposeSecret as _;

    use super::*;

    fn refused(builder: ClientBuilder) -> Error {
        let error = builder.ignore_environment().build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        error
    }

    #[test]
    fn an_unusable_url_is_rejected_without_being_shown() {
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
    fn a_url_without_a_scheme_is_rejected_with_the_correction() {
        for url in [
            "localhost:8000",
            "127.0.0.1:8000",
            "agents.example.com",
            "[::1]:8000/x",
        ] {
            assert_eq!(
                refused(Client::builder(url)).to_string(),
                "the server URL has no scheme: add http:// or https:// before the host"
            );
        }
    }

    #[test]
    fn trailing_slashes_are_removed_and_a_prefix_is_kept() {
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
    fn the_newer_variable_of_the_session_key_takes_precedence() {
        let key = |set: &[(&str, &str)]| {
            let builder = Client::builder("http://host").session_api_key("old");
            let builder = builder.session_api_key_in(&|name| {
                let found = set.iter().find(|(known, _)| *known == name)?;
                Some(found.1.into())
            });
            match builder.auth {
                Auth::Fixed(key) => key.expose_secret().to_owned(),
                _ => panic!("no fixed key"),
            }
        };
        let (newer, older) = ("OH_SESSION_API_KEYS_0", "SESSION_API_KEY");
        assert_eq!(key(&[(older, "a"), (newer, "b")]), "b");
        assert_eq!(key(&[(older, "a"), (newer, "")]), "a");
        assert_eq!(key(&[]), "old");
        let broken = Client::builder("http://host").session_api_key_in(&|_| {
            use std::os::unix::ffi::OsStringExt as _;
            Some(std::ffi::OsString::from_vec(vec![b'k', 0xff]))
        });
        refused(broken);
    }

    #[test]
    fn a_key_cannot_inject_a_header() {
        for key in ["", "  ", "a\r\nX-Evil: canary", "a\ncanary", "nul\0canary"] {
            let error = refused(Client::builder("http://host").session_api_key(key));
            assert!(!format!("{error:?} {error}").contains("canary"));
        }
    }

    #[test]
    fn a_header_that_frames_the_message_is_rejected() {
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
