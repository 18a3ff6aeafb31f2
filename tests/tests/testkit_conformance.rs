//! The fake server against the real one: the same requests, the same script, the same answers.
//!
//! Each scenario writes down what it saw, without what differs by nature (ids, times, texts of
//! explanations). Both sides must have written the same.

use std::{fmt::Write as _, time::Duration};

use openhands::{
    protocol::{Answer, Call, Operation, Repeat, Request},
    testkit::{FakeServer, Script, ScriptedModel, Step, fake::Verdict},
    transport::{Client, Message, Socket},
};
use serde_json::{Value, json};

/// The slowest thing awaited is the first message, which builds the agent.
const LIMIT: Duration = Duration::from_secs(60);

/// Any request, with any answer.
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

/// A server and what scenarios need to talk to it.
struct Side {
    client: Client,
    url: String,
    /// A directory the agent may write to; on the fake nothing is written.
    work: String,
    llm: Value,
    seen: String,
}

impl Side {
    async fn ask(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let raw = Raw {
            method: method.parse().unwrap(),
            target: target.to_owned(),
            body,
        };
        self.client.call(&raw).await.unwrap()
    }

    fn note(&mut self, line: impl AsRef<str>) {
        writeln!(self.seen, "{}", line.as_ref()).unwrap();
    }

    /// Asks, and writes down status and shape of the answer.
    async fn check(&mut self, method: &str, target: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, target, body).await;
        let shown = target.split('/').map(|part| match part.parse::<uuid::Uuid>() {
            Ok(_) => "ID",
            Err(_) => part,
        });
        let shown: Vec<_> = shown.collect();
        let line = format!("{method} {} -> {status} {}", shown.join("/"), gist(&answer));
        self.note(line);
        answer
    }

    async fn create(&mut self, more: Value) -> String {
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

    async fn socket(&self, path: &str) -> Socket {
        self.client.socket(path).await.unwrap()
    }

    async fn say(&self, id: &str, text: &str, run: bool) {
        let body = json!({"content": [{"type": "text", "text": text}], "run": run});
        let path = format!("/api/conversations/{id}/events");
        assert_eq!(self.ask("POST", &path, body).await.0, 200);
    }

    /// Waits for a status, as `GET` tells it.
    async fn until(&self, id: &str, status: &str) {
        let reached = async {
            loop {
                let (_, info) = self.ask("GET", &format!("/api/conversations/{id}"), Value::Null).await;
                if info["execution_status"] == status {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("never {status}"));
    }

    async fn log(&self, id: &str) -> Vec<Value> {
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

/// What of an answer must agree: all of a success, the place and kind of a refusal.
fn gist(answer: &Value) -> String {
    match &answer["detail"] {
        Value::Array(problems) => {
            let problems = problems.iter().map(|p| format!("{} at {}", p["type"], p["loc"]));
            problems.collect::<Vec<_>>().join(", ")
        }
        Value::String(detail) => {
            let words = detail.split(' ').filter(|word| word.parse::<uuid::Uuid>().is_err());
            words.collect::<Vec<_>>().join(" ")
        }
        _ => match answer {
            Value::Object(fields) if fields.len() > 3 => keys(answer),
            Value::Object(_) | Value::Array(_) if answer.to_string().len() > 200 => "…".to_owned(),
            _ => answer.to_string(),
        },
    }
}

fn keys(value: &Value) -> String {
    let mut keys: Vec<_> = value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect();
    keys.sort();
    keys.join(",")
}

async fn next(socket: &mut Socket) -> Result<Value, String> {
    let received = tokio::time::timeout(LIMIT, socket.recv()).await.expect("a frame in time");
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

/// Frames up to the full state that ends a run.
async fn run_frames(socket: &mut Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut ran = false;
    loop {
        let frame = next(socket).await.unwrap();
        let event = if frame["event"].is_object() { &frame["event"] } else { &frame };
        ran |= event["key"] == "execution_status" && event["value"] == "running";
        let full = event["key"] == "full_state";
        let over = ran && full && event["value"]["execution_status"] != "running";
        frames.push(frame);
        if over {
            return frames;
        }
    }
}

/// A line per event: its kind, where it comes from, which fields it has. Statistics come when
/// they come, so they are left out.
fn story(events: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let event = if event["event"].is_object() { &event["event"] } else { event };
        let Some(kind) = event["kind"].as_str() else {
            continue;
        };
        if event["key"] == "stats" {
            continue;
        }
        let what = match kind {
            "ConversationStateUpdateEvent" => match &event["value"] {
                Value::String(_) if event["key"] == "last_user_message_id" => "last_user_message_id".into(),
                Value::String(value) => format!("{}={value}", event["key"]),
                value if event["key"] == "full_state" => format!("full_state {} {}", value["execution_status"], keys(value)),
                value => format!("{} {}", event["key"], keys(value)),
            },
            "ActionEvent" => format!("{} {}", event["tool_name"], keys(&event["action"])),
            "ObservationEvent" => format!("{} {} {}", event["tool_name"], event["observation"]["kind"], event["observation"]["is_error"]),
            "MessageEvent" => format!("{} {}", event["llm_message"]["role"], event["llm_message"]["content"].as_array().unwrap().len()),
            "HookExecutionEvent" => format!("{} blocked={} exit={} success={}", event["hook_event_type"], event["blocked"], event["exit_code"], event["success"]),
            "ConversationErrorEvent" => event["code"].to_string(),
            _ => String::new(),
        };
        lines.push(format!("{} {kind} {what} [{}]", event["source"], keys(event)));
    }
    lines
}

async fn refusals(side: &mut Side) {
    let ghost = "00000000-0000-4000-8000-000000000000";
    let id = side.create(Value::Null).await;
    let conversation = format!("/api/conversations/{id}");
    let cases = [
        ("GET", "/alive".to_owned(), Value::Null),
        ("GET", "/health".to_owned(), Value::Null),
        ("GET", "/ready".to_owned(), Value::Null),
        ("GET", "/nothing".to_owned(), Value::Null),
        ("GET", "/api/nothing".to_owned(), Value::Null),
        ("DELETE", "/alive".to_owned(), Value::Null),
        ("GET", "/api/conversations/nope".to_owned(), Value::Null),
        ("GET", format!("/api/conversations/{ghost}"), Value::Null),
        ("GET", format!("/api/conversations/{ghost}/events/search"), Value::Null),
        ("GET", format!("/api/conversations/{ghost}/events/count"), Value::Null),
        ("POST", format!("/api/conversations/{ghost}/events"), json!({"content": []})),
        ("POST", format!("/api/conversations/{ghost}/run"), Value::Null),
        ("POST", format!("/api/conversations/{ghost}/pause"), Value::Null),
        ("POST", format!("/api/conversations/{ghost}/interrupt"), Value::Null),
        ("DELETE", format!("/api/conversations/{ghost}"), Value::Null),
        ("PATCH", format!("/api/conversations/{ghost}"), json!({"title": "x"})),
        ("GET", format!("/api/conversations/{ghost}/agent_final_response"), Value::Null),
        ("POST", "/api/conversations".to_owned(), json!({})),
        ("POST", "/api/conversations".to_owned(), json!({"workspace": {}})),
        ("POST", format!("{conversation}/events"), json!({})),
        ("POST", format!("{conversation}/events"), json!({"content": "text"})),
        ("POST", format!("{conversation}/events/respond_to_confirmation"), json!({})),
        ("GET", format!("{conversation}/events/search?limit=101"), Value::Null),
        ("GET", format!("{conversation}/events/search?limit=0"), Value::Null),
        ("GET", format!("{conversation}/events/search?limit=x"), Value::Null),
        ("GET", format!("{conversation}/events/search?sort_order=x"), Value::Null),
        ("GET", format!("{conversation}/events/{ghost}"), Value::Null),
        ("GET", format!("/api/conversations?ids={ghost}"), Value::Null),
        ("GET", "/api/bash/bash_events/nope".to_owned(), Value::Null),
        ("POST", format!("/api/bash/bash_commands/{}/stop", ghost.replace('-', "")), Value::Null),
        ("POST", "/api/bash/start_bash_command".to_owned(), json!({})),
    ];
    for (method, path, body) in cases {
        side.check(method, &path, body).await;
    }
}

async fn sockets_refused(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let ghost = "00000000-0000-4000-8000-000000000000";
    for kind in ["session", "events"] {
        let mut socket = side.socket(&format!("/sockets/{kind}/{ghost}")).await;
        let line = format!("{kind} unknown {:?}", next(&mut socket).await);
        side.note(line);
        let wrong = Client::builder(side.url.as_str()).session_api_key("wrong").build().unwrap();
        let mut socket = wrong.socket(&format!("/sockets/{kind}/{id}")).await.unwrap();
        let line = format!("{kind} wrong key {:?}", next(&mut socket).await);
        side.note(line);
        for path in [
            format!("/sockets/{kind}/nope"),
            format!("/sockets/{kind}/{id}?session_api_key=wrong"),
            format!("/sockets/{kind}"),
            format!("/sockets/{kind}/{id}?after_seq=x&resend_mode=x"),
        ] {
            let status = side.client.socket(&path).await.err().and_then(|e| e.status());
            side.note(format!("{kind} handshake {status:?}"));
        }
    }
}

async fn the_main_job(side: &mut Side) {
    let check = format!("python3 -m py_compile {}/test_broken.py || exit 2", side.work);
    let hooks = json!({"Stop": [{"matcher": "*", "hooks": [{"command": check, "timeout": 30}]}]});
    let id = side.create(json!({"hook_config": hooks})).await;
    let mut socket = side.socket(&format!("/sockets/session/{id}?after_seq=-1")).await;
    let mut legacy = side.socket(&format!("/sockets/events/{id}")).await;
    // The first snapshot is a subscription's; the log begins after it.
    let sync = next(&mut socket).await.unwrap();
    side.note(sync.to_string());
    let first = next(&mut socket).await.unwrap();
    side.note(story(&[first]).join("\n"));
    let first = next(&mut legacy).await.unwrap();
    side.note(story(&[first]).join("\n"));
    side.say(&id, "Create a broken test", true).await;
    let frames = run_frames(&mut socket).await;
    side.note(story(&frames).join("\n"));
    let seqs = frames.iter().filter_map(|frame| frame["seq"].as_u64());
    let dense = seqs.clone().eq(0..seqs.count() as u64);
    side.note(format!("dense: {dense}"));
    let frames = run_frames(&mut legacy).await;
    side.note("legacy");
    side.note(story(&frames).join("\n"));
    let log = side.log(&id).await;
    side.note("log");
    side.note(story(&log).join("\n"));
    let path = format!("/api/conversations/{id}");
    let info = side.check("GET", &path, Value::Null).await;
    side.note(format!("{} {}", info["execution_status"], keys(&info["stats"]["usage_to_metrics"])));
    side.note(info["stats"]["usage_to_metrics"]["default"]["accumulated_cost"].to_string());
    side.check("GET", &format!("{path}/agent_final_response"), Value::Null).await;
    // Nothing new was said: a run is nothing but a snapshot.
    side.check("POST", &format!("{path}/run"), Value::Null).await;
    let after = next(&mut socket).await.unwrap();
    side.note(story(&[after]).join("\n"));
}

async fn cursors_and_pages(side: &mut Side) {
    let id = side.create(Value::Null).await;
    for n in 0..12 {
        side.say(&id, &format!("message {n}"), false).await;
    }
    let log = side.log(&id).await;
    let path = format!("/api/conversations/{id}/events");
    let place = |event: &Value| log.iter().position(|other| other["id"] == event["id"]);
    for query in [
        "limit=5", "limit=5&sort_order=TIMESTAMP_DESC", "limit=100&kind=MessageEvent",
        "limit=4&source=user", "body=MESSAGE%201", "page_id=unknown&limit=3",
    ] {
        let mut target = format!("{path}/search?{query}");
        for _ in 0..3 {
            let (status, page) = side.ask("GET", &target, Value::Null).await;
            let places: Vec<_> = page["items"].as_array().unwrap().iter().map(place).collect();
            let line = format!("{query} {status} {places:?} more={}", page["next_page_id"].is_string());
            side.note(line);
            match page["next_page_id"].as_str() {
                Some(next) => target = format!("{path}/search?{query}&page_id={next}"),
                None => break,
            }
        }
    }
    side.check("GET", &format!("{path}/count"), Value::Null).await;
    side.check("GET", &format!("{path}/count?kind=MessageEvent"), Value::Null).await;
    let ids = json!([log[3]["id"], "unknown", log[1]["id"]]);
    let (status, batch) = side.ask("GET", &path, ids).await;
    let batch: Vec<_> = batch.as_array().unwrap().iter().map(place).collect();
    side.note(format!("batch {status} {batch:?}"));
    let last = log.len() as i64 - 1;
    for after in [-1, 0, 5, last - 1, last, last + 7] {
        let mut socket = side.socket(&format!("/sockets/session/{id}?after_seq={after}")).await;
        let sync = next(&mut socket).await.unwrap();
        side.note(sync.to_string());
        let mut seqs = Vec::new();
        loop {
            let frame = next(&mut socket).await.unwrap();
            match frame["seq"].as_u64() {
                Some(seq) => seqs.push(seq),
                None => break,
            }
        }
        side.note(format!("{seqs:?}, then a snapshot"));
    }
}

async fn steering(side: &mut Side) {
    let id = side.create(json!({"tags": {"a": "b"}})).await;
    let path = format!("/api/conversations/{id}");
    let mut socket = side.socket(&format!("/sockets/session/{id}?after_seq=-1")).await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    side.check("POST", &format!("{path}/pause"), Value::Null).await;
    loop {
        let frame = next(&mut socket).await.unwrap();
        side.note(story(&[frame.clone()]).join("\n"));
        if frame["event"]["key"] == "full_state" {
            break;
        }
    }
    side.check("PATCH", &path, json!({"title": "A title", "tags": {"c": "d"}})).await;
    let info = side.check("GET", &path, Value::Null).await;
    side.note(format!("{} {}", info["title"], info["tags"]));
    let again = json!({"conversation_id": id, "workspace": {"working_dir": side.work}, "agent": {"llm": side.llm}});
    side.check("POST", "/api/conversations", again).await;
    side.say(&id, "go", true).await;
    side.until(&id, "finished").await;
    side.check("POST", &format!("{path}/interrupt"), Value::Null).await;
    side.check("GET", &format!("{path}/agent_final_response"), Value::Null).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    side.check("DELETE", &path, Value::Null).await;
    side.check("DELETE", &path, Value::Null).await;
    side.check("GET", &path, Value::Null).await;
}

async fn interrupting(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}");
    side.say(&id, "take your time", false).await;
    let mut socket = side.socket(&format!("/sockets/session/{id}")).await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    side.check("POST", &format!("{path}/run"), Value::Null).await;
    let running = next(&mut socket).await.unwrap();
    side.note(story(&[running]).join("\n"));
    // The model is being asked now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    side.check("POST", &format!("{path}/run"), Value::Null).await;
    side.check("POST", &format!("{path}/interrupt"), Value::Null).await;
    loop {
        let frame = next(&mut socket).await.unwrap();
        let over = frame["event"]["key"] == "full_state";
        side.note(story(&[frame]).join("\n"));
        if over {
            break;
        }
    }
    side.until(&id, "paused").await;
}

async fn approval(side: &mut Side) {
    let id = side.create(json!({"confirmation_policy": {"kind": "AlwaysConfirm"}})).await;
    let path = format!("/api/conversations/{id}");
    let answer = format!("{path}/events/respond_to_confirmation");
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": false, "reason": "no"})).await;
    side.until(&id, "idle").await;
    side.check("POST", &answer, json!({"accept": false})).await;
    side.check("POST", &format!("{path}/run"), Value::Null).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.check("POST", &answer, json!({"accept": true})).await;
    side.until(&id, "finished").await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

async fn failures(side: &mut Side) {
    let id = side.create(Value::Null).await;
    side.say(&id, "try", true).await;
    side.until(&id, "error").await;
    side.check("POST", &format!("/api/conversations/{id}/run"), Value::Null).await;
    side.until(&id, "finished").await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}
