//! The client of one server: sends typed calls and returns typed responses or errors.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};
use oh_protocol::{
    Answer, Call, Request,
    calls::{
        conversations::Count,
        server::{Alive, GetServerInfo, ServerInfo},
    },
    redact::Redactor,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::debug;
use url::Url;

use crate::{
    Attempt, Body, Capability, Error, ErrorKind, HttpTransport, Liveness, Message, RequestFuture,
    Result, Socket, SocketTransport,
    auth::{Auth, Credentials, SESSION_KEY, key_header},
    capability::{self, Info},
    http::{content, limited, refusal, watched},
    origin::Origin,
};

/// The maximum size of a buffered response. Use [`Client::stream`] for files.
const ANSWER_LIMIT: usize = 512 * 1024 * 1024;
const ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// The maximum size of an error response. The body only serves to explain the error, and no useful
/// explanation is longer.
const REFUSAL_LIMIT: usize = 1024 * 1024;
/// The time limit for the body of an error response. The status is already known and decides the
/// error kind.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// A client of one agent server, with its credentials and connections. Cheap to clone.
///
/// The futures that a client returns own what they need, so tasks can run them:
/// `tokio::spawn(client.check())`.
///
/// ```no_run
/// # async fn connect(key: String) -> Result<(), oh_transport::Error> {
/// use oh_transport::Client;
///
/// let client = Client::builder("https://agents.example.com/team").session_api_key(key).build()?;
/// println!("server {}", client.server_info().await?.version);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    parts: Parts,
    info: Info,
    liveness: watch::Sender<Liveness>,
}

/// The settings that a builder passes to a client.
pub(crate) struct Parts {
    pub(crate) base: Url,
    pub(crate) origin: Origin,
    pub(crate) auth: Auth,
    /// Redacts the values of the caller's headers, which a server may repeat in an error.
    pub(crate) secrets: Redactor,
    /// Headers for WebSocket handshakes.
    pub(crate) headers: HeaderMap,
    /// The same headers, the host and a fixed key, for requests.
    pub(crate) http_headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) read_timeout: Duration,
    pub(crate) http: Arc<dyn HttpTransport>,
    pub(crate) sockets: Arc<dyn SocketTransport>,
    pub(crate) observer: Option<Arc<Observer>>,
}

pub(crate) type Observer = dyn Fn(&Attempt<'_>) + Send + Sync;

impl Client {
    pub(crate) fn from_parts(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            info: Info::default(),
            liveness: watch::Sender::default(),
        }))
    }

    /// Returns the server's base URL, without a trailing slash.
    pub fn base_url(&self) -> &Url {
        &self.0.parts.base
    }

    /// Sends a request with a streamed body and returns the streamed response, regardless of its
    /// status.
    ///
    /// The request is never retried. The response body is read only as the caller consumes it, and
    /// the request body is produced as it is sent.
    ///
    /// # Errors
    ///
    /// Returns an error if no response head arrives. Returns [`ErrorKind::Timeout`] if the transfer
    /// makes no progress for the [read timeout](crate::ClientBuilder::read_timeout); this error can
    /// also occur later, while the response body is read.
    pub fn stream(&self, request: Request, body: Body) -> RequestFuture<Response<Body>> {
        let limit = self.0.parts.read_timeout;
        self.stream_within(request, body, limit)
    }

    /// Sends a request like [`stream`](Self::stream), with a different limit for a transfer without
    /// progress.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`stream`](Self::stream).
    pub fn stream_within(
        &self,
        request: Request,
        body: Body,
        limit: Duration,
    ) -> RequestFuture<Response<Body>> {
        let this = self.clone();
        RequestFuture::new(async move {
            let path = request.path().to_owned();
            let key = this.0.parts.auth.key().await?;
            let answer = this.exchange(&request, body, key.as_ref(), Some(limit));
            match answer.await {
                Ok(answer) => {
                    debug!(path, status = answer.status().as_u16(), "stream");
                    Ok(answer)
                }
                Err(error) => {
                    this.invalidate_after(&error);
                    debug!(path, failure = ?error.kind(), "stream");
                    Err(error.with_target(&path))
                }
            }
        })
    }

    /// Returns a response with a 2xx status unchanged, and converts any other response to the error
    /// that [`call`](Self::call) would return.
    ///
    /// # Errors
    ///
    /// Returns the error for the status, with the server's explanation.
    pub fn accepted(&self, answer: Response<Body>) -> RequestFuture<Response<Body>> {
        let this = self.clone();
        RequestFuture::new(async move {
            if answer.status().is_success() {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            let key = this.0.parts.auth.known();
            let error = this.refused(&head, body, key.iter()).await;
            let error = error.with_key(key.is_some());
            this.invalidate_after(&error);
            Err(error)
        })
    }

    /// Returns the error for a response that the call does not accept. A body that breaks or does
    /// not arrive in time is left out, because the status alone decides the kind of the error.
    async fn refused(
        &self,
        head: &response::Parts,
        body: Body,
        secrets: impl Iterator<Item = &SecretString>,
    ) -> Error {
        let body = timeout(REFUSAL_TIME, body.collect(REFUSAL_LIMIT)).await;
        let body = body.ok().and_then(Result::ok);
        let mut redactor = self.0.parts.secrets.clone();
        secrets.for_each(|secret| redactor.add(secret));
        refusal(head, body.as_deref(), &redactor)
    }

    /// Sends a request and returns the response. Fails if there is no progress for `limit`.
    async fn exchange(
        &self,
        request: &Request,
        body: Body,
        key: Option<&SecretString>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>> {
        let http = &self.0.parts.http;
        let Some(limit) = limit else {
            return http.send(self.prepare(request, body, key)?).await;
        };
        let (body, progress) = watched(body);
        let request = self.prepare(request, body, key)?;
        let answer = tokio::select! {
            answer = http.send(request) => answer?,
            error = progress.stalled(limit) => return Err(error),
        };
        Ok(answer.map(|body| limited(body, limit)))
    }

    /// Closes the idle connections of this client and its clones, so that the next request opens a
    /// new one: for example, after the network or the server's address behind a name has changed.
    ///
    /// Requests in progress continue on their connections, which are closed after them. Sockets are
    /// not affected. All clients that share a [`Network`](crate::Network) share its connections. A
    /// connection that the server has closed is never used again, so no program needs this after a
    /// restart of the server.
    pub fn reset_connections(&self) {
        self.0.parts.http.reset_connections();
    }

    /// Returns the session key of the next request, or `None` if requests carry no key. Some
    /// requests must contain the key in their body; never send it to another server.
    ///
    /// # Errors
    ///
    /// Returns an error if the [`AuthProvider`](crate::AuthProvider) has no key.
    pub fn session_api_key(&self) -> RequestFuture<Option<SecretString>> {
        let this = self.clone();
        RequestFuture::new(async move { this.0.parts.auth.key().await })
    }

    /// Opens a socket at `target` (path and query below the base URL) and sends the session key in
    /// its first frame. Without a key, the client still sends an authentication frame, which a
    /// server without authentication ignores.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection or the handshake fails. A wrong key is reported later, by
    /// the first call to [`Socket::recv`].
    pub fn socket(&self, target: impl Into<String>) -> RequestFuture<Socket> {
        let (this, target) = (self.clone(), target.into());
        RequestFuture::new(async move { this.open_socket(&target).await })
    }

    async fn open_socket(&self, target: &str) -> Result<Socket> {
        let parts = &self.0.parts;
        let mut url =
            Url::parse(&self.url(target)?).map_err(|error| no_path().with_source(error))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            return Err(no_path());
        }
        let key = parts.auth.key().await?;
        if let Some(key) = &key {
            key_header(key)?;
        }
        let begun = Instant::now();
        let socket = parts.sockets.connect(&url, &parts.headers).await;
        debug!(
            path = url.path(), failure = ?socket.as_ref().err().map(Error::kind),
            elapsed_ms = begun.elapsed().as_millis() as u64, "socket",
        );
        let socket = socket.map_err(|error| {
            self.0.info.invalidate();
            error.with_target(target)
        })?;
        let key = key.as_ref().map(ExposeSecret::expose_secret);
        let frame = serde_json::json!({ "type": "auth", "session_api_key": key.unwrap_or("") });
        socket.send(Message::Text(frame.to_string().into())).await?;
        Ok(socket)
    }

    /// Returns the server's version, tools and capabilities.
    ///
    /// The request needs no session key, so it also succeeds with a wrong one: use
    /// [`check`](Self::check) to check the key.
    ///
    /// The response is cached for at most 30 s. A request or a socket that fails to reach the
    /// server invalidates the cache, so that a change of the server's version is detected.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotAnAgentServer`] if another kind of server responds. Otherwise
    /// returns the errors of [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: if the caller that sends the request is dropped, the next
    /// waiting caller sends it.
    pub fn server_info(&self) -> RequestFuture<Arc<ServerInfo>> {
        let this = self.clone();
        RequestFuture::new(async move { this.0.info.get(this.ask_info()).await })
    }

    async fn ask_info(&self) -> Result<Arc<ServerInfo>> {
        let info = self.call(GetServerInfo::default()).await;
        info.map(Arc::new).map_err(|error| match error.kind() {
            ErrorKind::Decode
            | ErrorKind::NotAnAgentServer
            | ErrorKind::NotFound
            | ErrorKind::Validation
            | ErrorKind::Status => Error::new(
                ErrorKind::NotAnAgentServer,
                format!("{} is not an OpenHands agent server", self.0.parts.base),
            )
            .with_source(error),
            _ => error,
        })
    }

    /// Checks that an agent server of a supported version is at the URL, is active, and accepts the
    /// session key. Sends at most two requests (`GET /server_info`, `GET
    /// /api/conversations/count`).
    ///
    /// ```no_run
    /// # async fn connect(url: &str, key: &str) -> oh_transport::Result<oh_transport::Client> {
    /// let client = oh_transport::Client::builder(url).session_api_key(key).build()?;
    /// client.check().await?;
    /// # Ok(client) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotAnAgentServer`] if another kind of server responds.
    /// - [`ErrorKind::Unsupported`] if the server is older than 1.40.
    /// - [`ErrorKind::Unauthorized`] if the session key is missing or wrong.
    /// - [`ErrorKind::Server`] if the server is dormant.
    /// - Otherwise the errors of [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is changed on the server.
    pub fn check(&self) -> RequestFuture<()> {
        let this = self.clone();
        RequestFuture::new(async move {
            let info = this.server_info().await?;
            capability::check_age(&info)?;
            this.call(Count::default()).await?;
            Ok(())
        })
    }

    /// Returns whether the server responds to `GET /alive` with success. Sends one request and
    /// waits for at most 5 s.
    pub fn is_alive(&self) -> impl Future<Output = bool> + Send + use<> {
        let this = self.clone();
        async move {
            let call = Alive::default();
            let asked = async {
                let own = Credentials::default();
                this.attempt(&call, &call.request()?, &own, None).await
            };
            matches!(timeout(ALIVE_LIMIT, asked).await, Ok(Ok(_)))
        }
    }

    /// Returns whether the server supports an optional capability.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`server_info`](Self::server_info). Returns [`ErrorKind::Unsupported`]
    /// if the server is older than 1.40, whose protocol this crate does not support.
    pub fn has(&self, capability: Capability) -> RequestFuture<bool> {
        let info = self.server_info();
        RequestFuture::new(async move {
            let info = info.await?;
            capability::check_age(&info)?;
            Ok(capability.is_in(&info))
        })
    }

    fn url(&self, target: &str) -> Result<String> {
        check(target)?;
        let base = self.0.parts.base.as_str().trim_end_matches('/');
        Ok(format!("{base}{target}"))
    }

    fn prepare(
        &self,
        request: &Request,
        body: Body,
        key: Option<&SecretString>,
    ) -> Result<http::Request<Body>> {
        let parts = &self.0.parts;
        let mut built = http::Request::new(body);
        *built.method_mut() = request.method.clone();
        check(&request.target)?;
        *built.uri_mut() = parts.origin.uri(&request.target).ok_or_else(no_path)?;
        *built.headers_mut() = parts.http_headers.clone();
        if let Some(key) = key
            && matches!(parts.auth, Auth::Provider { .. })
        {
            built.headers_mut().insert(SESSION_KEY, key_header(key)?);
        }
        built.headers_mut().extend(request.headers.clone());
        if request.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            let headers = built.headers_mut();
            headers.entry(header::CONTENT_TYPE).or_insert(json);
        }
        Ok(built)
    }

    /// Sends a call once. `limit` is the maximum time without progress.
    pub(crate) async fn attempt<C: Call>(
        &self,
        call: &C,
        request: &Request,
        own: &Credentials,
        limit: Option<Duration>,
    ) -> Result<(StatusCode, C::Output)> {
        let key = match &own.key {
            Some(key) => Some(key.clone()),
            None => self.0.parts.auth.key().await?,
        };
        let body = request.body.clone().map_or_else(Body::empty, Body::from);
        let answer = self.exchange(request, body, key.as_ref(), limit).await?;
        let (head, body) = answer.into_parts();
        if !call.accepts(head.status) {
            let secrets = key.iter().chain(&own.bearer);
            let error = self.refused(&head, body, secrets).await;
            return Err(error.with_key(key.is_some()));
        }
        let body = body.collect(ANSWER_LIMIT).await;
        let body = body.map_err(|error| error.with_status(head.status))?;
        if let Some(encoding) = compressed(&head.headers) {
            let message =
                format!("the response is compressed ({encoding}), which was not requested");
            return Err(Error::new(ErrorKind::Decode, message).with_status(head.status));
        }
        let (kind, length) = (head.headers.get(header::CONTENT_TYPE).cloned(), body.len());
        let answer = Answer::new(head.status, head.headers, body);
        let page = answer.is_web_page();
        match call.decode(answer) {
            Ok(output) => Ok((head.status, output)),
            Err(error) => {
                let error = Error::from(error)
                    .with_status(head.status)
                    .with_detail(content(kind.as_ref(), Some(length)));
                match page {
                    true => Err(error.of_another_server()),
                    false => Err(error),
                }
            }
        }
    }

    /// Returns the default timeouts of a call and of one attempt.
    pub(crate) fn timeouts(&self) -> (Duration, Option<Duration>) {
        (self.0.parts.timeout, self.0.parts.attempt_timeout)
    }

    /// Invalidates the cached capabilities, because the server may have been replaced.
    pub(crate) fn invalidate(&self) {
        self.0.info.invalidate();
    }

    /// Invalidates the cached capabilities if the error shows that the server was not reached, or
    /// that only a gateway in front of it was.
    pub(crate) fn invalidate_after(&self, error: &Error) {
        let unreached = matches!(
            error.kind(),
            ErrorKind::Connect
                | ErrorKind::Proxy
                | ErrorKind::Tls
                | ErrorKind::Interrupted
                | ErrorKind::Timeout
        );
        let status = error.status().map(|status| status.as_u16());
        if unreached || matches!(status, Some(502..=504)) {
            self.invalidate();
        }
    }

    pub(crate) fn observe(&self, attempt: &Attempt<'_>) {
        if let Some(observer) = &self.0.parts.observer {
            observer(attempt);
        }
    }
}

impl Client {
    /// Returns a watch channel for the state that the server's supervisor reports. All clones of a
    /// client share this state.
    ///
    /// The state is [`Liveness::Unknown`] until [`set_liveness`](Self::set_liveness) is called, for
    /// example by `LocalServer`.
    pub fn liveness(&self) -> watch::Receiver<Liveness> {
        self.0.liveness.subscribe()
    }

    /// Sets the state of the server for this client and all its clones. For use by supervisors.
    pub fn set_liveness(&self, liveness: Liveness) {
        // The server may run another version after a restart.
        self.0.info.invalidate();
        self.0.liveness.send_if_modified(|known| {
            let changed = *known != liveness;
            *known = liveness;
            changed
        });
    }

    /// Waits until the server's supervisor reports that the server has exited and will not be
    /// restarted, and returns the reason. Waits forever if the server is not supervised.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the future only waits.
    pub fn server_gone(&self) -> impl Future<Output = Arc<str>> + Send + use<> {
        let mut liveness = self.liveness();
        async move {
            let gone = liveness.wait_for(|known| matches!(known, Liveness::Gone(_)));
            let reason = match gone.await.as_deref() {
                Ok(Liveness::Gone(reason)) => Some(reason.clone()),
                _ => None,
            };
            match reason {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns whether both values are clones of one client and so share connections and
    /// credentials.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Returns the encoding of a compressed body.
fn compressed(headers: &HeaderMap) -> Option<&str> {
    let encoding = headers.get(header::CONTENT_ENCODING)?;
    let encoding = encoding.to_str().unwrap_or("unknown").trim();
    (!encoding.eq_ignore_ascii_case("identity")).then_some(encoding)
}

/// Checks that a target is a percent-encoded path and query.
fn check(target: &str) -> Result<()> {
    // Reject dot segments: other parsers would resolve such a path differently, so it is a
    // mistake or an attack.
    let path = target.split('?').next().unwrap_or_default();
    let dots = |part: &str| matches!(&*part.replace("%2e", ".").replace("%2E", "."), "." | "..");
    let has_dots = path.contains(['.', '%']) && path.split('/').any(dots);
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\');
    if !target.starts_with('/') || !target.bytes().all(plain) || has_dots {
        return Err(no_path());
    }
    Ok(())
}

fn no_path() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the request target must be a percent-encoded path that begins with / and has no dot \
         segments",
    )
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.0.parts.base.as_str())
            .field("key", &self.0.parts.auth.is_set().then_some("set"))
            .finish_non_exhaustive()
    }
}

impl AsRef<Client> for Client {
    fn as_ref(&self) -> &Client {
        self
    }
}
