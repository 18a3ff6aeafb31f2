//! Shared test code: a server that sends raw bytes, calls with and without retries, and a log
//! check.

use std::{
    error::Error as _,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::Method;
use oh_protocol::{Answer, Call, Operation, Repeat, Request};
use oh_transport::{Client, ClientBuilder, Error};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tracing_subscriber::fmt::MakeWriter;

/// A session key that must appear only on the wire.
pub(crate) const CANARY: &str = "canary-3f9c-session-key";

/// A logger that records all TRACE messages, of this workspace's crates and of dependencies.
#[derive(Clone, Copy)]
struct Log;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// A guard that fails its test if the session key was logged, or if nothing was logged.
pub(crate) struct Watch;

pub(crate) fn watch() -> Watch {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_writer(Log)
            .init();
    });
    Watch
}

impl Watch {
    /// Returns the first logged line that contains all of these parts.
    pub(crate) fn line(&self, parts: &[&str]) -> Option<String> {
        let logged = LOGGED.lock().unwrap();
        let logged = String::from_utf8_lossy(&logged);
        let found = logged
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found.map(str::to_owned)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let logged = LOGGED.lock().unwrap();
        let logged = String::from_utf8_lossy(&logged);
        assert!(
            !logged.is_empty(),
            "nothing was logged: the watch sees nothing"
        );
        let leak = logged.lines().find(|line| line.contains(CANARY));
        assert!(
            leak.is_none(),
            "the session key was logged: {}",
            leak.unwrap_or_default()
        );
    }
}

/// Returns everything that an error displays, which must not contain the key.
pub(crate) fn shown(error: &Error) -> String {
    let mut shown = format!("{error} | {error:?}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(shown, " | {inner}");
        cause = inner.source();
    }
    assert!(!shown.contains(CANARY), "the key is in an error: {shown}");
    shown
}

/// Creates a builder for a client of the server at this address, with the key.
pub(crate) fn client(address: SocketAddr) -> ClientBuilder {
    Client::builder(format!("http://{address}"))
        .session_api_key(CANARY)
        .ignore_environment()
}

/// A call with the given repeat policy.
pub(crate) struct Probe(pub(crate) Repeat);

pub(crate) const AGAIN: Probe = Probe(Repeat::Idempotent);
pub(crate) const ONCE: Probe = Probe(Repeat::Never);

impl Call for Probe {
    type Output = serde_json::Value;

    fn operation(&self) -> Operation {
        Operation::new(Method::POST, "/probe", self.0)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        Request::new(Method::POST, "/probe?query=canary-3f9c-session-key").json(&[1, 2, 3])
    }

    fn decode(&self, answer: Answer) -> oh_protocol::Result<serde_json::Value> {
        answer.json("probe")
    }
}

/// A request as received by the server.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The number of its connection, starting at 0.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The reaction of a raw server to a request.
pub(crate) enum Act {
    /// Sends these bytes and waits for the next request.
    Say(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Sends nothing and keeps the connection open.
    Hang,
}

/// A server that responds with raw bytes.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Raw {
    /// Starts a server that calls `act` for each request, with the number of earlier requests.
    pub(crate) async fn start(act: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (counted, noted, act) = (connections.clone(), seen.clone(), Arc::new(act));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, connection, noted.clone(), act.clone()));
            }
        });
        Self {
            address,
            connections,
            seen,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
    act: Arc<impl Fn(usize, &Seen) -> Act>,
) {
    while let Some((head, body)) = request(&mut stream).await {
        let request = Seen {
            connection,
            head,
            body,
        };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        match act(number, &request) {
            Act::Say(bytes) => stream.write_all(&bytes).await.unwrap(),
            Act::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

/// Reads the head and body of the next request.
pub(crate) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let head = head(stream).await?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Returns a complete response with a JSON body.
pub(crate) fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub(crate) fn ok() -> Vec<u8> {
    json("200 OK", "{}")
}

pub(crate) fn request_to(path: &str) -> Request {
    Request::new(Method::GET, path)
}

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
