//! A pool of HTTP/1.1 connections. Opens connections and reuses idle ones, and resends a request
//! only if no byte of it was sent.
//!
//! The pool of `hyper-util` took a third of the instructions of a small request: it starts a task
//! and a channel for each request, and prepares a connection before it looks for an idle one.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::{
    Body, Error, ErrorKind, Result,
    net::{self, Connector, Target},
};

/// The maximum number of idle connections to a server.
const IDLE: usize = 8;
/// The shortest time between two checks for connections that were idle for too long.
const OFTEN: Duration = Duration::from_millis(10);

/// A pool of connections. Cheap to clone. Dropping the last clone closes the idle connections.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    /// How long a connection may be idle.
    limit: Duration,
    /// Idle connections, and since when they are idle. The newest is last.
    idle: Mutex<Vec<(Connection, Instant)>>,
}

struct Connection {
    server: Server,
    sender: http1::SendRequest<Outgoing>,
    /// Whether requests go through a forwarding proxy and must contain the absolute URL.
    forwarded: bool,
}

#[derive(Clone, PartialEq)]
struct Server(Scheme, Authority);

/// A connection in use. Dropping this value closes the connection.
struct Leased {
    connection: Connection,
    reused: bool,
    pool: Weak<Inner>,
}

impl Pool {
    /// Creates a pool that closes a connection which is idle for longer than `limit`.
    pub(super) fn new(connector: Connector, limit: Duration) -> Self {
        Self(Arc::new(Inner {
            connector,
            limit,
            idle: Mutex::default(),
        }))
    }

    /// Sends a request and returns the response. Other requests can use the connection once the
    /// body has been read.
    ///
    /// If an idle connection turns out to be closed before any byte of the request was sent, the
    /// request is sent on another connection.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let uri = request.uri().clone();
        let server = Server::of(&uri)?;
        if !request.headers().contains_key(header::HOST) {
            let host = server.host()?;
            request.headers_mut().insert(header::HOST, host);
        }
        let mut request = request.map(Outgoing);
        loop {
            let mut leased = match self.reuse(&server) {
                Some(leased) => leased,
                None => self.connect(&server, &uri).await?,
            };
            *request.uri_mut() = match leased.connection.forwarded {
                true => uri.clone(),
                false => path_of(&uri),
            };
            let sent = leased.connection.sender.try_send_request(request);
            let mut error = match sent.await {
                Ok(response) => return Ok(leased.read(response)),
                Err(error) => error,
            };
            request = match error.take_message() {
                Some(unsent) if leased.reused => unsent,
                _ => return Err(classify(error.into_error())),
            };
        }
    }

    fn reuse(&self, server: &Server) -> Option<Leased> {
        let mut idle = self.0.usable();
        let ready = |(connection, _): &(Connection, Instant)| {
            connection.server == *server && connection.sender.is_ready()
        };
        let (connection, _) = idle.iter().rposition(ready).map(|at| idle.remove(at))?;
        Some(self.leased(connection, true))
    }

    async fn connect(&self, server: &Server, uri: &Uri) -> Result<Leased> {
        let connected = self.0.connector.connect(&Target::of_uri(uri)).await?;
        let stream = TokioIo::new(connected.stream);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(classify)?;
        let (pool, limit) = (Arc::downgrade(&self.0), self.0.limit);
        let driving = tokio::spawn(async move {
            let mut connection = pin!(connection);
            loop {
                tokio::select! {
                    biased;
                    ended = &mut connection => {
                        if let Err(error) = &ended {
                            debug!(%error, "a connection has ended");
                        }
                        return ended;
                    }
                    // Closes connections that nobody asks for any more.
                    () = sleep(limit.max(OFTEN)) => drop(pool.upgrade().map(|pool| drop(pool.usable()))),
                }
            }
        });
        if let Err(error) = sender.ready().await {
            // The task knows why.
            let error = driving.await.ok().and_then(Result::err).unwrap_or(error);
            return Err(classify(error));
        }
        let connection = Connection {
            server: server.clone(),
            sender,
            forwarded: connected.forwarded,
        };
        Ok(self.leased(connection, false))
    }

    fn leased(&self, connection: Connection, reused: bool) -> Leased {
        Leased {
            connection,
            reused,
            pool: Arc::downgrade(&self.0),
        }
    }
}

impl Inner {
    /// Locks the idle connections, and closes those that can no longer be used.
    fn usable(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        idle.retain(|(connection, since)| {
            !connection.sender.is_closed() && now.duration_since(*since) < self.limit
        });
        idle
    }
}

impl Leased {
    /// Converts the body of a response, with which the connection is kept.
    fn read(self, response: Response<Incoming>) -> Response<Body> {
        // After an unhandled exception, the server closes the connection without a `Connection:
        // close` header. A request that must not be repeated would be lost on it.
        let reusable = response.status() != StatusCode::INTERNAL_SERVER_ERROR;
        response.map(|body| {
            let length = http_body::Body::size_hint(&body).exact();
            Body::from_stream(Chunks::new(body, self, reusable), length)
        })
    }

    /// Makes the connection available for other requests.
    fn release(self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        let mut idle = pool.usable();
        let same = |(other, _): &(Connection, Instant)| other.server == self.connection.server;
        if idle.iter().filter(|other| same(other)).count() >= IDLE
            && let Some(oldest) = idle.iter().position(same)
        {
            idle.remove(oldest);
        }
        idle.push((self.connection, Instant::now()));
    }
}

impl Server {
    fn of(uri: &Uri) -> Result<Self> {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => Ok(Self(scheme.clone(), authority.clone())),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                "the URL of a request must be absolute",
            )),
        }
    }

    /// Returns the value of the `Host` header: without credentials and default port.
    fn host(&self) -> Result<HeaderValue> {
        let Self(scheme, authority) = self;
        let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        HeaderValue::try_from(host).map_err(|error| {
            let message = "the host of the URL is not a valid header value";
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })
    }
}

fn path_of(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.unwrap_or_else(|| PathAndQuery::from_static("/"))
        .into()
}

/// Converts an error of hyper. All higher layers depend on whether the server can have seen the
/// request.
fn classify(error: hyper::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        // The request body failed after part of it may have been sent.
        if let Some(ours) = inner.downcast_ref::<Error>() {
            let failed = Error::new(ours.kind(), "cannot read the request body");
            return failed.sent().with_source(error);
        }
        if inner.downcast_ref().is_some_and(net::is_handshake_alert) {
            let message = "the server rejected the TLS handshake";
            return Error::new(ErrorKind::Tls, message).with_source(error);
        }
        let hyper = inner.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(hyper::Error::is_parse) {
            return Error::new(ErrorKind::Decode, "the response is not HTTP").with_source(error);
        }
        cause = inner.source();
    }
    Error::new(
        ErrorKind::Interrupted,
        "the connection ended before the response",
    )
    .with_source(error)
}

/// A request body, in the form that hyper expects.
struct Outgoing(Body);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        use futures_core::Stream as _;
        Pin::new(&mut self.0).poll_next(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .length()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A response body as a stream of chunks.
struct Chunks {
    body: Incoming,
    /// The connection, until the body has ended.
    connection: Option<Leased>,
    /// Whether other requests may use the connection after this body.
    reusable: bool,
}

impl Chunks {
    fn new(body: Incoming, connection: Leased, reusable: bool) -> Self {
        let mut chunks = Self {
            body,
            connection: Some(connection),
            reusable,
        };
        chunks.release_at_end();
        chunks
    }

    fn release_at_end(&mut self) {
        if http_body::Body::is_end_stream(&self.body) {
            self.release();
        }
    }

    fn release(&mut self) {
        let connection = self.connection.take();
        if let Some(connection) = connection.filter(|_| self.reusable) {
            connection.release();
        }
    }
}

impl futures_core::Stream for Chunks {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use http_body::Body as _;
        loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.release_at_end();
            return match frame {
                None => {
                    self.release();
                    Poll::Ready(None)
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Poll::Ready(Some(Err(Error::new(
                    ErrorKind::Interrupted,
                    "the connection ended before the response was complete",
                )
                .with_source(error)))),
            };
        }
    }
}
