//! The routes of the REST API, with the agent server's statuses and bodies.

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use super::{
    bash, conversations, files, git, init,
    known::{self, undone},
    skills, sockets, stored,
    world::{self, World},
};
use crate::{
    fault::{AnswerFault, Asked, refused_upgrade},
    http::{self as server, Request, Response},
    seen::Seen,
};

/// A response or other result; the error is a response that rejects the request.
pub(super) type Answered<T = Response> = Result<T, Box<Response>>;

/// A request with its body.
pub(super) struct Call {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Returns a decoded query parameter.
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
    // The last of several values wins.
    pairs(text)
        .filter_map(|(key, value)| (key == name).then_some(value))
        .last()
}

/// Returns the decoded parameters of a query.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
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

/// Responds to a request, with the active faults.
pub(super) async fn answer(world: Arc<World>, request: Request) -> Response {
    if world.down.load(Ordering::SeqCst) {
        return server::unsaid();
    }
    world.thawed().await;
    let path = request.uri().path().to_owned();
    let upgrade = path.starts_with("/sockets/");
    let seen = Seen::new(request.method().clone(), &path, request.uri().query());
    // Reads the body first, so that a rejection also follows a complete request.
    let (mut request, call) = match upgrade {
        true => (Some(request), None),
        false => {
            let (head, body) = request.into_parts();
            let body = server::read_body(body).await;
            (None, Some(Call { head, body }))
        }
    };
    let seen = match &call {
        Some(call) => seen.body(&call.body),
        None => seen,
    };
    let method = seen.method.clone();
    let unanswered = world.seen.add(seen);
    let asked = Asked {
        method: Some(method.as_str()),
        path: &path,
        upgrade,
    };
    let (mut lost, mut wrong_length, mut held) = (false, false, Vec::new());
    for hit in world.faults.of_request(asked) {
        match hit.what {
            AnswerFault::Status {
                status,
                retry_after,
                html,
            } => {
                unanswered.answered(status);
                return refuse(status, retry_after, html);
            }
            AnswerFault::Upgrade(how) => {
                let Some((status, page)) = refused_upgrade(how) else {
                    return server::unsaid();
                };
                unanswered.answered(status.as_u16());
                return no_upgrade(status, page);
            }
            AnswerFault::WrongLength => wrong_length = true,
            AnswerFault::Lost => lost = true,
            AnswerFault::Delay(by) => tokio::time::sleep(by).await,
            AnswerFault::Hang => world.faults.until_lifted(&hit).await,
            AnswerFault::Hold => held.push(hit),
        }
    }
    let mut response = match (&mut request, &call) {
        (Some(request), _) => sockets::open(&world, request),
        (None, Some(call)) => route(&world, call).await,
        (None, None) => not_found(),
    };
    for hit in held {
        world.faults.until_lifted(&hit).await;
    }
    world.thawed().await;
    unanswered.answered(response.status().as_u16());
    if lost {
        return server::unsaid();
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

/// Returns the response of a refused upgrade.
fn no_upgrade(status: StatusCode, page: &'static str) -> Response {
    let mut response = http::Response::new(server::full(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else if !page.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    }
    server::and_close(response)
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
    if !known::methods(call.path()).contains(&method) {
        return undone(call);
    }
    let answered = match (method, segments.as_slice()) {
        ("GET", [""] | ["server_info"]) => Ok(ok(&world.server_info())),
        ("GET", ["alive" | "health"]) => Ok(ok(&json!({"status": "ok"}))),
        ("GET", ["ready"]) => Ok(ok(&json!({"status": "ready"}))),
        (_, ["api", "init"]) => init::route(world, call, method),
        (_, ["api" | "v1", ..]) if world.door.is_dormant() => Err(init::dormant().into()),
        // Without a key, a client can only see whether a route exists.
        (_, ["api" | "v1", ..]) if !world.door.admits(&call.head.headers) => {
            Err(detail(StatusCode::UNAUTHORIZED, "Unauthorized").into())
        }
        (_, ["api", "conversations", rest @ ..]) => {
            conversations::route(world, call, method, rest).await
        }
        (_, ["api", "bash", rest @ ..]) => Ok(bash::route(world, None, call, method, rest).await),
        (_, ["api", "file", rest @ ..]) => files::route(world, call, method, rest),
        (_, ["api", "git", rest @ ..]) => git::route(world, call, method, rest),
        (_, ["api", "settings", rest @ ..]) => stored::settings(world, call, method, rest),
        (_, ["api", "profiles", rest @ ..]) => stored::profiles(world, call, method, rest),
        (_, ["api", "vscode", rest @ ..]) => vscode(call, method, rest),
        ("POST", ["api", "hooks"]) => hooks(world, call),
        (_, ["api", "skills", rest @ ..]) => skills::route(world, call, method, rest),
        ("GET", ["api", "tools", ""]) => Ok(ok(&world.server_info()["usable_tools"])),
        ("GET", ["api", "tools", "catalog"]) => Ok(ok(&world.catalog())),
        _ => Err(undone(call).into()),
    };
    answered.unwrap_or_else(|refusal| *refusal)
}

/// Returns the hooks in a project's own file, or none if the file cannot be decoded.
fn hooks(world: &World, call: &Call) -> Answered {
    let request = call.json()?;
    let project = request["project_dir"]
        .as_str()
        .filter(|project| !project.is_empty());
    let file =
        project.and_then(|project| world.disk.read(&format!("{project}/.openhands/hooks.json")));
    let given = file.and_then(|file| serde_json::from_slice::<Value>(&file).ok());
    let config = given
        .map(|given| world::normal_hooks(&given))
        .unwrap_or_default();
    let is_empty = |config: &Value| {
        let mut events = config
            .as_object()
            .into_iter()
            .flat_map(|events| events.values());
        events.all(|matchers| matchers.as_array().is_none_or(Vec::is_empty))
    };
    let config = if is_empty(&config) {
        Value::Null
    } else {
        config
    };
    Ok(ok(&json!({"hook_config": config})))
}

/// Handles the routes of the browser editor, which is disabled.
pub(super) fn vscode(call: &Call, method: &str, rest: &[&str]) -> Answered {
    match (method, rest) {
        ("GET", ["url"]) => {
            let off = "VSCode is disabled in configuration. Set enable_vscode=true to enable.";
            Err(unavailable(off).into())
        }
        ("GET", ["status"]) => Ok(ok(&json!({
            "running": false,
            "enabled": false,
            "message": "VSCode is disabled in configuration",
        }))),
        _ => Err(undone(call).into()),
    }
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

/// Returns a 503 response. As for other server errors, the agent server reports the reason in the
/// field `exception`.
pub(super) fn unavailable(why: &str) -> Response {
    let exception = format!("503: {why}");
    let body = json!({"detail": "Internal Server Error", "exception": exception});
    server::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// Returns an internal server error. The server then closes the connection without announcing it.
pub(super) fn crash(exception: &str) -> Response {
    let body = json!({"detail": "Internal Server Error", "exception": exception});
    server::and_close(server::json(StatusCode::INTERNAL_SERVER_ERROR, &body))
}

/// Returns a number in the query that is within bounds.
pub(super) fn number(
    call: &Call,
    name: &str,
    default: usize,
    bounds: RangeInclusive<usize>,
) -> Answered<usize> {
    let Some(given) = call.query(name) else {
        return Ok(default);
    };
    let at = json!(["query", name]);
    let Ok(number) = given.parse::<usize>() else {
        return Err(invalid("int_parsing", at, "Input should be a valid integer").into());
    };
    if number < *bounds.start() {
        let rule = format!(
            "Input should be greater than or equal to {}",
            bounds.start()
        );
        return Err(invalid("greater_than_equal", at, &rule).into());
    }
    if number > *bounds.end() {
        let rule = format!("Input should be less than or equal to {}", bounds.end());
        return Err(invalid("less_than_equal", at, &rule).into());
    }
    Ok(number)
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

/// Returns the response for missing required fields.
pub(super) fn missing(at: impl Iterator<Item = Value>) -> Response {
    let problems: Vec<_> = at
        .map(|at| json!({"type": "missing", "loc": at, "msg": "Field required"}))
        .collect();
    server::json(
        StatusCode::UNPROCESSABLE_ENTITY,
        &json!({"detail": problems}),
    )
}

pub(super) fn invalid(kind: &str, at: Value, message: &str) -> Response {
    let problem = json!({"type": kind, "loc": at, "msg": message});
    let body = json!({"detail": [problem]});
    server::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
}
