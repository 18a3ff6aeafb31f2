//! One server: typed calls in, typed answers or errors out.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use oh_protocol::{Answer, Call, Repeat, Request, calls::server::ServerInfo};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::OnceCell, time::Instant};
use tracing::{Instrument, debug, debug_span};
use url::Url;

use crate::{
    Backoff, Body, Error, ErrorKind, Message, Result, Socket, SocketTransport,
    connect::Connector,
    http_client::HyperTransport,
    websocket::{FastTransport, SocketLimits},
};

/// The header that carries the session key over HTTP.
const SESSION_KEY: HeaderName = HeaderName::from_static("x-session-api-key");
/// An answer that is read whole; files go through [`Client::stream`].
const ANSWER_LIMIT: usize = 512 * 1024 * 1024;
/// How often a call that may be repeated is tried.
const ATTEMPTS: u32 = 5;

/// Carries HTTP requests. The network is one; a test may be another.
#[async_trait]
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URL and gives the answer as soon as its head is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] or [`ErrorKind::Tls`] only when the server cannot have seen the
    /// request; everything else counts as "may have acted".
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>>;
}

/// A server, with its credentials and connections. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    base: Url,
    key: Option<SecretString>,
    headers: HeaderMap,
    timeout: Duration,
    http: Arc<dyn HttpTransport>,
    sockets: Arc<dyn SocketTransport>,
    info: OnceCell<Arc<ServerInfo>>,
}

/// Makes a [`Client`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    url: String,
    key: Option<SecretString>,
    headers: Vec<(String, String)>,
    connect_timeout: Duration,
    timeout: Duration,
    limits: SocketLimits,
    http: Option<Arc<dyn HttpTransport>>,
    sockets: Option<Arc<dyn SocketTransport>>,
}

impl ClientBuilder {
    /// The session key. Travels in a header (HTTP) and in the first frame (sockets).
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A header for every request and handshake, such as one a gateway wants.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long making a connection may take. Default 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a call may take, its repetitions included. Default 120 s: the server makes some
    /// calls wait until a running tool ends. [`CallFuture::timeout`] sets it for one call.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The largest message a socket accepts, in bytes. Default 64 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
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

    /// Makes the client. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When the URL has no scheme `http` or `https`, has a user part, a query or a fragment, or
    /// when the key or a header cannot stand in a request.
    pub fn build(self) -> Result<Client> {
        let base = base_url(&self.url)?;
        let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, what.to_owned());
        if let Some(key) = &self.key {
            let key = key.expose_secret();
            if key.is_empty() || HeaderValue::from_str(key).is_err() {
                return Err(invalid(
                    "the session key is empty or cannot stand in a header",
                ));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name
                .parse()
                .map_err(|_| invalid("a header's name is not one"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| invalid(&format!("the value of header {name} cannot stand in one")))?;
            headers.append(name, value);
        }
        let connector = Connector::new(self.connect_timeout)?;
        let http = self
            .http
            .unwrap_or_else(|| Arc::new(HyperTransport::new(connector.clone())));
        let sockets = self
            .sockets
            .unwrap_or_else(|| Arc::new(FastTransport::new(connector, self.limits)));
        Ok(Client(Arc::new(Inner {
            base,
            key: self.key,
            headers,
            timeout: self.timeout,
            http,
            sockets,
            info: OnceCell::new(),
        })))
    }
}

fn base_url(text: &str) -> Result<Url> {
    // The text may hold credentials, so it is not repeated.
    let invalid = |why: &str| Error::new(ErrorKind::InvalidInput, format!("the server URL {why}"));
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

impl Client {
    /// Begins a client for the server at `url`, such as `http://127.0.0.1:8000`; a path prefix
    /// is kept, a trailing slash is not.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            key: None,
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(120),
            limits: SocketLimits {
                message: 64 * 1024 * 1024,
                ping_every: Duration::from_secs(20),
                silence: Duration::from_secs(100),
            },
            http: None,
            sockets: None,
        }
    }

    /// The server's base URL, without a trailing slash.
    pub fn base_url(&self) -> &Url {
        &self.0.base
    }

    /// Sends a call; await the result. Dropping it abandons the answer, not what the server does.
    ///
    /// # Errors
    ///
    /// See [`CallFuture`].
    pub fn call<'a, C: Call>(&'a self, call: &'a C) -> CallFuture<'a, C> {
        CallFuture {
            client: self,
            call,
            timeout: self.0.timeout,
        }
    }

    /// Sends a request whose body or answer is streamed, and gives the answer whatever its
    /// status. Never repeated.
    ///
    /// # Errors
    ///
    /// When no answer's head arrives.
    pub async fn stream(&self, request: Request, body: Body) -> Result<Response<Body>> {
        let request = self.prepare(&request, body)?;
        self.0.http.send(request).await
    }

    /// Opens a socket at `target` (path and query below the base URL) and authenticates in its
    /// first frame. A frame is sent even without a key: the server ignores it where it is open.
    ///
    /// # Errors
    ///
    /// When no connection can be made or the handshake fails. A wrong key shows later, as the
    /// first thing that [`Socket::recv`] gives.
    pub async fn socket(&self, target: &str) -> Result<Socket> {
        let mut url = self.url(target)?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "no socket at such a URL",
            ));
        }
        let socket = self.0.sockets.connect(&url, &self.0.headers).await?;
        let key = self.0.key.as_ref().map(ExposeSecret::expose_secret);
        let frame = serde_json::json!({ "type": "auth", "session_api_key": key.unwrap_or("") });
        socket.send(Message::Text(frame.to_string().into())).await?;
        Ok(socket)
    }

    /// What the server says of itself; asked once, then remembered.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAnAgentServer`] when something else answers there.
    pub async fn server_info(&self) -> Result<Arc<ServerInfo>> {
        let asked = self.0.info.get_or_try_init(|| async {
            let info = self
                .call(&oh_protocol::calls::server::GetServerInfo::default())
                .await;
            info.map(Arc::new).map_err(|error| match error.kind() {
                ErrorKind::Decode | ErrorKind::NotFound => Error::new(
                    ErrorKind::NotAnAgentServer,
                    format!("what answers at {} is no agent server", self.0.base),
                )
                .with_source(error),
                _ => error,
            })
        });
        asked.await.cloned()
    }

    fn url(&self, target: &str) -> Result<Url> {
        let base = self.0.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{target}"))
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "no such path").with_source(error))
    }

    fn prepare(&self, request: &Request, body: Body) -> Result<http::Request<Body>> {
        let url = self.url(&request.target)?;
        let mut built = http::Request::new(body);
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|error: http::uri::InvalidUri| {
                Error::new(ErrorKind::InvalidInput, "no such path").with_source(error)
            })?;
        let headers = built.headers_mut();
        headers.extend(self.0.headers.clone());
        headers.extend(request.headers.clone());
        if let Some(key) = &self.0.key {
            let mut value = HeaderValue::from_str(key.expose_secret()).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "the session key cannot stand in a header",
                )
            })?;
            value.set_sensitive(true);
            headers.insert(SESSION_KEY, value);
        }
        Ok(built)
    }

    async fn attempt<C: Call>(&self, call: &C, request: &Request) -> Result<C::Output> {
        let body = request.body.clone().map_or_else(Body::empty, Body::from);
        let mut prepared = self.prepare(request, body)?;
        if request.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            prepared
                .headers_mut()
                .entry(header::CONTENT_TYPE)
                .or_insert(json);
        }
        let (head, body) = self.0.http.send(prepared).await?.into_parts();
        let body = body.collect(ANSWER_LIMIT).await?;
        if !call.accepts(head.status) {
            return Err(refusal(head.status, &head.headers, &body));
        }
        Ok(call.decode(Answer::new(head.status, head.headers, body))?)
    }
}

/// The error that an answer is, with what the server says about it.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Error {
    #[derive(serde::Deserialize, Default)]
    struct Wire {
        detail: Option<serde_json::Value>,
        exception: Option<String>,
        error_id: Option<String>,
    }
    let wire: Wire = serde_json::from_slice(body).unwrap_or_default();
    let detail = match wire.detail {
        Some(serde_json::Value::String(text)) => Some(match wire.exception {
            Some(exception) => format!("{text}: {exception}"),
            None => text,
        }),
        Some(serde_json::Value::Array(entries)) => Some(
            entries
                .iter()
                .map(|entry| {
                    let path = entry["loc"].as_array().map(|parts| {
                        let parts = parts.iter().map(|part| part.to_string().replace('"', ""));
                        parts.collect::<Vec<_>>().join(".")
                    });
                    let message = entry["msg"].as_str().unwrap_or_default();
                    format!("{}: {message}", path.unwrap_or_default())
                })
                .collect::<Vec<_>>()
                .join("; "),
        ),
        _ if body.is_empty() => None,
        _ => {
            let content = headers
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok());
            Some(format!(
                "{} bytes of {}",
                body.len(),
                content.unwrap_or("unknown content")
            ))
        }
    };
    let delay = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    Error::from_status(status)
        .with_detail(detail, wire.error_id)
        .with_retry_after(delay)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.0.base.as_str())
            .field("key", &self.0.key.as_ref().map(|_| "set"))
            .finish_non_exhaustive()
    }
}

impl AsRef<Client> for Client {
    fn as_ref(&self) -> &Client {
        self
    }
}

/// A call on its way. Await it for the typed answer.
///
/// A call that is [`Repeat::Idempotent`] is tried again after network failures, 429 and 5xx, with
/// capped and jittered delays. One that is [`Repeat::Never`] is tried again only when no
/// connection was made.
#[must_use = "a call does nothing until it is awaited"]
pub struct CallFuture<'a, C> {
    client: &'a Client,
    call: &'a C,
    timeout: Duration,
}

impl<C> CallFuture<'_, C> {
    /// How long it may take, its repetitions included.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<C> fmt::Debug for CallFuture<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<'a, C: Call> IntoFuture for CallFuture<'a, C> {
    type Output = Result<C::Output>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let operation = self.call.operation();
        let span = debug_span!("call", method = %operation.method, route = operation.route);
        let work = async move {
            let request = self.call.request()?;
            let deadline = Instant::now() + self.timeout;
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
            loop {
                let attempt = self.client.attempt(self.call, &request);
                let error = match tokio::time::timeout_at(deadline, attempt).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => error.with_target(request.path()),
                    Err(_) => {
                        let message = format!("no answer within {:?}", self.timeout);
                        let error = Error::new(ErrorKind::Timeout, message);
                        return Err(error.with_target(request.path()));
                    }
                };
                let delay = backoff.next_delay();
                let delay = error.retry_after().unwrap_or(delay);
                let again = may_repeat(&error, operation.repeat)
                    && backoff.attempts() < ATTEMPTS
                    && Instant::now() + delay < deadline;
                debug!(kind = ?error.kind(), attempt = backoff.attempts(), again, "call failed");
                if !again {
                    return Err(error);
                }
                tokio::time::sleep(delay).await;
            }
        };
        Box::pin(work.instrument(span))
    }
}

/// The one place that decides what is sent again.
fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match error.kind() {
        // The server has seen nothing.
        ErrorKind::Connect => true,
        ErrorKind::Interrupted | ErrorKind::RateLimited | ErrorKind::Server => {
            repeat == Repeat::Idempotent
        }
        _ => false,
    }
}
