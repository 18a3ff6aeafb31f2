//! Session keys, and the activation of a server that starts dormant.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::world::World,
    wire::{
        known::undone,
        reply::{Answered, Call, detail, invalid, ok},
    },
};

/// Handles `/api/init`, which needs no session key. An activation needs the secret key.
pub(crate) fn route(world: &World, call: &Call, method: &str) -> Answered {
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
            // Without a dormant start there is no valid secret key.
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

/// Decodes the supported fields: session keys and the limit of concurrent runs. The other fields
/// configure a machine and are ignored.
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
