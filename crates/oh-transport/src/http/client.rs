//! The HTTP transport, built on hyper.

use std::{
    error::Error as _,
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream as _;
use http::{Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, rt};
use hyper_util::{
    client::legacy::{Client, connect},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Body, Error, ErrorKind, HttpTransport, Result,
    net::{self, Connector, Stream, Target},
};

/// An HTTP/1.1 transport with a small connection pool. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub(crate) struct HyperTransport {
    /// The pool, which a reset replaces.
    client: Arc<Mutex<Client<Dial, Outgoing>>>,
    idle: Duration,
    connector: Connector,
    /// A permit for each connection that may be in use, if their number is limited.
    permits: Option<Arc<Semaphore>>,
}

impl HyperTransport {
    /// Creates a transport that keeps idle connections for at most `idle`. The server closes idle
    /// connections too, and a request sent at that moment may or may not have been seen.
    pub(crate) fn new(
        connector: Connector,
        idle: Duration,
        connections: Option<NonZeroUsize>,
    ) -> Self {
        let permits = connections.map(|limit| {
            let limit = limit.get().min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(limit))
        });
        Self {
            client: Arc::new(Mutex::new(pool(&connector, idle))),
            idle,
            connector,
            permits,
        }
    }

    /// Returns the present pool.
    fn client(&self) -> Client<Dial, Outgoing> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }
}

#[async_trait]
impl HttpTransport for HyperTransport {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let mut request = request.map(Outgoing);
        let uri = request.uri().clone();
        let forwarder = self.connector.forwarder(&uri)?;
        if let Some(authorization) = forwarder.and_then(|hop| hop.authorization.as_ref()) {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        // Fails only if the semaphore is closed, which never happens.
        let permit = match &self.permits {
            Some(permits) => permits.clone().acquire_owned().await.ok(),
            None => None,
        };
        let connection = connect::capture_connection(&mut request);
        let answer = self.client().request(request).await.map_err(classify)?;
        if let Some(hop) = forwarder
            && answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            return Err(net::refused(hop, answer.status(), "a request"));
        }
        // After an unhandled exception, the server closes the connection without a `Connection:
        // close` header. A request that must not be repeated would be lost on it.
        if answer.status() == StatusCode::INTERNAL_SERVER_ERROR
            && let Some(connection) = &*connection.connection_metadata()
        {
            connection.poison();
        }
        Ok(answer.map(|body| {
            let length = http_body::Body::size_hint(&body).exact();
            Body::from_stream(Chunks(body, permit), length)
        }))
    }

    /// Replaces the pool. The connections of the old one are closed when they are idle.
    fn reset_connections(&self) {
        let fresh = pool(&self.connector, self.idle);
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *client = fresh;
    }
}

/// Creates an empty pool of connections.
fn pool(connector: &Connector, idle: Duration) -> Client<Dial, Outgoing> {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(idle)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(8)
        .build(Dial(connector.clone()))
}

impl fmt::Debug for HyperTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HyperTransport")
    }
}

/// Converts an error of hyper. All higher layers depend on whether the server can have seen the
/// request.
fn classify(error: hyper_util::client::legacy::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref().and_then(DialError::take) {
            return ours;
        }
        // The request body failed after part of it may have been sent.
        if let Some(ours) = inner.downcast_ref::<Error>() {
            let failed = Error::new(ours.kind(), "cannot read the request body");
            return failed.sent().with_source(error);
        }
        if inner.downcast_ref().is_some_and(net::is_handshake_alert) {
            let message = "the server rejected the TLS handshake";
            return Error::new(ErrorKind::Tls, message).with_source(error);
        }
        if inner
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
        {
            return Error::new(ErrorKind::Decode, "the response is not HTTP").with_source(error);
        }
        cause = inner.source();
    }
    let (kind, context) = if error.is_connect() {
        (ErrorKind::Connect, "cannot connect to the server")
    } else {
        (
            ErrorKind::Interrupted,
            "the connection ended before the response",
        )
    };
    Error::new(kind, context).with_source(error)
}

/// A response body as a stream of chunks. Its connection is in use until the body has ended.
struct Chunks(Incoming, Option<OwnedSemaphorePermit>);

impl futures_core::Stream for Chunks {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use http_body::Body as _;
        loop {
            return match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => {
                    self.1 = None;
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

/// A request body, in the form that hyper expects.
struct Outgoing(Body);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        Pin::new(&mut self.0).poll_next(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .length()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connector for hyper's pool.
#[derive(Clone)]
struct Dial(Connector);

/// A wrapper that passes an error of this crate through hyper, to be recovered on the other side.
#[derive(Debug)]
struct DialError(Mutex<Option<Error>>);

impl DialError {
    fn new(error: Error) -> Self {
        Self(Mutex::new(Some(error)))
    }

    fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot connect")
    }
}

impl std::error::Error for DialError {}

impl tower_service::Service<Uri> for Dial {
    type Response = Connection;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.0.clone();
        Box::pin(async move {
            let connected = connector.connect(&Target::of_uri(&uri)).await;
            let connected = connected.map_err(DialError::new)?;
            Ok(Connection {
                stream: TokioIo::new(connected.stream),
                forwarded: connected.forwarded,
            })
        })
    }
}

/// A connection in hyper's pool.
struct Connection {
    stream: TokioIo<Stream>,
    forwarded: bool,
}

impl connect::Connection for Connection {
    fn connected(&self) -> connect::Connected {
        // Requests through a forwarding proxy must contain the absolute URL.
        connect::Connected::new().proxy(self.forwarded)
    }
}

impl rt::Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl rt::Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
