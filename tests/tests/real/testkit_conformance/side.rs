//! A server under comparison: sends requests and records everything that must agree.

use std::{fmt::Write as _, path::Path, time::Duration};

use openhands::{
    protocol::{Answer, Call, Operation, Repeat, Request},
    testkit::Gate,
    transport::{Client, ErrorKind, Message, Socket},
};
use serde_json::{Value, json};

/// Timeout. The slowest operation is the first message, which builds the agent.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a socket may take to deliver an event before another command is executed.
const SOON: Duration = Duration::from_secs(1);

/// Any request, with any response.
struct Raw {
    method: http::Method,
    target: String,
    body: Value,
}

impl Call for Raw {
    type Output = (u16, Value);

    fn operation(&self) -> Operation {
        Operation::new(self.method.clone(), "/conformance", Repeat::Never)
    }

    fn request(&self) -> openhands::protocol::Result<Request> {
        let request = Request::new(self.method.clone(), self.target.as_str());
        if self.body.is_null() {
            return Ok(request);
        }
        request.json(&self.body)
    }

    fn accepts(&self, _: http::StatusCode) -> bool {
        true
    }

    fn decode(&self, answer: Answer) -> openhands::protocol::Result<Self::Output> {
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status.as_u16(), body))
    }
}

/// A server and the values that scenarios need to use it.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) key: String,
    /// A directory that the agent may write to. On the fake server nothing is written.
    pub(crate) work: String,
    pub(crate) llm: Value,
    /// Holds the model's requests, in scenarios about events during a request.
    pub(crate) asked: Gate,
    pub(crate) seen: String,
}

impl Side {
    pub(crate) async fn ask(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let raw = Raw {
            method: method.parse().unwrap(),
            target: target.to_owned(),
            body,
        };
        // After an internal error the server closes a connection unannounced, which only the next
        // request on it detects.
        for _ in 0..2 {
            match self.client.call(&raw).await {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                answer => return answer.unwrap(),
            }
        }
        panic!("{method} {target}: interrupted, twice\n{}", self.seen);
    }

    pub(crate) fn note(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref().replace(&self.work, "WORK");
        writeln!(self.seen, "{line}").unwrap();
    }

    /// Sends a request, and records the status and shape of the response.
    pub(crate) async fn check(&mut self, method: &str, target: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, target, body).await;
        let shown = nameless(&target.replace(&self.work, "WORK"));
        let line = format!("{method} {shown} -> {status} {}", gist(&answer));
        self.note(line);
        answer
    }

    pub(crate) async fn create(&mut self, more: Value) -> String {
        let mut body = json!({
            "workspace": {"working_dir": self.work},
            "autotitle": false,
            "agent": {
                "kind": "Agent",
                "llm": self.llm,
                "tools": [{"name": "terminal", "params": {}}, {"name": "file_editor", "params": {}}],
            },
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        let (status, info) = self.ask("POST", "/api/conversations", body).await;
        assert_eq!(status, 201, "{info}");
        info["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn socket(&self, path: &str) -> Socket {
        self.client.socket(path).await.unwrap()
    }

    pub(crate) async fn say(&self, id: &str, text: &str, run: bool) {
        let body = json!({"content": [{"type": "text", "text": text}], "run": run});
        let path = format!("/api/conversations/{id}/events");
        assert_eq!(self.ask("POST", &path, body).await.0, 200);
    }

    /// Waits until `GET` returns the status.
    pub(crate) async fn until(&self, id: &str, status: &str) {
        let reached = async {
            loop {
                let (_, info) = self
                    .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
                    .await;
                if info["execution_status"] == status {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, reached)
            .await
            .unwrap_or_else(|_| panic!("never {status}"));
    }

    /// Waits until the agent has sent `count` messages and is done.
    pub(crate) async fn answers(&self, id: &str, count: u64) {
        let target = format!("/api/conversations/{id}/events/count?kind=MessageEvent&source=agent");
        let reached = async {
            while self.ask("GET", &target, Value::Null).await.1.as_u64() < Some(count) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(LIMIT, reached).await;
        reached.unwrap_or_else(|_| panic!("never {count} answers"));
        self.until(id, "finished").await;
        self.settled(id).await;
    }

    /// Waits until `count` events of a kind are in the log.
    pub(crate) async fn logged(&self, id: &str, kind: &str, count: usize) {
        self.holds(id, count, |event| event["kind"] == *kind).await;
    }

    /// Waits until `count` changes of a key are in the log.
    pub(crate) async fn logged_key(&self, id: &str, key: &str, count: usize) {
        self.holds(id, count, |event| event["key"] == *key).await;
    }

    async fn holds(&self, id: &str, count: usize, wanted: impl Fn(&Value) -> bool) {
        let reached = async {
            while self
                .log(id)
                .await
                .iter()
                .filter(|event| wanted(event))
                .count()
                < count
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(LIMIT, reached).await;
        reached.unwrap_or_else(|_| panic!("never {count} such events"));
    }

    /// Waits until a socket of commands is subscribed, which nothing reports: executes commands until
    /// the socket has delivered the output of one. Nothing is recorded.
    pub(crate) async fn subscribed(&self, socket: &mut Socket) -> Result<(), String> {
        let run = "/api/bash/execute_bash_command";
        loop {
            let command = json!({"command": "true", "timeout": 20});
            let (_, output) = self.ask("POST", run, command).await;
            let delivered = async {
                loop {
                    let event = next(socket).await?;
                    let of_it = event["command_id"] == output["command_id"];
                    if of_it && event["kind"] == "BashOutput" {
                        return Ok(());
                    }
                }
            };
            if let Ok(delivered) = tokio::time::timeout(SOON, delivered).await {
                return delivered;
            }
        }
    }

    /// Waits until a command of the agent has created the file `begun`. The fake server creates
    /// none, and executes an action as soon as it is logged.
    pub(crate) async fn has_begun(&self) {
        let work = Path::new(&self.work);
        let begun = async {
            while work.exists() && !work.join("begun").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let begun = tokio::time::timeout(LIMIT, begun).await;
        begun.expect("a command in time");
    }

    /// Waits until no more events are added to the log.
    pub(crate) async fn settled(&self, id: &str) {
        let target = format!("/api/conversations/{id}/events/count");
        let mut before = Value::Null;
        loop {
            let (_, count) = self.ask("GET", &target, Value::Null).await;
            if count == before {
                return;
            }
            before = count;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    pub(crate) async fn log(&self, id: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut page_id = String::new();
        loop {
            let path = format!("/api/conversations/{id}/events/search?limit=100{page_id}");
            let (_, page) = self.ask("GET", &path, Value::Null).await;
            events.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_page_id"].as_str() {
                Some(next) => page_id = format!("&page_id={next}"),
                None => return events,
            }
        }
    }
}

/// Replaces the ids in a path.
fn nameless(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| match part.parse::<uuid::Uuid>() {
            Ok(_) => "ID",
            Err(_) => part,
        });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the part of a response that must agree: all of a success, the location and kind of an
/// error.
fn gist(answer: &Value) -> String {
    match &answer["detail"] {
        Value::Array(problems) => {
            let problems = problems
                .iter()
                .map(|p| format!("{} at {}", p["type"], p["loc"]));
            problems.collect::<Vec<_>>().join(", ")
        }
        Value::String(detail) => {
            let words = detail
                .split(' ')
                .filter(|word| word.parse::<uuid::Uuid>().is_err());
            words.map(nameless).collect::<Vec<_>>().join(" ")
        }
        _ => match answer {
            Value::Object(fields) if fields.len() > 3 => keys(answer),
            Value::Object(_) | Value::Array(_) if answer.to_string().len() > 200 => "…".to_owned(),
            _ => answer.to_string(),
        },
    }
}

pub(crate) fn keys(value: &Value) -> String {
    let mut keys: Vec<_> = value
        .as_object()
        .into_iter()
        .flat_map(|o| o.keys().cloned())
        .collect();
    keys.sort();
    keys.join(",")
}

pub(crate) async fn next(socket: &mut Socket) -> Result<Value, String> {
    let received = tokio::time::timeout(LIMIT, socket.recv())
        .await
        .expect("a frame in time");
    match received {
        Ok(Message::Text(text)) => Ok(serde_json::from_slice(&text).unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(format!(
            "{:?} {:?} {:?}",
            error.kind(),
            error.close_code(),
            error.close_reason().unwrap_or_default()
        )),
    }
}

/// Reads frames up to the full state that ends a run.
pub(crate) async fn run_frames(socket: &mut Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut ran = false;
    loop {
        let frame = next(socket).await.unwrap();
        let event = if frame["event"].is_object() {
            &frame["event"]
        } else {
            &frame
        };
        ran |= event["key"] == "execution_status" && event["value"] == "running";
        let full = event["key"] == "full_state";
        let over = ran && full && event["value"]["execution_status"] != "running";
        frames.push(frame);
        if over {
            return frames;
        }
    }
}

/// Formats a line per event: its kind, source and fields. Statistics are omitted, because their
/// timing varies.
pub(crate) fn story(events: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let event = if event["event"].is_object() {
            &event["event"]
        } else {
            event
        };
        let Some(kind) = event["kind"].as_str() else {
            continue;
        };
        if event["key"] == "stats" {
            continue;
        }
        let what = match kind {
            "ConversationStateUpdateEvent" => match &event["value"] {
                Value::String(_) if event["key"] == "last_user_message_id" => {
                    "last_user_message_id".into()
                }
                Value::String(value) => format!("{}={value}", event["key"]),
                // The keys are ids.
                Value::Object(blocked) if event["key"].as_str().unwrap().starts_with("blocked") => {
                    format!("{} {}", event["key"], blocked.len())
                }
                value if event["key"] == "full_state" => {
                    format!("full_state {} {}", value["execution_status"], keys(value))
                }
                value => format!("{} {}", event["key"], keys(value)),
            },
            "ActionEvent" => format!("{} {}", event["tool_name"], keys(&event["action"])),
            "ObservationEvent" => format!(
                "{} {} {}",
                event["tool_name"], event["observation"]["kind"], event["observation"]["is_error"]
            ),
            "MessageEvent" => format!(
                "{} {}",
                event["llm_message"]["role"],
                event["llm_message"]["content"].as_array().unwrap().len()
            ),
            "HookExecutionEvent" => format!(
                "{} blocked={} exit={} success={}",
                event["hook_event_type"], event["blocked"], event["exit_code"], event["success"]
            ),
            "ConversationErrorEvent" => event["code"].to_string(),
            _ => String::new(),
        };
        lines.push(format!(
            "{} {kind} {what} [{}]",
            event["source"],
            keys(event)
        ));
    }
    lines
}
