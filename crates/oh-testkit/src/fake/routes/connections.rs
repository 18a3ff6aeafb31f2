//! Provider connections: keys that several model profiles share.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{
        lock::lock,
        stored::{MASK, Stored},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, decode, detail, invalid, ok, require},
    },
};
use crate::http::{self as server, Response};

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    match (method, rest) {
        ("GET", []) => {
            let all: Vec<_> = stored.connections.iter().map(shown).collect();
            Ok(ok(&all))
        }
        ("POST", []) => {
            let request = call.json()?;
            require(&request, &["display_name", "api_key"])?;
            check(
                &request,
                &["display_name", "provider", "api_key", "base_url"],
            )?;
            let now = world.clock.seconds();
            let connection = json!({
                "id": world.clock.uuid().simple().to_string(),
                "display_name": request["display_name"],
                "provider": request.get("provider").unwrap_or(&json!("custom")),
                "base_url": request["base_url"],
                "created_at": now,
                "updated_at": now,
                "api_key": request["api_key"],
            });
            let answer = server::json(StatusCode::CREATED, &shown(&connection));
            stored.connections.push(connection);
            Ok(answer)
        }
        ("PATCH", [id]) => {
            let id = decode(id);
            let change = call.json()?;
            check(
                &change,
                &["display_name", "provider", "api_key", "base_url"],
            )?;
            let Some(fields) = change.as_object().filter(|fields| !fields.is_empty()) else {
                let text = "Provide at least one provider connection field to update";
                return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into());
            };
            let now = world.clock.seconds();
            let connection = find(&mut stored, &id)?;
            for (name, value) in fields {
                connection[name] = value.clone();
            }
            connection["updated_at"] = now.into();
            Ok(ok(&shown(connection)))
        }
        ("DELETE", [id]) => {
            let id = decode(id);
            let mut deleted = shown(find(&mut stored, &id)?);
            let linked = |config: &Value| config["provider_connection_id"] == *id;
            let names = stored.profiles.iter().filter(|(_, config)| linked(config));
            let names: Vec<_> = names.map(|(name, _)| name.as_str()).collect();
            let mut reasons = Vec::new();
            if !names.is_empty() {
                reasons.push(format!(
                    "referenced by LLM profile(s): {}",
                    names.join(", ")
                ));
            }
            if linked(&stored.agent["llm"]) {
                reasons.push("referenced by the active agent settings".to_owned());
            }
            if !reasons.is_empty() {
                let text = format!(
                    "Provider connection cannot be deleted while it is {}. Update those \
                     references before deleting it.",
                    reasons.join(" and ")
                );
                return Err(detail(StatusCode::CONFLICT, &text).into());
            }
            stored
                .connections
                .retain(|connection| connection["id"] != *id);
            deleted["api_key_set"] = false.into();
            Ok(ok(&deleted))
        }
        _ => Err(undone(call).into()),
    }
}

fn find<'a>(stored: &'a mut Stored, id: &str) -> Answered<&'a mut Value> {
    let mut all = stored.connections.iter_mut();
    let found = all.find(|connection| connection["id"] == *id);
    found.ok_or_else(|| missing(id).into())
}

fn missing(id: &str) -> Response {
    let text = format!("Provider connection '{id}' not found");
    detail(StatusCode::NOT_FOUND, &text)
}

/// Checks the fields of a request, of which only these may exist.
fn check(request: &Value, known: &[&str]) -> Answered<()> {
    for (name, value) in request.as_object().into_iter().flatten() {
        let at = json!(["body", name]);
        let refused = |kind, rule| Err(invalid(kind, at.clone(), rule).into());
        match (name.as_str(), value) {
            (name, _) if !known.contains(&name) => {
                return refused("extra_forbidden", "Extra inputs are not permitted");
            }
            ("base_url", Value::Null | Value::String(_)) => {}
            ("api_key", Value::String(key)) if key.trim().is_empty() || key == MASK => {
                let rule = "Value error, api_key must be a real key, not blank or redacted";
                return refused("value_error", rule);
            }
            (_, Value::String(text)) if text.is_empty() => {
                return refused(
                    "string_too_short",
                    "String should have at least 1 character",
                );
            }
            (_, Value::String(_)) => {}
            _ => return refused("string_type", "Input should be a valid string"),
        }
    }
    Ok(())
}

/// Returns a connection without its key.
fn shown(connection: &Value) -> Value {
    let mut shown = connection.clone();
    if let Some(fields) = shown.as_object_mut() {
        let key = fields.remove("api_key");
        fields.insert("api_key_set".to_owned(), key.is_some().into());
    }
    shown
}
