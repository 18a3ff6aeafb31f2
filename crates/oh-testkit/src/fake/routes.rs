//! The REST interface: which route does what, with the agent server's statuses and bodies.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use super::{
    agent, bash,
    conversation::Conversation,
    events,
    fault::AnswerFault,
    sockets,
    world::{Seen, World, authorized},
};
use crate::http::{self as server, Request, Response};

/// An answer, or the refusal that stands for it.
pub(super) type Answered<T = Response> = Result<T, Box<Response>>;

/// A parsed request: what the routes look at.
pub(super) struct Call {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// A query parameter, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        query(self.head.uri.query().unwrap_or_default(), name)
    }

    pub(super) fn json(&self) -> Answered<Value> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let at = json!(["body", 0]);
            invalid("json_invalid", at, "JSON decode error").into()
        })
    }
}

pub(super) fn query(text: &str, name: &str) -> Option<String> {
    // Of several the last one counts.
    form_urlencoded(text)
        .filter_map(|(key, value)| (key == name).then_some(value))
        .last()
}

fn form_urlencoded(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(decoded) => {
                        bytes.push(decoded);
                        rest = &rest[2..];
                    }
                    None => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers one request, with the faults in force.
pub(super) async fn answer(world: Arc<World>, mut request: Request) -> Response {
    if world.down.load(Ordering::SeqCst) {
        return broken();
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut lost = false;
    let mut wrong_length = false;
    for fault in world.faults.of_request(&path) {
        match fault {
            AnswerFault::Status {
                status,
                retry_after,
                html,
            } => {
                let response = refuse(status, retry_after, html);
                world.saw(Seen {
                    method,
                    path,
                    status,
                });
                return response;
            }
            AnswerFault::WrongLength => wrong_length = true,
            AnswerFault::Lost => lost = true,
            AnswerFault::Delay(by) => tokio::time::sleep(by).await,
        }
    }
    let mut response = if path.starts_with("/sockets/") {
        sockets::open(&world, &mut request)
    } else {
        let (head, body) = request.into_parts();
        let body = server::read_body(body).await;
        route(&world, &Call { head, body }).await
    };
    let status = response.status().as_u16();
    world.saw(Seen {
        method,
        path,
        status,
    });
    if lost {
        return broken();
    }
    if wrong_length {
        let (sender, body) = server::channel();
        world.spawn(async move {
            sender.send(&b"{"[..]).await;
            sender.cut().await;
        });
        *response.body_mut() = body;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000"));
    }
    response
}

/// No answer at all: the connection breaks.
fn broken() -> Response {
    let (sender, body) = server::channel();
    tokio::spawn(sender.cut());
    http::Response::new(body)
}

fn refuse(status: u16, retry_after: Option<u64>, html: bool) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = if html {
        let reason = status.canonical_reason().unwrap_or("Error");
        let page =
            format!("<html><head><title>{status}</title></head><body>{reason}</body></html>");
        let mut response = http::Response::new(server::full(page));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        response
    } else {
        detail(status, status.canonical_reason().unwrap_or("Error"))
    };
    if let Some(seconds) = retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn route(world: &Arc<World>, call: &Call) -> Response {
    let segments: Vec<_> = call.path().split('/').skip(1).collect();
    let method = call.head.method.as_str();
    match (method, segments.as_slice()) {
        ("GET", [""] | ["server_info"]) => ok(&world.server_info()),
        ("GET", ["alive" | "health"]) => ok(&json!({"status": "ok"})),
        ("GET", ["ready"]) => ok(&json!({"status": "ready"})),
        (_, [""] | ["server_info" | "alive" | "health" | "ready"]) => {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
        (_, ["api", ..]) if !authorized(world, &call.head.headers) => {
            detail(StatusCode::UNAUTHORIZED, "Unauthorized")
        }
        (_, ["api", "conversations", rest @ ..]) => {
            conversations(world, call, method, rest).unwrap_or_else(|refusal| *refusal)
        }
        (_, ["api", "bash", rest @ ..]) => bash::route(world, call, method, rest).await,
        ("GET", ["api", "tools", ""]) => ok(&world.server_info()["usable_tools"]),
        _ if known(&segments) => undone(call),
        _ => not_found(),
    }
}

fn conversations(world: &Arc<World>, call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("POST", []) => return create(world, call),
        ("GET", []) => return Ok(batch(world, call)),
        ("GET", ["search"]) => return search(world, call),
        ("GET", ["count"]) => {
            let wanted = call.query("status");
            let all = world.conversations();
            let count = all
                .iter()
                .filter(|conversation| wanted.as_ref().is_none_or(|s| *s == conversation.status()));
            return Ok(ok(&count.count()));
        }
        _ => {}
    }
    let [id, rest @ ..] = rest else {
        return Err(not_found().into());
    };
    let id = id.parse::<uuid::Uuid>().map_err(|_| {
        let at = json!(["path", "conversation_id"]);
        invalid("uuid_parsing", at, "Input should be a valid UUID")
    })?;
    let found = world.conversation(id);
    if let ["events", rest @ ..] = rest {
        let Some(conversation) = found.filter(|conversation| !conversation.lock().leased) else {
            let missing = format!("Conversation not found: {}", id.hyphenated());
            return Err(detail(StatusCode::NOT_FOUND, &missing).into());
        };
        return events::route(world, &conversation, call, method, rest);
    }
    let conversation = found.ok_or_else(not_found)?;
    match (method, rest) {
        ("GET", []) => return Ok(ok(&info(&conversation))),
        _ if conversation.lock().leased => return Err(not_found().into()),
        ("DELETE", []) => {
            world.delete(id);
        }
        ("PATCH", []) => update(&conversation, &call.json()?),
        ("POST", ["run"]) => {
            if !agent::start(world, &conversation) {
                let busy = "Conversation already running. Wait for completion or pause first.";
                return Err(detail(StatusCode::CONFLICT, busy).into());
            }
        }
        ("POST", ["pause"]) => events::pause(&conversation),
        ("POST", ["interrupt"]) => events::interrupt(&conversation),
        ("POST", ["confirmation_policy"]) => {
            conversation.set("confirmation_policy", call.json()?["policy"].clone());
        }
        ("POST", ["secrets"]) => {
            call.json()?;
        }
        ("POST", ["switch_llm"]) => {
            let mut llm = call.json()?["llm"].clone();
            llm["api_key"] = Value::Null;
            let mut agent = conversation.lock().info["agent"].clone();
            agent["llm"] = llm;
            conversation.set("agent", agent);
        }
        ("GET", ["agent_final_response"]) => {
            let response = events::final_response(&conversation);
            return Ok(ok(&json!({"response": response})));
        }
        _ => return Err(undone(call).into()),
    }
    Ok(ok(&json!({"success": true})))
}

fn create(world: &Arc<World>, call: &Call) -> Answered {
    let request = call.json()?;
    if !request["workspace"].is_object() {
        return Err(invalid("missing", json!(["body", "workspace"]), "Field required").into());
    }
    if !request["workspace"]["working_dir"].is_string() {
        return Err(detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into());
    }
    let id = match request["conversation_id"].as_str() {
        Some(id) => id.parse().map_err(|_| {
            let at = json!(["body", "conversation_id"]);
            invalid("uuid_parsing", at, "Input should be a valid UUID")
        })?,
        None => world.clock.uuid(),
    };
    let (conversation, is_new) = world.create(id, &request);
    if is_new && request["initial_message"].is_object() {
        agent::receive(world, &conversation, &request["initial_message"]);
        agent::start(world, &conversation);
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut info = info(&conversation);
    info["runtime_info"] = Value::Null;
    Ok(server::json(status, &info))
}

fn update(conversation: &Conversation, request: &Value) {
    if !request["title"].is_null() {
        let mut inner = conversation.lock();
        let title = request["title"].clone();
        inner.info.insert("title".to_owned(), title);
    }
    // A title goes unannounced; tags are state.
    if !request["tags"].is_null() {
        conversation.set("tags", request["tags"].clone());
    }
}

fn batch(world: &World, call: &Call) -> Response {
    let found: Vec<_> = form_urlencoded(call.head.uri.query().unwrap_or_default())
        .filter(|(name, _)| name == "ids")
        .map(|(_, id)| {
            let id = id.parse().ok()?;
            world
                .conversation(id)
                .map(|conversation| info(&conversation))
        })
        .collect();
    ok(&found)
}

fn search(world: &World, call: &Call) -> Answered {
    let limit = page_limit(call)?;
    let from = call
        .query("page_id")
        .and_then(|id| id.parse::<uuid::Uuid>().ok());
    let wanted = call.query("status");
    let mut found: Vec<_> = world.conversations();
    found.retain(|conversation| wanted.as_ref().is_none_or(|s| *s == conversation.status()));
    // By name, not by date: a page must stay what it is while conversations come.
    let start = from
        .and_then(|id| found.iter().position(|conversation| conversation.id == id))
        .unwrap_or_default();
    let page: Vec<_> = found
        .iter()
        .skip(start)
        .take(limit)
        .map(|c| info(c))
        .collect();
    let next = found.get(start + limit).map(|c| c.id.simple().to_string());
    Ok(ok(&json!({"items": page, "next_page_id": next})))
}

pub(super) fn page_limit(call: &Call) -> Answered<usize> {
    let Some(limit) = call.query("limit") else {
        return Ok(100);
    };
    let at = json!(["query", "limit"]);
    match limit.parse::<usize>() {
        Ok(limit @ 1..=100) => Ok(limit),
        Ok(0) => Err(invalid("greater_than", at, "Input should be greater than 0").into()),
        Ok(_) => {
            let rule = "Input should be less than or equal to 100";
            Err(invalid("less_than_equal", at, rule).into())
        }
        Err(_) => Err(invalid("int_parsing", at, "Input should be a valid integer").into()),
    }
}

pub(super) fn info(conversation: &Conversation) -> Value {
    let mut info = Value::Object(conversation.lock().info.clone());
    info["runtime_info"] =
        json!({"runtime_status": "available", "can_resume": true, "runtime_error": null});
    info
}

pub(super) fn ok(body: &impl serde::Serialize) -> Response {
    server::json(StatusCode::OK, body)
}

pub(super) fn detail(status: StatusCode, detail: &str) -> Response {
    server::json(status, &json!({"detail": detail}))
}

pub(super) fn not_found() -> Response {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

pub(super) fn invalid(kind: &str, at: Value, message: &str) -> Response {
    let problem = json!({"type": kind, "loc": at, "msg": message});
    let body = json!({"detail": [problem]});
    server::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
}

/// Routes the agent server has and this one does not do.
fn known(segments: &[&str]) -> bool {
    const AREAS: [&str; 20] = [
        "file",
        "git",
        "vscode",
        "skills",
        "sub-agents",
        "plugins",
        "hooks",
        "settings",
        "profiles",
        "agent-profiles",
        "meta-profiles",
        "llm",
        "mcp",
        "acp",
        "init",
        "tools",
        "workspaces",
        "auth",
        "desktop",
        "canvas-extensions",
    ];
    match segments {
        ["api", area, ..] => AREAS.contains(area),
        ["v1", ..] => true,
        _ => false,
    }
}

/// Says honestly that the agent server could do this and the fake cannot.
pub(super) fn undone(call: &Call) -> Response {
    let message = format!(
        "the fake server does not do {} {}; test this against a real agent server",
        call.head.method,
        call.path()
    );
    detail(StatusCode::NOT_IMPLEMENTED, &message)
}
