//! An HTTP/1.1 server on a free loopback port: its connections and bodies. No other module uses
//! hyper.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, Chain},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Handle,
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Result};

/// The body of a response.
pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;
pub(crate) type Response = http::Response<Body>;
/// A request whose body has not been read.
pub(crate) type Request = http::Request<Incoming>;
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The error that ends a body, and its connection, before the announced length.
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script cut off this response")
    }
}

impl std::error::Error for Broken {}

/// Handles requests. Cloned for each connection, so implementations are handles.
pub(crate) trait Handler: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request) -> Answering;
}

/// A running server. Dropping it closes the port and all connections.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    door: Arc<Door>,
    runtime: Handle,
    _accepting: AbortOnDropHandle<()>,
}

/// The listener, which can be closed and reopened.
#[derive(Debug)]
struct Door {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug)]
enum State {
    Open(TcpListener),
    /// Connections are refused, and the port stays reserved.
    Shut(Option<TcpSocket>),
}

impl Listening {
    /// Opens a free port on 127.0.0.1 and serves it on the current runtime.
    pub(crate) async fn start(handler: impl Handler) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(Error::bind)?;
        let address = listener.local_addr().map_err(Error::bind)?;
        let door = Arc::new(Door {
            state: Mutex::new(State::Open(listener)),
            moved: Notify::new(),
        });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(Arc::clone(&door), handler)));
        Ok(Self {
            address,
            door,
            runtime: Handle::current(),
            _accepting: accepting,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses new connections and closes the existing ones.
    pub(crate) fn refuse(&self) {
        let mut state = self.door.lock();
        if matches!(*state, State::Shut(_)) {
            return;
        }
        // Drops the listener first: two sockets cannot share the port while one of them listens.
        *state = State::Shut(None);
        *state = State::Shut(self.keep_port().ok());
        drop(state);
        self.door.moved.notify_waiters();
    }

    /// Accepts connections again on the same port. Returns `false` if the port was lost.
    pub(crate) fn accept(&self) -> bool {
        let _runtime = self.runtime.enter();
        let mut state = self.door.lock();
        let State::Shut(kept) = &mut *state else {
            return true;
        };
        let Some(socket) = kept.take().or_else(|| self.keep_port().ok()) else {
            return false;
        };
        let Ok(listener) = socket.listen(1024) else {
            return false;
        };
        *state = State::Open(listener);
        drop(state);
        self.door.moved.notify_waiters();
        true
    }

    /// Binds a socket to the port without listening.
    fn keep_port(&self) -> std::io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        Ok(socket)
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        matches!(*self.lock(), State::Open(_))
    }

    /// Polls for the next connection. Pending while the listener is closed.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<std::io::Result<TcpStream>> {
        match &*self.lock() {
            State::Open(listener) => listener
                .poll_accept(context)
                .map(|accepted| accepted.map(|(stream, _)| stream)),
            State::Shut(_) => Poll::Pending,
        }
    }
}

async fn accept(door: Arc<Door>, handler: impl Handler) {
    // Dropped with this task, which ends all connections.
    let mut connections = JoinSet::new();
    loop {
        let moved = door.moved.notified();
        if !door.is_open() {
            connections.abort_all();
        }
        tokio::select! {
            accepted = poll_fn(|context| door.poll_accept(context)) => {
                // A failed accept (too many files, or a peer that left) affects only that peer.
                let Ok(stream) = accepted else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                connections.spawn(serve(stream, handler.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = moved => {}
        }
    }
}

async fn serve(stream: TcpStream, handler: impl Handler) {
    let _ = stream.set_nodelay(true);
    let last = Arc::new(Notify::new());
    let closing = Arc::clone(&last);
    let service = hyper::service::service_fn(move |request| {
        let (handler, last) = (handler.clone(), Arc::clone(&last));
        async move {
            let mut response = handler.answer(request).await;
            if response.extensions_mut().remove::<NoResponse>().is_some() {
                // Ends the connection before any response is sent.
                return Err(Broken);
            }
            if response.extensions_mut().remove::<ThenClose>().is_some() {
                response = response.map(|body| Last { body, last }.boxed_unsync());
            }
            Ok::<_, Broken>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The agent server also closes idle connections after five seconds.
        .header_read_timeout(Duration::from_secs(5))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    // An error means that the peer hung up or a fault cut the connection; neither has to be
    // reported.
    tokio::select! {
        _ = &mut connection => return,
        () = closing.notified() => {}
    }
    // The head has already been sent without `connection: close`.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Marks a response that is not sent.
#[derive(Clone)]
struct NoResponse;

/// Returns a marker that closes the connection without a response.
pub(crate) fn no_response() -> Response {
    let mut response = http::Response::new(full(Bytes::new()));
    response.extensions_mut().insert(NoResponse);
    response
}

/// Marks a response after which the connection is closed.
#[derive(Clone)]
struct ThenClose;

/// Closes the connection after this response, without announcing it in the head.
pub(crate) fn and_close(mut response: Response) -> Response {
    response.extensions_mut().insert(ThenClose);
    response
}

/// A body that notifies when it is being sent.
struct Last {
    body: Body,
    last: Arc<Notify>,
}

impl HttpBody for Last {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.last.notify_one();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The input of an upgraded connection: first the buffered bytes, then the stream.
pub(crate) type SocketRead = Chain<std::io::Cursor<Bytes>, OwnedReadHalf>;

/// Takes over the connection after the upgrade response has been sent.
pub(crate) fn take_over(
    request: &mut Request,
) -> impl Future<Output = Option<(SocketRead, OwnedWriteHalf)>> + Send + use<> {
    let upgrading = hyper::upgrade::on(request);
    async move {
        let parts = upgrading
            .await
            .ok()?
            .downcast::<TokioIo<TcpStream>>()
            .ok()?;
        let (read, write) = parts.io.into_inner().into_split();
        Some((std::io::Cursor::new(parts.read_buf).chain(read), write))
    }
}

/// Reads a whole request body. Returns an empty body if it was cut short.
pub(crate) async fn read_body(body: Incoming) -> Bytes {
    match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => Bytes::new(),
    }
}

/// Creates a body from bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Creates a response with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let mut response = http::Response::new(full(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Creates a body that is sent in pieces. Dropping the sender ends the body; [`BodySender::cut`]
/// breaks it.
pub(crate) fn channel() -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(16);
    (BodySender(sender), Pieces(receiver).boxed_unsync())
}

#[derive(Debug)]
pub(crate) struct BodySender(mpsc::Sender<Result<Bytes, Broken>>);

impl BodySender {
    /// Sends one piece. Returns `false` if the peer has disconnected.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.0.send(Ok(piece.into())).await.is_ok()
    }

    /// Breaks the body before its end, which closes the connection.
    pub(crate) async fn cut(self) {
        let _ = self.0.send(Err(Broken)).await;
    }
}

struct Pieces(mpsc::Receiver<Result<Bytes, Broken>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
