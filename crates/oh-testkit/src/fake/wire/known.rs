//! The routes of the agent server, used to distinguish routes that the fake server does not support
//! from routes that do not exist.

use http::{HeaderValue, StatusCode, header};

use crate::fake::wire::reply::{Call, detail, not_found};
use crate::http::Response;

/// The server's routes, one per line, from its API description (1.58.2). A test compares them with
/// it.
const ROUTES: &str = include_str!("routes.txt");

/// The routes that the server's API description omits. A conversation in a container has two more.
const HIDDEN: &str = "POST /api/conversations/prepare-for-sandbox-pause
PUT /api/conversations/{conversation_id}/credential-bindings/{secret_name}";

/// Returns the methods that the agent server supports for a path.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let routes = ROUTES.lines().chain(HIDDEN.lines());
    let routes = routes.filter_map(|line| line.split_once(' '));
    let there = routes.filter(|(_, pattern)| matches(pattern, path));
    let mut methods: Vec<_> = there.map(|(method, _)| method).collect();
    // A path may match both a literal route and a pattern.
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
            // Matches the rest of the path, including slashes.
            "{file_path}" => return true,
            wanted if wanted.starts_with('{') && !part.is_empty() => {}
            wanted if wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// Returns the response for an unsupported request: 501 if the agent server supports it, 405 if the
/// path has other methods, or 404.
pub(crate) fn undone(call: &Call) -> Response {
    let (method, path) = (call.head.method.as_str(), call.path());
    let methods = methods(path);
    if methods.contains(&method) {
        let message = format!(
            "the fake server does not support {method} {path}; test this against a real agent \
             server"
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
    fn known_paths_are_distinguished() {
        assert_eq!(methods("/api/settings"), ["GET", "PATCH"]);
        assert_eq!(methods("/api/profiles/x"), ["DELETE", "GET", "POST"]);
        assert_eq!(methods("/api/conversations/x/workspace/a/b"), ["GET"]);
        assert!(methods("/api/settings/").is_empty() && methods("/nothing").is_empty());
    }
}
