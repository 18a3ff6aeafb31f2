//! A mock server without a network: it answers REST requests from a log in memory, and passes
//! sockets to the test.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use oh_conversation::Conversation;
use oh_protocol::ConversationId;
use oh_transport::{
    Body, Client, Error, ErrorKind, HttpTransport, Message, Result, Socket, SocketPeer,
    SocketTransport,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

/// The planned result of a request, instead of the usual answer.
pub(crate) type Answer = std::result::Result<(u16, Value), ErrorKind>;

#[derive(Clone)]
pub(crate) struct Mock {
    pub(crate) id: ConversationId,
    inner: Arc<Mutex<Inner>>,
    dials: mpsc::UnboundedSender<Dial>,
}

/// A socket that the client has opened.
pub(crate) struct Dial {
    pub(crate) target: String,
    pub(crate) peer: SocketPeer,
}

struct Inner {
    log: Vec<Bytes>,
    /// Positions in the log that cannot be read.
    lost: Vec<u64>,
    /// Maximum number of events in a page. Longer pages break.
    longest_page: usize,
    status: String,
    /// Head of the log, after a navigation.
    leaf: Option<&'static str>,
    version: String,
    exists: bool,
    /// Whether another server holds the conversation, so that only its description is served.
    leased: bool,
    /// Answers to the next requests whose path ends with this text.
    planned: VecDeque<(&'static str, Answer)>,
    /// Errors of the next dials.
    refusals: VecDeque<Error>,
    /// Whether dials get no response.
    swallows: bool,
    seen: Vec<String>,
    bodies: Vec<String>,
    /// Delay of the answers to requests whose path ends with this text.
    slow: Option<(&'static str, Duration)>,
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mock")
    }
}

impl Mock {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Dial>) {
        let (dials, dialled) = mpsc::unbounded_channel();
        let inner = Inner {
            log: Vec::new(),
            lost: Vec::new(),
            longest_page: usize::MAX,
            status: "idle".into(),
            leaf: None,
            version: "1.58.2".into(),
            exists: true,
            leased: false,
            planned: VecDeque::new(),
            refusals: VecDeque::new(),
            swallows: false,
            seen: Vec::new(),
            bodies: Vec::new(),
            slow: None,
        };
        let mock = Self {
            id: ConversationId::random(),
            inner: Arc::new(Mutex::new(inner)),
            dials,
        };
        (mock, dialled)
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder("http://server.test")
            .session_api_key("key")
            .http_transport(self.clone())
            .socket_transport(self.clone())
            .build()
            .unwrap()
    }

    pub(crate) async fn attach(&self) -> oh_conversation::Result<Conversation> {
        Conversation::attach(&self.client(), self.id).await
    }

    /// Appends an event whose id is its position in the log.
    pub(crate) fn append(&self, kind: &str, fields: &Value) -> (u64, Bytes) {
        let mut inner = self.inner.lock().unwrap();
        let seq = inner.log.len();
        let mut event = json!({"kind": kind, "id": seq.to_string(), "timestamp": "2026-01-01T00:00:00",
            "source": "agent"});
        event
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let event = Bytes::from(event.to_string());
        inner.log.push(event.clone());
        (seq as u64, event)
    }

    /// Reports a status as the server does: in the log, by the socket and by REST.
    pub(crate) async fn tell(&self, dial: &Dial, status: &str) {
        let fields = json!({"key": "execution_status", "value": status});
        let (seq, event) = self.append("ConversationStateUpdateEvent", &fields);
        self.set_status(status);
        dial.durable(seq, &event).await.unwrap();
    }

    /// Logs an action of the agent without sending it.
    pub(crate) fn act(&self) -> (u64, Bytes) {
        let fields = json!({"tool_name": "terminal", "tool_call_id": format!("call-{}", self.len()),
            "action": {"kind": "TerminalAction", "command": "touch executed"}});
        self.append("ActionEvent", &fields)
    }

    /// Logs and sends an action that waits for approval.
    pub(crate) async fn propose(&self, dial: &Dial) -> u64 {
        let (seq, event) = self.act();
        dial.durable(seq, &event).await.unwrap();
        self.tell(dial, "waiting_for_confirmation").await;
        seq
    }

    /// Logs a call of a client tool without sending it.
    pub(crate) fn call_client_tool(&self, tool: &str) -> u64 {
        let fields = json!({"tool_name": tool, "tool_call_id": format!("call-{}", self.len()),
            "action": {"kind": format!("ClientAction_{tool}")}});
        self.append("ActionEvent", &fields).0
    }

    /// Logs the placeholder with which the server itself answers a call of a client tool.
    pub(crate) fn answer_client_tool(&self, call: u64) -> u64 {
        let called: Value = serde_json::from_slice(&self.event(call)).unwrap();
        let fields = json!({"source": "environment", "action_id": call.to_string(),
            "tool_name": called["tool_name"], "tool_call_id": format!("call-{call}"),
            "observation": {"kind": "ClientToolObservation", "is_error": false, "content": []}});
        self.append("ObservationEvent", &fields).0
    }

    /// Logs that another client has rejected an action.
    pub(crate) fn reject(&self, action: u64) -> u64 {
        let fields = json!({"source": "environment", "action_id": action.to_string(),
            "tool_name": "ask", "tool_call_id": format!("call-{action}"),
            "rejection_reason": "No.", "rejection_source": "user"});
        self.append("UserRejectObservation", &fields).0
    }

    pub(crate) fn len(&self) -> u64 {
        self.inner.lock().unwrap().log.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> Bytes {
        self.inner.lock().unwrap().log[usize::try_from(seq).unwrap()].clone()
    }

    /// Makes events unreadable for the server.
    pub(crate) fn lose(&self, seqs: impl IntoIterator<Item = u64>) {
        let mut inner = self.inner.lock().unwrap();
        for seq in seqs {
            if !inner.lost.contains(&seq) {
                inner.lost.push(seq);
            }
        }
    }

    pub(crate) fn is_lost(&self, seq: u64) -> bool {
        self.inner.lock().unwrap().lost.contains(&seq)
    }

    /// Cuts the connection within pages of more events than this.
    pub(crate) fn cut_pages_of_more_than(&self, events: usize) {
        self.inner.lock().unwrap().longest_page = events;
    }

    /// Clears the log, as if the conversation was deleted and created again with the same id.
    pub(crate) fn start_over(&self) {
        self.inner.lock().unwrap().log.clear();
    }

    pub(crate) fn set_leaf(&self, id: &'static str) {
        self.inner.lock().unwrap().leaf = Some(id);
    }

    pub(crate) fn set_status(&self, status: &str) {
        self.inner.lock().unwrap().status = status.into();
    }

    pub(crate) fn set_version(&self, version: &str) {
        self.inner.lock().unwrap().version = version.into();
    }

    pub(crate) fn delete(&self) {
        self.inner.lock().unwrap().exists = false;
    }

    /// Creates the conversation again after a deletion.
    pub(crate) fn create(&self) {
        self.inner.lock().unwrap().exists = true;
    }

    pub(crate) fn lease_away(&self) {
        self.inner.lock().unwrap().leased = true;
    }

    pub(crate) fn plan(&self, path_end: &'static str, answer: Answer) {
        self.inner
            .lock()
            .unwrap()
            .planned
            .push_back((path_end, answer));
    }

    /// Removes all planned answers.
    pub(crate) fn stop_planning(&self) {
        self.inner.lock().unwrap().planned.clear();
    }

    pub(crate) fn slow_down(&self, path_end: &'static str, by: Duration) {
        self.inner.lock().unwrap().slow = Some((path_end, by));
    }

    /// Rejects every upgrade to a socket, as a gateway does that does not support sockets.
    pub(crate) fn refuse_upgrades(&self) {
        for _ in 0..100_000 {
            self.refuse(Error::new(ErrorKind::Handshake, "426 Upgrade Required"));
        }
    }

    pub(crate) fn refuse(&self, error: Error) {
        self.inner.lock().unwrap().refusals.push_back(error);
    }

    /// Removes all planned refusals.
    pub(crate) fn stop_refusing(&self) {
        self.inner.lock().unwrap().refusals.clear();
    }

    /// Leaves all dials without a response.
    pub(crate) fn swallow_dials(&self) {
        self.inner.lock().unwrap().swallows = true;
    }

    /// Returns how often a request was made. Example: `POST /run`.
    pub(crate) fn seen(&self, request: &str) -> usize {
        let inner = self.inner.lock().unwrap();
        inner
            .seen
            .iter()
            .filter(|seen| seen.ends_with(request) && seen.starts_with(&request[..3]))
            .count()
    }

    /// Returns the method and path of all requests so far. Paths of the conversation are relative
    /// to it.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.inner.lock().unwrap().seen.clone()
    }

    /// Returns all request bodies so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.inner.lock().unwrap().bodies.clone()
    }

    fn answer(&self, method: &http::Method, uri: &http::Uri) -> Result<(u16, Value)> {
        let mut inner = self.inner.lock().unwrap();
        let path = uri.path();
        let route = path.replace(&format!("/api/conversations/{}", self.id), "");
        inner.seen.push(format!("{method} {route}"));
        if let Some(at) = inner
            .planned
            .iter()
            .position(|(end, _)| path.ends_with(end))
        {
            let (_, answer) = inner.planned.remove(at).unwrap();
            return answer.map_err(|kind| Error::new(kind, "planned"));
        }
        if path == "/server_info" {
            return Ok((200, json!({"version": inner.version})));
        }
        if !inner.exists {
            return Ok((404, json!({"detail": "Not Found"})));
        }
        if inner.leased && !route.is_empty() {
            let missing = format!("Conversation not found: {}", self.id);
            return Ok((404, json!({"detail": missing})));
        }
        Ok(match (method.as_str(), &*route) {
            ("GET", "") => (
                200,
                json!({"id": self.id.to_string(), "execution_status": inner.status,
                "leaf_event_id": inner.leaf, "workspace": {"working_dir": "/w"}}),
            ),
            // As on the server, a count without a filter includes events that it cannot read.
            ("GET", "/events/count") => {
                let filtered = uri.query().is_some_and(|query| !query.is_empty());
                let lost = if filtered { inner.lost.len() } else { 0 };
                (200, json!(inner.log.len() - lost))
            }
            ("GET", "/events/search") => {
                let page = page(&inner, uri.query().unwrap_or_default());
                if page["items"].as_array().map_or(0, Vec::len) > inner.longest_page {
                    return Err(Error::new(ErrorKind::Interrupted, "cut"));
                }
                (200, page)
            }
            ("GET", event) if event.starts_with("/events/") => {
                let id = &event["/events/".len()..];
                let mut log = inner
                    .log
                    .iter()
                    .map(|raw| serde_json::from_slice(raw).unwrap());
                match log.find(|event: &Value| event["id"] == *id) {
                    Some(event) => (200, event),
                    None => (404, json!({"detail": "Not Found"})),
                }
            }
            ("POST" | "PATCH" | "DELETE", _) => (200, json!({"success": true})),
            _ => (501, json!({"detail": path})),
        })
    }
}

fn page(inner: &Inner, query: &str) -> Value {
    let param = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let is_lost = |at: usize| inner.lost.contains(&(at as u64));
    let read = |raw: &Bytes| serde_json::from_slice::<Value>(raw).unwrap();
    let whole = inner.log.iter().enumerate();
    let mut log: Vec<&Bytes> = whole
        .filter(|(at, _)| !is_lost(*at))
        .map(|(_, raw)| raw)
        .collect();
    if let Some(kind) = param("kind") {
        log.retain(|raw| read(raw)["kind"] == kind);
    }
    if query.contains("TIMESTAMP_DESC") {
        log.reverse();
    }
    let place = |id: &str| {
        // In large logs, the id of an event is its position.
        let guess = id.parse::<usize>().ok().filter(|_| inner.lost.is_empty());
        let guess = guess.filter(|at| log.get(*at).is_some_and(|raw| read(raw)["id"] == *id));
        guess.or_else(|| log.iter().position(|raw| read(raw)["id"] == *id))
    };
    let start = param("page_id").and_then(place).unwrap_or(0);
    let limit = param("limit").and_then(|limit| limit.parse().ok());
    let end = (start + limit.unwrap_or(100)).min(log.len());
    let next = log.get(end).map(|raw| read(raw)["id"].clone());
    let items: Vec<Value> = log[start..end].iter().map(|raw| read(raw)).collect();
    json!({"items": items, "next_page_id": next})
}

#[async_trait]
impl HttpTransport for Mock {
    async fn send(&self, request: http::Request<Body>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect(1 << 20).await?;
        if !body.is_empty() {
            let body = String::from_utf8(body.to_vec()).unwrap();
            self.inner.lock().unwrap().bodies.push(body);
        }
        let slow = self.inner.lock().unwrap().slow;
        if let Some((end, by)) = slow
            && head.uri.path().ends_with(end)
        {
            tokio::time::sleep(by).await;
        }
        let (status, body) = self.answer(&head.method, &head.uri)?;
        let mut response = Response::new(Body::from(Bytes::from(body.to_string())));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }
}

#[async_trait]
impl SocketTransport for Mock {
    async fn connect(&self, url: &Url, _headers: &HeaderMap) -> Result<Socket> {
        if let Some(error) = self.inner.lock().unwrap().refusals.pop_front() {
            return Err(error);
        }
        if self.inner.lock().unwrap().swallows {
            // As long as the client waits by default.
            tokio::time::sleep(Duration::from_secs(30)).await;
            return Err(Error::new(ErrorKind::Timeout, "no response"));
        }
        let (socket, mut peer) = Socket::pair(64);
        let target = url[url::Position::BeforePath..].to_owned();
        let dials = self.dials.clone();
        tokio::spawn(async move {
            // The client authenticates first, as the protocol requires.
            let auth = peer.recv().await;
            let Some(Message::Text(auth)) = auth else {
                return;
            };
            let auth: Value = serde_json::from_slice(&auth).unwrap();
            assert_eq!(auth, json!({"type": "auth", "session_api_key": "key"}));
            let _ = dials.send(Dial { target, peer });
        });
        Ok(socket)
    }
}

impl Dial {
    /// Returns the requested `after_seq`.
    pub(crate) fn after(&self) -> i64 {
        self.target
            .split("after_seq=")
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    pub(crate) async fn sync(&self, through: Option<u64>) -> Result<()> {
        let mut frame = json!({"type": "sync"});
        if let Some(through) = through {
            frame["through_seq"] = through.into();
        }
        self.peer.text(frame.to_string()).await
    }

    pub(crate) async fn durable(&self, seq: u64, event: &Bytes) -> Result<()> {
        let event = std::str::from_utf8(event).unwrap();
        let frame = format!(r#"{{"type":"durable","seq":{seq},"event":{event}}}"#);
        self.peer.text(frame).await
    }

    pub(crate) async fn full_state(&self, status: &str) -> Result<()> {
        let frame = json!({"type": "transient", "event": full_state(status)});
        self.peer.text(frame.to_string()).await
    }

    /// Sends what a new subscriber of an idle conversation receives: the replay, then the snapshot.
    pub(crate) async fn welcome(&self, mock: &Mock, status: &str) -> Result<()> {
        let len = mock.len();
        self.sync(len.checked_sub(1)).await?;
        for seq in u64::try_from(self.after() + 1).unwrap()..len {
            self.durable(seq, &mock.event(seq)).await?;
        }
        self.full_state(status).await
    }
}

/// Attaches to a conversation until it is live. Also returns the server's end of its socket.
pub(crate) async fn attached(
    status: &str,
) -> (Mock, mpsc::UnboundedReceiver<Dial>, Dial, Conversation) {
    let (mock, mut dials) = Mock::new();
    mock.set_status(status);
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, status).await.unwrap();
    let conversation = soon(attaching).await.unwrap();
    (mock, dials, dial, conversation)
}

/// Attaches to a conversation with one event, without a socket: a gateway rejects every upgrade.
pub(crate) async fn polled() -> (Mock, mpsc::UnboundedReceiver<Dial>, Conversation) {
    let (mock, dials) = Mock::new();
    mock.refuse_upgrades();
    mock.append("New", &json!({}));
    let conversation = soon(mock.attach()).await.unwrap();
    crate::approvals::until(|| {
        conversation.link().status() == oh_conversation::LinkStatus::Polling
    })
    .await;
    (mock, dials, conversation)
}

pub(crate) fn full_state(status: &str) -> Value {
    json!({"kind": "ConversationStateUpdateEvent", "id": "snapshot", "source": "environment",
        "key": "full_state", "value": {"execution_status": status,
        "stats": {"usage_to_metrics": {"default": {"accumulated_cost": 0.5}}}}})
}

/// Awaits a future. Fails the test instead of waiting forever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), what)
        .await
        .expect("it should have happened by now")
}

/// A workspace for started conversations.
pub(crate) struct Place(pub(crate) Client);

impl oh_transport::WorkspaceHandle for Place {
    fn client(&self) -> &Client {
        &self.0
    }

    fn working_dir(&self) -> &str {
        "/w"
    }
}
