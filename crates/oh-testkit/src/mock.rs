//! A transport that answers from a list of expectations. Requests come in order and sockets are
//! channel pairs. Contains no I/O. For realistic server behaviour, use the fake server.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use oh_transport::{Body, Client, HttpTransport, Socket, SocketPeer, SocketTransport};
use serde_json::Value;
use tokio::sync::oneshot;
use url::Url;

use crate::{Error, Result};

/// The maximum size of a request body. A larger body is a mistake in the test.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// A mock server that consists of expectations. Cheap to clone.
///
/// Each request must be the next expected one. Any other request fails immediately, and
/// [`verify`](Self::verify) shows the expected and the received requests together. Sockets have
/// their own list, because tasks open them at arbitrary times.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use oh_testkit::Mock;
/// use serde_json::json;
///
/// let mock = Mock::new();
/// mock.expect("GET", "/server_info").answer(200, json!({"version": "1.58.2"}));
/// let expected = mock.expect_socket("/sockets/bash-events");
///
/// let client = mock.client();
/// assert_eq!(client.server_info().await?.version.to_string(), "1.58.2");
/// let mut socket = client.socket("/sockets/bash-events").await?;
/// let server = expected.accept().await?;
/// server.text(r#"{"kind":"BashOutput"}"#).await?;
/// assert!(socket.recv().await.is_ok());
///
/// mock.verify()?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Mock(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// All expected requests, including those already received.
    requests: Vec<Expected>,
    next: usize,
    /// Unexpected requests, with the position of the expectation they were compared to.
    surprises: Vec<(usize, Surprise)>,
    sockets: VecDeque<(String, oneshot::Sender<SocketPeer>)>,
    /// Whether `verify` has been called.
    reported: bool,
}

impl Inner {
    /// Returns the differences between expected and received requests, or `None` if there are none.
    fn report(&self) -> Option<String> {
        let sockets = self.sockets.iter();
        let mut report = String::new();
        let unmet = self.next < self.requests.len() || !self.sockets.is_empty();
        if !unmet && self.surprises.is_empty() {
            return None;
        }
        for (index, expected) in self.requests.iter().enumerate() {
            for (_, got) in self.surprises.iter().filter(|(at, _)| *at == index) {
                match got {
                    Surprise::Other(got) => {
                        let _ = write!(report, "\n+ {got}");
                    }
                    Surprise::Body(differences) => {
                        let (method, target) = (&expected.method, &expected.target);
                        let _ = write!(report, "\n~ {method} {target}, with another body:");
                        for difference in differences {
                            difference.write(&mut report);
                        }
                    }
                }
            }
            let sign = if index < self.next { ' ' } else { '-' };
            let _ = write!(report, "\n{sign} {}", expected.line());
        }
        for (_, got) in self
            .surprises
            .iter()
            .filter(|(at, _)| *at >= self.requests.len())
        {
            if let Surprise::Other(got) = got {
                let _ = write!(report, "\n+ {got}");
            }
        }
        for (target, _) in sockets {
            let _ = write!(report, "\n- socket {target}");
        }
        Some(format!(
            "the requests differ from the expected ones (- missing, + unexpected, ~ different \
             body):{report}"
        ))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(report) = self.report().filter(|_| !self.reported) {
            crate::error::tell(&report);
        }
    }
}

struct Expected {
    method: Method,
    target: String,
    body: Option<Value>,
    answer: Answer,
}

enum Surprise {
    /// A different or an additional request.
    Other(String),
    /// The expected request with a different body.
    Body(Vec<Difference>),
}

/// A difference between two JSON values: a JSON pointer, the expected and the received value.
struct Difference {
    at: String,
    expected: Option<Value>,
    got: Option<Value>,
}

impl Difference {
    fn all(expected: &Value, got: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        Self::collect(String::new(), Some(expected), Some(got), &mut found);
        found
    }

    fn collect(at: String, expected: Option<&Value>, got: Option<&Value>, into: &mut Vec<Self>) {
        let inner = |name: &str| {
            let name = name.replace('~', "~0").replace('/', "~1");
            format!("{at}/{name}")
        };
        match (expected, got) {
            (Some(expected), Some(got)) if expected == got => {}
            (Some(Value::Object(expected)), Some(Value::Object(got))) => {
                let names: BTreeSet<_> = expected.keys().chain(got.keys()).collect();
                for name in names {
                    Self::collect(inner(name), expected.get(name), got.get(name), into);
                }
            }
            (Some(Value::Array(expected)), Some(Value::Array(got))) => {
                for index in 0..expected.len().max(got.len()) {
                    let at = inner(&index.to_string());
                    Self::collect(at, expected.get(index), got.get(index), into);
                }
            }
            (expected, got) => into.push(Self {
                at: if at.is_empty() {
                    "(all of it)".to_owned()
                } else {
                    at
                },
                expected: expected.cloned(),
                got: got.cloned(),
            }),
        }
    }

    /// Writes the expected and the received value, one per line, omitting a missing one.
    fn write(&self, report: &mut String) {
        for (sign, value) in [('-', &self.expected), ('+', &self.got)] {
            if let Some(value) = value {
                let _ = write!(report, "\n{sign}     {}: {value}", self.at);
            }
        }
    }
}

enum Answer {
    Status(StatusCode, HeaderMap, Bytes),
    Failure(oh_transport::ErrorKind),
}

impl Expected {
    fn line(&self) -> String {
        line(&self.method, &self.target, self.body.as_ref())
    }
}

fn line(method: &Method, target: &str, body: Option<&Value>) -> String {
    match body {
        Some(body) => format!("{method} {target} {body}"),
        None => format!("{method} {target}"),
    }
}

impl Mock {
    /// Creates a mock without expectations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a client that is connected to this mock.
    pub fn client(&self) -> Client {
        let client = Client::builder("http://mock")
            .session_api_key("mock-session-key")
            .http_transport(self.clone())
            .socket_transport(self.clone())
            .build();
        match client {
            Ok(client) => client,
            // All inputs are constants.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Expects a request with this method and target (path and query) next. Default response: 200
    /// with an empty body.
    pub fn expect(&self, method: &str, target: impl Into<String>) -> Expectation<'_> {
        let mut inner = self.lock();
        inner.requests.push(Expected {
            method: method.parse().unwrap_or(Method::GET),
            target: target.into(),
            body: None,
            answer: Answer::Status(StatusCode::OK, HeaderMap::new(), Bytes::new()),
        });
        Expectation {
            mock: self,
            index: inner.requests.len() - 1,
        }
    }

    /// Expects a socket with this target (path and query).
    pub fn expect_socket(&self, target: impl Into<String>) -> ExpectedSocket {
        let target = target.into();
        let (accepting, accepted) = oneshot::channel();
        self.lock().sockets.push_back((target.clone(), accepting));
        ExpectedSocket { target, accepted }
    }

    /// Checks that all expected requests and sockets were received, and no others. If a test does
    /// not call this method, the report is printed to stderr when the last clone is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error with a combined list of expected and received requests if they differ.
    pub fn verify(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.reported = true;
        match inner.report() {
            None => Ok(()),
            Some(report) => Err(Error::unmet(report)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Mock")
            .field("expected", &inner.requests.len())
            .field("came", &inner.next)
            .finish_non_exhaustive()
    }
}

/// An expected request. Methods set the expected body and the response.
#[derive(Debug)]
pub struct Expectation<'a> {
    mock: &'a Mock,
    index: usize,
}

impl Expectation<'_> {
    /// Requires this JSON body.
    pub fn with(self, body: Value) -> Self {
        self.mock.lock().requests[self.index].body = Some(body);
        self
    }

    /// Responds with a status and a JSON body.
    pub fn answer(self, status: u16, body: Value) -> Self {
        self.answer_bytes(status, body.to_string())
    }

    /// Responds with a status and a body of arbitrary bytes.
    pub fn answer_bytes(self, status: u16, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        self.set(|answer| *answer = Answer::Status(status, HeaderMap::new(), body.into()))
    }

    /// Adds a response header, such as `retry-after`.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.set(|answer| {
            if let (Answer::Status(_, headers, _), Ok(name), Ok(value)) = (
                answer,
                name.parse::<HeaderName>(),
                HeaderValue::from_str(value),
            ) {
                headers.append(name, value);
            }
        })
    }

    /// Fails with a transport error of this kind instead of responding.
    pub fn fail(self, kind: oh_transport::ErrorKind) -> Self {
        self.set(|answer| *answer = Answer::Failure(kind))
    }

    fn set(self, change: impl FnOnce(&mut Answer)) -> Self {
        change(&mut self.mock.lock().requests[self.index].answer);
        self
    }
}

/// A socket that a client is expected to open.
#[derive(Debug)]
#[must_use]
pub struct ExpectedSocket {
    target: String,
    accepted: oneshot::Receiver<SocketPeer>,
}

impl ExpectedSocket {
    /// Waits for the client and returns the server's end of its socket. The client's first message,
    /// which contains its key, has already been received.
    ///
    /// # Errors
    ///
    /// Returns an error if the [`Mock`] was dropped, or if the client disconnected before it sent
    /// its key.
    pub async fn accept(self) -> Result<SocketPeer> {
        self.accepted.await.map_err(|_| {
            let message = format!(
                "no client opened the socket {} and sent its session key",
                self.target
            );
            Error::unmet(message)
        })
    }
}

fn target(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn unexpected(got: &str, instead: &str) -> oh_transport::Error {
    let context = format!("the mock transport did not expect {got}: {instead}");
    oh_transport::Error::new(oh_transport::ErrorKind::InvalidInput, context)
}

#[async_trait]
impl HttpTransport for Mock {
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> oh_transport::Result<http::Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect(BODY_LIMIT).await?;
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let body = match body.is_empty() {
            true => None,
            false => Some(serde_json::from_slice(&body).unwrap_or_else(|_| {
                // Used only in reports, and never equal to an expected JSON body.
                Value::String(format!("{} bytes that are not JSON", body.len()))
            })),
        };
        let mut inner = self.lock();
        let at = inner.next;
        let Some(expected) = inner.requests.get(at).filter(|expected| {
            expected.method == head.method
                && expected.target == target
                && (expected.body.is_none() || expected.body == body)
        }) else {
            let next = inner.requests.get(at);
            let nearly = next.filter(|next| next.method == head.method && next.target == target);
            let asked = line(&head.method, target, None);
            let (surprise, error) = match nearly.and_then(|next| next.body.as_ref()) {
                Some(expected) => {
                    let got = body.as_ref().unwrap_or(&Value::Null);
                    let differences = Difference::all(expected, got);
                    let at: Vec<_> = differences.iter().map(|found| found.at.as_str()).collect();
                    let error =
                        unexpected(&asked, &format!("the body differs at {}", at.join(", ")));
                    (Surprise::Body(differences), error)
                }
                None => {
                    let next = match next {
                        Some(next) => line(&next.method, &next.target, None),
                        None => "no more requests".to_owned(),
                    };
                    let got = line(&head.method, target, body.as_ref());
                    let error = unexpected(&asked, &format!("expected instead: {next}"));
                    (Surprise::Other(got), error)
                }
            };
            inner.surprises.push((at, surprise));
            return Err(error);
        };
        let answer = match &expected.answer {
            Answer::Status(status, headers, body) => {
                let mut response = http::Response::new(Body::from(body.clone()));
                *response.status_mut() = *status;
                *response.headers_mut() = headers.clone();
                Ok(response)
            }
            Answer::Failure(kind) => Err(oh_transport::Error::new(
                *kind,
                "failure injected by the mock",
            )),
        };
        inner.next += 1;
        answer
    }
}

#[async_trait]
impl SocketTransport for Mock {
    async fn connect(&self, url: &Url, _: &HeaderMap) -> oh_transport::Result<Socket> {
        let got = target(url);
        let mut inner = self.lock();
        match inner.sockets.pop_front() {
            Some((expected, accepting)) if expected == got => {
                let (socket, mut peer) = Socket::pair(1024);
                // The client is connected only when its key has been received. The task ends when
                // the client drops its end of the pair.
                tokio::spawn(async move {
                    if peer.recv().await.is_some() {
                        let _ = accepting.send(peer);
                    }
                });
                Ok(socket)
            }
            other => {
                if let Some(expected) = other {
                    inner.sockets.push_front(expected);
                }
                let next = match inner.sockets.front() {
                    Some((next, _)) => format!("expected instead: socket {next}"),
                    None => "expected instead: no more sockets".to_owned(),
                };
                let got = format!("socket {got}");
                let at = inner.next;
                let error = unexpected(&got, &next);
                inner.surprises.push((at, Surprise::Other(got)));
                Err(error)
            }
        }
    }
}
