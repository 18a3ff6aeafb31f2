//! One server: typed calls in, typed answers or errors out.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use oh_protocol::{
    Answer, Call, Request,
    calls::server::{Alive, GetServerInfo, ServerInfo},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{OnceCell, watch},
    time::{Instant, timeout},
};
use tracing::debug;
use url::Url;

use crate::{
    Attempt, Body, CallFuture, Capability, ClientBuilder, Error, ErrorKind, Liveness, Message,
    Result, Socket, SocketTransport, capability,
    refusal::{content, refusal},
    stall,
};

/// The header that carries the session key over HTTP.
pub(crate) const SESSION_KEY: HeaderName = HeaderName::from_static("x-session-api-key");
/// An answer that is read whole; files go through [`Client::stream`].
const ANSWER_LIMIT: usize = 512 * 1024 * 1024;
const ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// A refusal is read for what it says: one this long says nothing to us.
const REFUSAL_LIMIT: usize = 1024 * 1024;

/// Carries HTTP requests. The network is one; a test may be another.
#[async_trait]
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URL and gives the answer as soon as its head is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] only when the server cannot have seen the request, and a new try
    /// may go better; [`ErrorKind::Interrupted`] when it may have acted, and a new try may go
    /// better. Nothing else is tried again.
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>>;
}

/// A server, with its credentials and connections. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    parts: Parts,
    info: OnceCell<Arc<ServerInfo>>,
    liveness: watch::Sender<Liveness>,
}

/// What a builder puts together.
pub(crate) struct Parts {
    pub(crate) base: Url,
    pub(crate) key: Option<SecretString>,
    /// For handshakes.
    pub(crate) headers: HeaderMap,
    /// The same and the key, for requests.
    pub(crate) http_headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) http: Arc<dyn HttpTransport>,
    pub(crate) sockets: Arc<dyn SocketTransport>,
    pub(crate) observer: Option<Arc<Observer>>,
}

pub(crate) type Observer = dyn Fn(&Attempt<'_>) + Send + Sync;

impl Client {
    /// Begins a client for the server at `url`, such as `http://127.0.0.1:8000`; a path prefix
    /// is kept, a trailing slash is not.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    pub(crate) fn from_parts(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            info: OnceCell::new(),
            liveness: watch::Sender::default(),
        }))
    }

    /// The server's base URL, without a trailing slash.
    pub fn base_url(&self) -> &Url {
        &self.0.parts.base
    }

    /// Sends a call; await the result. Dropping it abandons the answer, not what the server does.
    ///
    /// # Errors
    ///
    /// See [`CallFuture`].
    pub fn call<'a, C: Call>(&'a self, call: &'a C) -> CallFuture<'a, C> {
        CallFuture::new(self, call, self.0.parts.timeout)
    }

    /// Sends a request whose body or answer is streamed, and gives the answer whatever its
    /// status. Never repeated. Nothing is read ahead of whoever takes the answer's body, and the
    /// request's is produced as it leaves.
    ///
    /// # Errors
    ///
    /// When no answer's head arrives; [`ErrorKind::Timeout`] when the transfer stands still for
    /// the [read timeout](ClientBuilder::read_timeout), here or later in the answer's body.
    pub async fn stream(&self, request: Request, body: Body) -> Result<Response<Body>> {
        let limit = self.0.parts.read_timeout;
        self.stream_within(request, body, limit).await
    }

    /// As [`stream`](Self::stream), with another limit to standing still.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub async fn stream_within(
        &self,
        request: Request,
        body: Body,
        limit: Duration,
    ) -> Result<Response<Body>> {
        let (body, progress) = stall::watched(body);
        let path = request.path().to_owned();
        let request = self.prepare(&request, body)?;
        let answer = tokio::select! {
            answer = self.0.parts.http.send(request) => answer,
            error = progress.stalled(limit) => Err(error),
        };
        match answer {
            Ok(answer) => {
                debug!(path, status = answer.status().as_u16(), "stream");
                Ok(answer.map(|body| stall::limited(body, limit)))
            }
            Err(error) => {
                debug!(path, failure = ?error.kind(), "stream");
                Err(error.with_target(&path))
            }
        }
    }

    /// Passes on an answer with a 2xx status, and makes an error of any other, as
    /// [`call`](Self::call) does.
    ///
    /// # Errors
    ///
    /// The refusal, with what the server says about it.
    pub async fn accepted(&self, answer: Response<Body>) -> Result<Response<Body>> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        Err(self.refused(&head, body).await)
    }

    async fn refused(&self, head: &http::response::Parts, body: Body) -> Error {
        // What it says is known by its status even where the rest is lost.
        let body = body.collect(REFUSAL_LIMIT).await.ok();
        refusal(head, body.as_deref(), self.0.parts.key.as_ref())
    }

    /// Opens a socket at `target` (path and query below the base URL) and authenticates in its
    /// first frame. A frame is sent even without a key: the server ignores it where it is open.
    ///
    /// # Errors
    ///
    /// When no connection can be made or the handshake fails. A wrong key shows later, as the
    /// first thing that [`Socket::recv`] gives.
    pub async fn socket(&self, target: &str) -> Result<Socket> {
        let parts = &self.0.parts;
        let mut url =
            Url::parse(&self.url(target)?).map_err(|error| no_path().with_source(error))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            return Err(no_path());
        }
        let begun = Instant::now();
        let socket = parts.sockets.connect(&url, &parts.headers).await;
        debug!(
            path = url.path(), failure = ?socket.as_ref().err().map(Error::kind),
            elapsed_ms = begun.elapsed().as_millis() as u64, "socket",
        );
        let socket = socket.map_err(|error| error.with_target(target))?;
        let key = parts.key.as_ref().map(ExposeSecret::expose_secret);
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
            let info = self.call(&GetServerInfo::default()).await;
            info.map(Arc::new).map_err(|error| match error.kind() {
                ErrorKind::Decode | ErrorKind::NotFound | ErrorKind::Status => Error::new(
                    ErrorKind::NotAnAgentServer,
                    format!("what answers at {} is no agent server", self.0.parts.base),
                )
                .with_source(error),
                _ => error,
            })
        });
        asked.await.cloned()
    }

    /// Whether a server answers `GET /alive` with success. Asks once, for at most 5 s.
    pub async fn is_alive(&self) -> bool {
        let call = Alive::default();
        let asked = async { self.attempt(&call, &call.request()?).await };
        matches!(timeout(ALIVE_LIMIT, asked).await, Ok(Ok(_)))
    }

    /// Whether the server has something that not every server has.
    ///
    /// # Errors
    ///
    /// As [`server_info`](Self::server_info); [`ErrorKind::Unsupported`] when the server is older
    /// than 1.40, whose wire this crate does not know.
    pub async fn has(&self, capability: Capability) -> Result<bool> {
        let info = self.server_info().await?;
        capability::check_age(&info)?;
        Ok(capability.is_in(&info))
    }

    fn url(&self, target: &str) -> Result<String> {
        // A path that another reader would understand otherwise is a mistake or an attack.
        let path = target.split('?').next().unwrap_or_default();
        let dots =
            |part: &str| matches!(&*part.replace("%2e", ".").replace("%2E", "."), "." | "..");
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\');
        if !target.starts_with('/') || !target.bytes().all(plain) || path.split('/').any(dots) {
            return Err(no_path());
        }
        let base = self.0.parts.base.as_str().trim_end_matches('/');
        Ok(format!("{base}{target}"))
    }

    fn prepare(&self, request: &Request, body: Body) -> Result<http::Request<Body>> {
        let parts = &self.0.parts;
        let mut built = http::Request::new(body);
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = http::Uri::try_from(self.url(&request.target)?)
            .map_err(|error| no_path().with_source(error))?;
        *built.headers_mut() = parts.http_headers.clone();
        built.headers_mut().extend(request.headers.clone());
        Ok(built)
    }

    pub(crate) async fn attempt<C: Call>(
        &self,
        call: &C,
        request: &Request,
    ) -> Result<(http::StatusCode, C::Output)> {
        let parts = &self.0.parts;
        let body = request.body.clone().map_or_else(Body::empty, Body::from);
        let mut prepared = self.prepare(request, body)?;
        if request.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            prepared
                .headers_mut()
                .entry(header::CONTENT_TYPE)
                .or_insert(json);
        }
        let (head, body) = parts.http.send(prepared).await?.into_parts();
        if !call.accepts(head.status) {
            return Err(self.refused(&head, body).await);
        }
        let body = body.collect(ANSWER_LIMIT).await;
        let body = body.map_err(|error| error.with_status(head.status))?;
        let told = content(&head, Some(&body));
        match call.decode(Answer::new(head.status, head.headers, body)) {
            Ok(output) => Ok((head.status, output)),
            Err(error) => Err(Error::from(error)
                .with_status(head.status)
                .with_detail(told)),
        }
    }

    pub(crate) fn liveness_sender(&self) -> &watch::Sender<Liveness> {
        &self.0.liveness
    }

    pub(crate) fn observe(&self, attempt: &Attempt<'_>) {
        if let Some(observer) = &self.0.parts.observer {
            observer(attempt);
        }
    }
}

fn no_path() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a target must be a path from / on, percent-encoded, without dot segments",
    )
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.0.parts.base.as_str())
            .field("key", &self.0.parts.key.as_ref().map(|_| "set"))
            .finish_non_exhaustive()
    }
}

impl AsRef<Client> for Client {
    fn as_ref(&self) -> &Client {
        self
    }
}
