//! Which routes the agent server has, so that what the fake does not do is told from what nobody
//! does. It answers nothing itself.

use http::{HeaderValue, StatusCode, header};

use super::routes::{Call, detail, not_found};
use crate::http::Response;

/// A route a line, from the server's own description (1.58.0). A test holds it against that.
const ROUTES: &str = include_str!("routes.txt");

/// The methods that the agent server has at a path.
pub(super) fn methods(path: &str) -> Vec<&'static str> {
    let routes = ROUTES.lines().filter_map(|line| line.split_once(' '));
    let there = routes.filter(|(_, pattern)| matches(pattern, path));
    let mut methods: Vec<_> = there.map(|(method, _)| method).collect();
    // A path may be spelled out and fit a pattern, too.
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let Some(part) = parts.next() else {
            return false;
        };
        match wanted {
            // All that follows, slashes included.
            "{file_path}" => return true,
            wanted if wanted.starts_with('{') && !part.is_empty() => {}
            wanted if wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// For what no route of the fake answers: the agent server could and the fake cannot (501), the
/// path has other methods (405), or there is no such path (404).
pub(super) fn undone(call: &Call) -> Response {
    let (method, path) = (call.head.method.as_str(), call.path());
    let methods = methods(path);
    if methods.contains(&method) {
        let message = format!(
            "the fake server does not do {method} {path}; test this against a real agent server"
        );
        return detail(StatusCode::NOT_IMPLEMENTED, &message);
    }
    if methods.is_empty() {
        return not_found();
    }
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Ok(allowed) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(methods("/api/settings"), ["GET", "PATCH"]);
        assert_eq!(methods("/api/profiles/x"), ["DELETE", "GET", "POST"]);
        assert_eq!(methods("/api/conversations/x/workspace/a/b"), ["GET"]);
        assert!(methods("/api/settings/").is_empty() && methods("/nothing").is_empty());
    }
}
