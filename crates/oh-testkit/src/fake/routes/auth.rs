//! Cookies with which a browser loads the pages of workspaces.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::fake::{
    state::door::COOKIE,
    wire::{
        known::undone,
        reply::{Answered, Call, detail, no_content},
    },
};

/// The lifetime of a cookie, in seconds.
const TEN_YEARS: u32 = 10 * 365 * 86_400;

pub(crate) fn route(call: &Call, method: &str, rest: &[&str]) -> Answered {
    let headers = &call.head.headers;
    match (method, rest) {
        ("POST", ["workspace-session"]) => {
            set_cookie(headers, text(headers, "x-session-api-key"), TEN_YEARS)
        }
        ("DELETE", ["workspace-session"]) => set_cookie(headers, "\"\"", 0),
        _ => Err(undone(call).into()),
    }
}

fn set_cookie(headers: &HeaderMap, value: &str, seconds: u32) -> Answered {
    let mut cookie = format!(
        "{COOKIE}={value}; HttpOnly; Max-Age={seconds}; Path=/api/conversations; SameSite=none"
    );
    if is_secure(headers) {
        cookie.push_str("; Secure; Partitioned");
    }
    let Ok(cookie) = HeaderValue::try_from(cookie) else {
        return Err(detail(StatusCode::BAD_REQUEST, "invalid session key").into());
    };
    let mut response = no_content();
    response
        .headers_mut()
        .insert(http::header::SET_COOKIE, cookie);
    Ok(response)
}

/// Returns whether a browser accepts secure cookies from this request: over TLS, or on loopback.
fn is_secure(headers: &HeaderMap) -> bool {
    let first = |name| {
        text(headers, name)
            .split(',')
            .next()
            .unwrap_or_default()
            .trim()
    };
    if first("x-forwarded-proto").eq_ignore_ascii_case("https") {
        return true;
    }
    let host = match first("x-forwarded-host") {
        "" => text(headers, "host"),
        forwarded => forwarded,
    };
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    matches!(
        host.to_lowercase().as_str(),
        "localhost" | "127.0.0.1" | "::1"
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}
