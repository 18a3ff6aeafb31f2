//! The log of requests that a fake server or a proxy received.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// The maximum size of a stored body, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A request as received by a fake server or a proxy.
#[derive(Clone)]
#[non_exhaustive]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query as sent, or an empty string.
    pub query: String,
    /// The body. Empty if it is longer than 1 MiB. A [`Proxy`](crate::Proxy) stores only bodies
    /// with a `Content-Length`, once it has forwarded them.
    pub body: Bytes,
    /// The status of the response. 0 while there is no response; stays 0 if the client disconnects
    /// first.
    pub status: u16,
}

impl Seen {
    pub(crate) fn new(method: Method, path: &str, query: Option<&str>) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: query.unwrap_or_default().to_owned(),
            body: Bytes::new(),
            status: 0,
        }
    }

    pub(crate) fn body(mut self, body: &Bytes) -> Self {
        self.body = match body.len() {
            0..=MAX_BODY => body.clone(),
            _ => Bytes::new(),
        };
        self
    }

    /// Decodes the body as JSON. Returns `Null` if the body is not valid JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the path with each id replaced by `{id}`, such as `/api/conversations/{id}/events`.
    /// Requests of the same kind have the same route.
    pub fn route(&self) -> String {
        let is_id = |part: &str| part.len() >= 32 && part.parse::<uuid::Uuid>().is_ok();
        let parts = self.path.split('/');
        let parts = parts.map(|part| if is_id(part) { "{id}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }

    /// Returns whether the request has this method and route. In `route`, a part in braces matches
    /// any one segment of the path: `/api/conversations/{id}/run`.
    pub fn is(&self, method: &str, route: &str) -> bool {
        self.method.as_str() == method && fits(route, &self.path)
    }
}

// Omits the body, which can contain keys.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            path,
            body,
            status,
            ..
        } = self;
        write!(f, "{method} {path} ({} bytes) -> {status}", body.len())
    }
}

/// Returns whether a path matches a route with parts in braces.
pub(crate) fn fits(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(any), Some(part)) if any.starts_with('{') && !part.is_empty() => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

/// All requests received so far.
#[derive(Default)]
pub(crate) struct Requests(Mutex<Vec<(Seen, Arc<Later>)>>);

/// The parts of a request that arrive after its head.
#[derive(Default)]
struct Later {
    status: AtomicU16,
    body: OnceLock<Bytes>,
}

/// A request that has no response yet.
pub(crate) struct Unanswered(Arc<Later>);

impl Unanswered {
    pub(crate) fn answered(&self, status: u16) {
        self.0.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn body(&self, body: Bytes) {
        let _ = self.0.body.set(body);
    }
}

impl Requests {
    /// Adds a request. Its status is set later.
    pub(crate) fn add(&self, seen: Seen) -> Unanswered {
        let later = Arc::new(Later::default());
        self.lock().push((seen, Arc::clone(&later)));
        Unanswered(later)
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        let all = self.lock();
        let all = all.iter().map(|(seen, later)| Seen {
            status: later.status.load(Ordering::SeqCst),
            body: later.body.get().unwrap_or(&seen.body).clone(),
            ..seen.clone()
        });
        all.collect()
    }

    pub(crate) fn such(&self, method: &str, route: &str) -> Vec<Seen> {
        let mut all = self.all();
        all.retain(|seen| seen.is(method, route));
        all
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (seen, _) in self.lock().iter() {
            let kind = format!("{} {}", seen.method, seen.route());
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }

    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Seen, Arc<Later>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_no_ids_and_match_requests() {
        let requests = Requests::default();
        let id = uuid::Uuid::from_u128(7);
        let mut last = None;
        for id in [id.hyphenated().to_string(), id.simple().to_string()] {
            let path = format!("/api/conversations/{id}/run");
            last = Some(requests.add(Seen::new(Method::POST, &path, Some("a=b"))));
        }
        last.unwrap().answered(409);
        assert_eq!(requests.counts()["POST /api/conversations/{id}/run"], 2);
        let runs = requests.such("POST", "/api/conversations/{any}/run");
        let statuses: Vec<_> = runs.iter().map(|run| run.status).collect();
        assert_eq!((statuses, runs[0].query.as_str()), (vec![0, 409], "a=b"));
        for (method, route) in [
            ("GET", "/api/conversations/{id}/run"),
            ("POST", "/api/conversations/{id}"),
            ("POST", "/api/conversations/{id}/run/x"),
        ] {
            assert!(requests.such(method, route).is_empty(), "{method} {route}");
        }
        requests.forget();
        assert!(requests.all().is_empty());
    }

    #[test]
    fn a_displayed_request_has_no_body() {
        let body = Bytes::from_static(br#"{"api_key":"canary"}"#);
        let seen = Seen::new(Method::POST, "/api/conversations", None).body(&body);
        assert_eq!(
            format!("{seen:?}"),
            "POST /api/conversations (20 bytes) -> 0"
        );
        assert_eq!(seen.json()["api_key"], "canary");
        let long = Bytes::from(vec![b'x'; MAX_BODY + 1]);
        assert!(seen.body(&long).body.len() < MAX_BODY);
    }
}
