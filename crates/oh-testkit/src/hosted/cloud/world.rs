//! The sandboxes of the fake.

use std::collections::VecDeque;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    fake::wire::reply::{detail, ok},
    hosted::cloud::account::Account,
    http::Response,
};

#[derive(Default)]
pub(super) struct World {
    pub(super) supply: VecDeque<(String, String)>,
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) starting: usize,
    pub(super) expired: bool,
    pub(super) account: Account,
    started: usize,
}

pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) spec: String,
    pub(super) status: String,
    pub(super) reason: String,
    /// How many requests for the state are still answered with `STARTING`.
    pub(super) starting: usize,
    pub(super) key: String,
    url: String,
}

impl Sandbox {
    /// Returns the sandbox for one more request.
    fn json(&mut self) -> Value {
        let mut status = self.status.clone();
        if status == "RUNNING" && self.starting > 0 {
            self.starting -= 1;
            "STARTING".clone_into(&mut status);
        }
        let works = status == "RUNNING";
        let url =
            |name: &str, url: String, port: u16| json!({"name": name, "url": url, "port": port});
        let mut shown = json!({
            "id": self.id,
            "created_by_user_id": "user-1",
            "sandbox_spec_id": self.spec,
            "status": status,
            "session_api_key": works.then_some(&self.key),
            "exposed_urls": works.then(|| json!([
                url("AGENT_SERVER", self.url.clone(), 60000),
                url("VSCODE", format!("http://127.0.0.1:60001/?tkn={}", self.key), 60001),
                url("WORKER_1", "http://127.0.0.1:12000".to_owned(), 12000),
                url("WORKER_2", "http://127.0.0.1:12001".to_owned(), 12001),
            ])),
            "created_at": "2026-01-02T03:04:05Z",
        });
        if !self.reason.is_empty() {
            shown["status_reason"] = self.reason.as_str().into();
        }
        shown
    }
}

impl World {
    pub(super) fn find(&mut self, id: &str) -> Option<&mut Sandbox> {
        self.sandboxes.iter_mut().find(|sandbox| sandbox.id == id)
    }

    pub(super) fn start(&mut self, spec: Option<String>) -> Response {
        let Some((url, key)) = self.supply.pop_front() else {
            return detail(StatusCode::SERVICE_UNAVAILABLE, "no capacity left");
        };
        self.started += 1;
        let mut sandbox = Sandbox {
            id: format!("sandbox-{}", self.started),
            spec: spec.unwrap_or_default(),
            status: "RUNNING".to_owned(),
            reason: String::new(),
            // A new sandbox is not ready in the response to its start.
            starting: self.starting + 1,
            url,
            key,
        };
        let answer = ok(&sandbox.json());
        self.sandboxes.push(sandbox);
        answer
    }

    pub(super) fn get(&mut self, ids: impl Iterator<Item = String>) -> Response {
        let found = ids.map(|id| self.find(&id).map_or(Value::Null, Sandbox::json));
        let found: Vec<Value> = found.collect();
        ok(&found)
    }

    pub(super) fn search(&mut self) -> Vec<Value> {
        self.sandboxes.iter_mut().map(Sandbox::json).collect()
    }

    pub(super) fn change(&mut self, id: &str, from: &str, to: &str) -> Response {
        let starting = self.starting;
        match self.find(id) {
            None => detail(StatusCode::NOT_FOUND, "Not Found"),
            Some(sandbox) => {
                if sandbox.status == from {
                    to.clone_into(&mut sandbox.status);
                    sandbox.starting = starting;
                }
                ok(&json!({"success": true}))
            }
        }
    }

    pub(super) fn delete(&mut self, id: &str) -> Response {
        let before = self.sandboxes.len();
        self.sandboxes.retain(|sandbox| sandbox.id != id);
        match self.sandboxes.len() < before {
            true => ok(&json!({"success": true})),
            false => detail(StatusCode::NOT_FOUND, "Not Found"),
        }
    }
}
