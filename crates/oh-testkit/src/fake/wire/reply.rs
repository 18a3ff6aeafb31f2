//! Requests and the agent server's responses to them.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde_json::{Value, json};

use crate::http::{self as server, Response};

/// A response or other result; the error is a response that rejects the request.
pub(crate) type Answered<T = Response> = Result<T, Box<Response>>;

/// A request with its body.
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Returns a decoded query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        query(self.head.uri.query().unwrap_or_default(), name)
    }

    pub(crate) fn json(&self) -> Answered<Value> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let at = json!(["body", 0]);
            invalid("json_invalid", at, "JSON decode error").into()
        })
    }
}

pub(crate) fn query(text: &str, name: &str) -> Option<String> {
    // The last of several values wins.
    pairs(text)
        .filter_map(|(key, value)| (key == name).then_some(value))
        .last()
}

/// Returns the decoded parameters of a query.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

pub(crate) fn decode(text: &str) -> String {
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

pub(crate) fn page_limit(call: &Call) -> Answered<usize> {
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

/// Returns a number in the query that is within bounds.
pub(crate) fn number(
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

pub(crate) fn ok(body: &impl serde::Serialize) -> Response {
    server::json(StatusCode::OK, body)
}

pub(crate) fn no_content() -> Response {
    let mut response = http::Response::new(server::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub(crate) fn detail(status: StatusCode, detail: &str) -> Response {
    server::json(status, &json!({"detail": detail}))
}

pub(crate) fn not_found() -> Response {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// Returns the response for missing required fields.
pub(crate) fn missing(at: impl Iterator<Item = Value>) -> Response {
    let problems: Vec<_> = at
        .map(|at| json!({"type": "missing", "loc": at, "msg": "Field required"}))
        .collect();
    server::json(
        StatusCode::UNPROCESSABLE_ENTITY,
        &json!({"detail": problems}),
    )
}

pub(crate) fn invalid(kind: &str, at: Value, message: &str) -> Response {
    let problem = json!({"type": kind, "loc": at, "msg": message});
    let body = json!({"detail": [problem]});
    server::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
}

/// Checks that the body of a request has these fields.
pub(crate) fn require(body: &Value, fields: &[&str]) -> Answered<()> {
    let missing = fields.iter().filter(|field| body.get(field).is_none());
    let missing = missing
        .map(|field| json!({"type": "missing", "loc": ["body", field], "msg": "Field required"}));
    let missing: Vec<_> = missing.collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let body = json!({ "detail": missing });
            Err(server::json(StatusCode::UNPROCESSABLE_ENTITY, &body).into())
        }
    }
}

/// Returns a 503 response. As for other server errors, the agent server reports the reason in the
/// field `exception`.
pub(crate) fn unavailable(why: &str) -> Response {
    let exception = format!("503: {why}");
    let body = json!({"detail": "Internal Server Error", "exception": exception});
    server::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// Returns an internal server error. The server then closes the connection without announcing it.
pub(crate) fn crash(exception: &str) -> Response {
    let body = json!({"detail": "Internal Server Error", "exception": exception});
    server::and_close(server::json(StatusCode::INTERNAL_SERVER_ERROR, &body))
}

/// Returns the query parameter `path`, which all file routes need.
pub(crate) fn path(call: &Call) -> Answered<String> {
    call.query("path")
        .ok_or_else(|| invalid("missing", json!(["query", "path"]), "Field required").into())
}

/// Returns the response when no slot is free.
pub(crate) fn full() -> Response {
    let text = "Conversation run limit reached. Retry the request later.";
    detail(StatusCode::TOO_MANY_REQUESTS, text)
}

/// Returns the response of a server that has not been activated.
pub(crate) fn dormant() -> Response {
    unavailable("server is in deferred-init state 'dormant'; call POST /api/init first")
}
