//! Who may come in, and whether anybody may yet: session keys, and a server that starts dormant.

use std::sync::OnceLock;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    known::undone,
    routes::{Answered, Call, detail, invalid, ok, unavailable},
    world::World,
};
use crate::http::Response;

/// The keys of a server.
pub(super) struct Door {
    /// The session key it was started with.
    key: Option<String>,
    /// The secret key that activates it, if it starts dormant.
    secret: Option<String>,
    /// What it was activated with: session keys, or nothing about them.
    activated: OnceLock<Option<Vec<String>>>,
}

impl Door {
    pub(super) fn new(key: Option<String>, secret: Option<String>) -> Self {
        Self {
            key,
            secret,
            activated: OnceLock::new(),
        }
    }

    pub(super) fn is_dormant(&self) -> bool {
        self.secret.is_some() && self.activated.get().is_none()
    }

    fn keys(&self) -> &[String] {
        match self.activated.get() {
            Some(Some(keys)) => keys,
            _ => self.key.as_slice(),
        }
    }

    /// Whether it asks for no key.
    pub(super) fn is_open(&self) -> bool {
        self.keys().is_empty()
    }

    pub(super) fn accepts(&self, key: &str) -> bool {
        self.keys().iter().any(|known| known == key)
    }

    /// The key a client is given; empty where none is asked for.
    pub(super) fn key(&self) -> &str {
        self.keys().first().map_or("", String::as_str)
    }

    /// Whether a request may see anything of `/api`.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("x-session-api-key");
        let given = given.and_then(|given| given.to_str().ok());
        self.is_open() || given.is_some_and(|given| self.accepts(given))
    }
}

/// The refusal of a server that nobody has activated yet.
pub(super) fn dormant() -> Response {
    unavailable("server is in deferred-init state 'dormant'; call POST /api/init first")
}

/// `/api/init`, which is open to everyone, and knows the secret key only.
pub(super) fn route(world: &World, call: &Call, method: &str) -> Answered {
    let door = &world.door;
    let state = |state: &str| Ok(ok(&json!({"state": state, "error": null})));
    match method {
        "GET" if door.secret.is_none() => {
            let text = "server is not running with deferred_init=True; the /api/init endpoint is \
                        not available";
            Err(detail(StatusCode::NOT_FOUND, text).into())
        }
        "GET" if door.is_dormant() => state("dormant"),
        "GET" => state("ready"),
        "POST" => {
            let given = call.head.headers.get("x-init-api-key");
            let given = given.and_then(|given| given.to_str().ok());
            // Nobody knows the secret key of one that was not started to be activated.
            if given.is_none() || given != door.secret.as_deref() {
                return Err(detail(StatusCode::UNAUTHORIZED, "Unauthorized").into());
            }
            let (keys, most) = request(call)?;
            if door.activated.get().is_none() && keys.iter().flatten().any(String::is_empty) {
                let text = "session_api_keys cannot contain empty keys";
                return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into());
            }
            if door.activated.set(keys).is_err() {
                let text = "server already in state: ready";
                return Err(detail(StatusCode::BAD_REQUEST, text).into());
            }
            if let Some(most) = most {
                world.slots.allow(most);
            }
            state("ready")
        }
        _ => Err(undone(call).into()),
    }
}

type Activation = (Option<Vec<String>>, Option<usize>);

/// What of the request is played: session keys, and how many may run at once. The rest is about
/// a machine, which is not here.
fn request(call: &Call) -> Answered<Activation> {
    const FIELDS: [&str; 12] = [
        "session_api_keys",
        "secret_key",
        "previous_secret_keys",
        "conversations_path",
        "bash_events_dir",
        "conversation_worktree_root",
        "webhooks",
        "web_url",
        "allow_cors_origins",
        "max_concurrent_runs",
        "env",
        "telemetry",
    ];
    if call.body.is_empty() {
        return Err(invalid("missing", json!(["body"]), "Field required").into());
    }
    let request = call.json()?;
    let mut fields = request.as_object().into_iter().flatten();
    if let Some((unknown, _)) = fields.find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        let at = json!(["body", unknown]);
        let rule = "Extra inputs are not permitted";
        return Err(invalid("extra_forbidden", at, rule).into());
    }
    let keys = request["session_api_keys"].as_array().map(|keys| {
        let keys = keys.iter().filter_map(Value::as_str);
        keys.map(str::to_owned).collect()
    });
    let most = match request["max_concurrent_runs"].as_u64() {
        Some(0) => {
            let at = json!(["body", "max_concurrent_runs"]);
            let rule = "Input should be greater than or equal to 1";
            return Err(invalid("greater_than_equal", at, rule).into());
        }
        most => most.and_then(|most| usize::try_from(most).ok()),
    };
    Ok((keys, most))
}
