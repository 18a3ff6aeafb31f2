//! The routes of the fake, and who may use them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    fake::wire::reply::{Call, decode, detail, ok, pairs},
    hosted::{cloud::world::World, plane::Routes},
    http::Response,
};

/// The only key that the fake accepts.
pub(super) const KEY: &str = "fake-cloud-api-key";

#[derive(Default)]
pub(super) struct State(Mutex<World>);

impl State {
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes for State {
    fn route(&self, call: &Call) -> Response {
        let mut world = self.lock();
        let text = |name: &str| call.head.headers.get(name)?.to_str().ok();
        let parts: Vec<String> = call.path().split('/').skip(1).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let method = call.head.method.as_str();
        if let ("POST", ["oauth", "device", step]) = (method, parts.as_slice()) {
            let host = text(header::HOST.as_str()).unwrap_or_default();
            return login(&mut world, step, &format!("http://{host}"), call);
        }
        // Requests for the secrets of a sandbox have only its key.
        if let (
            "GET",
            [
                "api",
                "v1",
                "sandboxes",
                id,
                "settings",
                "secrets",
                rest @ ..,
            ],
        ) = (method, parts.as_slice())
        {
            return secrets(&mut world, id, rest, text("x-session-api-key"));
        }
        let given = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if world.expired || given != Some(KEY) {
            return detail(StatusCode::UNAUTHORIZED, "Invalid API key");
        }
        match parts.as_slice() {
            ["api", "v1", "sandboxes", rest @ ..] => sandboxes(&mut world, method, rest, call),
            ["api", "v1", rest @ ..] => account(&mut world, method, rest, call),
            ["api", "organizations"] => ok(&json!({
                "items": [{"id": "org-1", "name": "Ada", "is_personal": true}],
                "current_org_id": "org-1",
            })),
            _ => not_found(),
        }
    }
}

fn login(world: &mut World, step: &str, url: &str, call: &Call) -> Response {
    match step {
        "authorize" => world.account.begin_login(url),
        "token" => {
            let form = String::from_utf8_lossy(&call.body);
            let code = pairs(&form).find(|(name, _)| name == "device_code");
            let code = code.map(|(_, code)| code);
            world.account.poll_login(code.as_deref(), KEY)
        }
        _ => not_found(),
    }
}

fn secrets(world: &mut World, id: &str, rest: &[&str], key: Option<&str>) -> Response {
    let valid = world.find(id).is_some_and(|one| key == Some(&one.key));
    match rest {
        _ if !valid => detail(StatusCode::UNAUTHORIZED, "Invalid session API key"),
        [] => ok(&json!({"secrets": world.account.names()})),
        [name] => world.account.look_up(name),
        _ => not_found(),
    }
}

fn sandboxes(world: &mut World, method: &str, rest: &[&str], call: &Call) -> Response {
    match (method, rest) {
        ("POST", []) => world.start(call.query("sandbox_spec_id")),
        ("GET", []) => {
            let query = pairs(call.head.uri.query().unwrap_or_default());
            world.get(query.filter(|(name, _)| name == "id").map(|(_, id)| id))
        }
        ("GET", ["search"]) => page(call, world.search()),
        ("POST", [id, "pause"]) => world.change(id, "RUNNING", "PAUSED"),
        ("POST", [id, "resume"]) => world.change(id, "PAUSED", "RUNNING"),
        // The service reads the id in the query only.
        ("DELETE", [_]) => match call.query("sandbox_id") {
            Some(id) => world.delete(&id),
            None => detail(StatusCode::UNPROCESSABLE_ENTITY, "sandbox_id is required"),
        },
        _ => not_found(),
    }
}

fn account(world: &mut World, method: &str, rest: &[&str], call: &Call) -> Response {
    let body = call.json().unwrap_or_default();
    let account = &mut world.account;
    match (method, rest) {
        ("GET", ["users", "me"]) => {
            account.me(call.query("expose_secrets").as_deref() == Some("true"))
        }
        ("GET", ["settings"]) => account.settings(),
        ("POST", ["settings"]) => account.save_settings(&body),
        ("GET", ["secrets", "search"]) => page(call, account.names()),
        ("POST", ["secrets"]) => account.create_secret(&body),
        ("PUT", ["secrets", name]) => account.update_secret(name, &body),
        ("DELETE", ["secrets", name]) => account.delete_secret(name),
        ("GET", ["git", "repositories", "search"]) => {
            let query = call.query("query").unwrap_or_default();
            let names = ["ada/engine", "ada/notes", "ada/tables"];
            let names = names.iter().filter(|name| name.contains(&query));
            let shown = names.map(|name| {
                let provider = call.query("provider");
                json!({"id": *name, "full_name": *name, "git_provider": provider,
                    "is_public": true, "main_branch": "main"})
            });
            page(call, shown.collect())
        }
        ("GET", ["git", "branches", "search"]) => {
            let branch =
                |name: &str| json!({"name": name, "commit_sha": "0a1b", "protected": true});
            page(call, vec![branch("main")])
        }
        _ => not_found(),
    }
}

/// Returns the page that a request asks for. The id of a page is the index of its first item.
fn page(call: &Call, items: Vec<Value>) -> Response {
    let number = |name: &str| call.query(name).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (
        number("page_id").unwrap_or(0),
        number("limit").unwrap_or(100),
    );
    let end = from.saturating_add(limit);
    let next = (end < items.len()).then(|| end.to_string());
    let items: Vec<Value> = items.into_iter().skip(from).take(limit).collect();
    ok(&json!({"items": items, "next_page_id": next}))
}

fn not_found() -> Response {
    detail(StatusCode::NOT_FOUND, "Not Found")
}
