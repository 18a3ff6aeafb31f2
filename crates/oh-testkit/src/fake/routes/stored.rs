//! The settings, secrets and model profiles of a server, stored in memory.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::fake::{
    routes::{agents, mcp, saved},
    state::{
        lock::lock,
        stored::{Expose, MASK, Stored, merge, shown},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, decode, detail, invalid, ok},
    },
};
use crate::http as server;

fn expose(call: &Call) -> Answered<Expose> {
    let given = call.head.headers.get("x-expose-secrets");
    let given = given
        .and_then(|given| given.to_str().ok())
        .unwrap_or_default();
    match given.trim().to_lowercase().as_str() {
        "" => Ok(Expose::Masked),
        "encrypted" | "true" => Ok(Expose::Encrypted),
        "plaintext" => Ok(Expose::Plain),
        other => {
            let text = format!(
                "Invalid X-Expose-Secrets header value: '{other}'. Valid values are: \
                 'encrypted', 'plaintext'."
            );
            Err(detail(StatusCode::BAD_REQUEST, &text).into())
        }
    }
}

pub(crate) fn settings(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    match (method, rest) {
        ("GET", []) => Ok(ok(&stored.settings(expose(call)?))),
        ("PATCH", []) => update(&mut stored, &call.json()?),
        (_, ["mcp", key]) => mcp::route(&mut stored, call, method, key),
        ("GET", ["secrets"]) => {
            let secrets = stored.secrets.iter();
            let secrets: Vec<_> = secrets
                .map(|(name, (_, description))| json!({"name": name, "description": description}))
                .collect();
            Ok(ok(&json!({"secrets": secrets})))
        }
        ("PUT", ["secrets"]) => {
            let secret = call.json()?;
            let missing =
                |field: &str| invalid("missing", json!(["body", field]), "Field required");
            let name = secret["name"].as_str().ok_or_else(|| missing("name"))?;
            let value = secret["value"].as_str().ok_or_else(|| missing("value"))?;
            check_name(name)?;
            if value.trim().is_empty() || value == MASK {
                let text = "Secret value must not be empty or redacted";
                return Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into());
            }
            let description = secret["description"].as_str().map(str::to_owned);
            let answer = ok(&json!({"name": name, "description": description}));
            stored
                .secrets
                .insert(name.to_owned(), (value.to_owned(), description));
            Ok(answer)
        }
        ("GET", ["secrets", name]) => {
            let name = decode(name);
            check_name(&name)?;
            let (value, _) = stored.secrets.get(&name).ok_or_else(no_secret)?;
            let mut response = http::Response::new(server::full(value.clone()));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(response)
        }
        ("DELETE", ["secrets", name]) => {
            let name = decode(name);
            check_name(&name)?;
            stored.secrets.remove(&name).ok_or_else(no_secret)?;
            Ok(ok(&json!({"deleted": true})))
        }
        _ => Err(undone(call).into()),
    }
}

fn no_secret() -> server::Response {
    detail(StatusCode::NOT_FOUND, "Secret not found")
}

fn check_name(name: &str) -> Answered<()> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(());
    }
    let text = "Invalid secret name format. Must start with a letter, contain only letters, \
                numbers, and underscores, and be 1-64 characters long.";
    Err(detail(StatusCode::UNPROCESSABLE_ENTITY, text).into())
}

fn update(stored: &mut Stored, change: &Value) -> Answered {
    let known = [
        "agent_settings_diff",
        "conversation_settings_diff",
        "misc_settings_diff",
        "active_profile",
        "active_agent_profile_id",
        "active_meta_profile",
    ];
    if known.iter().all(|field| change.get(field).is_none()) {
        let text = "At least one of agent_settings_diff, conversation_settings_diff, \
                    misc_settings_diff, active_profile, active_agent_profile_id, or \
                    active_meta_profile must be provided";
        return Err(detail(StatusCode::BAD_REQUEST, text).into());
    }
    let active_agent = change.get("active_agent_profile_id");
    if let Some(id) = active_agent.and_then(Value::as_str)
        && stored.agent_by_id(id).is_none()
    {
        return Err(agents::unknown(id).into());
    }
    let active_meta = change.get("active_meta_profile");
    if let Some(name) = active_meta.and_then(Value::as_str)
        && !stored.meta_profiles.contains_key(name)
    {
        return Err(saved::unknown(name).into());
    }
    if let Some(active) = change.get("active_profile") {
        let name = active.as_str().map(str::to_owned);
        if let Some(name) = &name {
            let profile = stored
                .profile(name)
                .cloned()
                .ok_or_else(|| no_profile(name))?;
            if change["agent_settings_diff"]["llm"].is_null() {
                stored.agent["llm"] = profile;
            }
        }
        stored.active_profile = name;
    }
    if let Some(name) = active_meta {
        stored.active_meta_profile = name.as_str().map(str::to_owned);
    }
    if let Some(id) = active_agent {
        stored.active_agent = id.as_str().map(str::to_owned);
    }
    merge(&mut stored.agent, &change["agent_settings_diff"]);
    merge(
        &mut stored.conversation,
        &change["conversation_settings_diff"],
    );
    merge(&mut stored.misc, &change["misc_settings_diff"]);
    Ok(ok(&stored.settings(Expose::Masked)))
}

fn no_profile(name: &str) -> server::Response {
    detail(
        StatusCode::NOT_FOUND,
        &format!("Profile '{name}' not found"),
    )
}

pub(crate) fn profiles(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    match (method, rest) {
        ("GET", []) => {
            let all = stored.profiles.iter();
            let all: Vec<_> = all
                .map(|(name, config)| {
                    json!({
                        "name": name,
                        "model": config["model"],
                        "base_url": config["base_url"],
                        "provider_connection_id": config["provider_connection_id"],
                        "provider_connection_broken": stored.is_broken(config),
                        "api_key_set": stored.key_set(config),
                    })
                })
                .collect();
            Ok(ok(
                &json!({"profiles": all, "active_profile": stored.active_profile}),
            ))
        }
        ("GET", [name]) => {
            let name = decode(name);
            let expose = expose(call)?;
            let config = stored.profile(&name).ok_or_else(|| no_profile(&name))?;
            let mut answered = shown(config, expose);
            if expose == Expose::Masked && answered.get("api_key").is_some() {
                answered["api_key"] = Value::Null;
            }
            Ok(ok(
                &json!({"name": name, "config": answered, "api_key_set": stored.key_set(config)}),
            ))
        }
        ("POST", [name]) => {
            let name = decode(name);
            let request = call.json()?;
            if !request["llm"].is_object() {
                return Err(invalid("missing", json!(["body", "llm"]), "Field required").into());
            }
            let mut config = request["llm"].clone();
            if request["include_secrets"] == false {
                config["api_key"] = Value::Null;
            }
            stored.profiles.insert(name.clone(), config);
            let message = format!("Profile '{name}' saved");
            Ok(server::json(
                StatusCode::CREATED,
                &json!({"name": name, "message": message}),
            ))
        }
        ("DELETE", [name]) => {
            let name = decode(name);
            stored.profiles.remove(&name);
            if stored.active_profile.as_deref() == Some(&name) {
                stored.active_profile = None;
            }
            let message = format!("Profile '{name}' deleted");
            Ok(ok(&json!({"name": name, "message": message})))
        }
        ("POST", [_, "validate"]) => {
            let request = call.json()?;
            if !request["llm"].is_object() {
                return Err(invalid("missing", json!(["body", "llm"]), "Field required").into());
            }
            check_connection(&stored, &request["llm"])?;
            // The scripted model is always available.
            Ok(ok(&json!({"valid": true, "error": null})))
        }
        ("POST", [name, "rename"]) => rename(&mut stored, &decode(name), &call.json()?),
        ("POST", [name, "activate"]) => {
            let name = decode(name);
            let config = stored
                .profile(&name)
                .cloned()
                .ok_or_else(|| no_profile(&name))?;
            check_connection(&stored, &config)?;
            stored.agent["llm"] = config;
            stored.active_profile = Some(name.clone());
            let message = format!("Profile '{name}' activated");
            Ok(ok(
                &json!({"name": name, "message": message, "llm_applied": true}),
            ))
        }
        _ => Err(undone(call).into()),
    }
}

fn rename(stored: &mut Stored, name: &str, request: &Value) -> Answered {
    let Some(new) = request["new_name"].as_str().map(str::to_owned) else {
        return Err(invalid("missing", json!(["body", "new_name"]), "Field required").into());
    };
    if stored.profile(name).is_none() {
        return Err(no_profile(name).into());
    }
    let message = match new == name {
        true => format!("Profile '{name}' unchanged (same name)"),
        false => format!("Profile '{name}' renamed to '{new}'"),
    };
    if new != name && stored.profile(&new).is_some() {
        let text = format!("Profile '{new}' already exists");
        return Err(detail(StatusCode::CONFLICT, &text).into());
    }
    if let Some(config) = stored.profiles.remove(name) {
        stored.profiles.insert(new.clone(), config);
    }
    if stored.active_profile.as_deref() == Some(name) {
        stored.active_profile = Some(new.clone());
    }
    Ok(ok(&json!({"name": new, "message": message})))
}

/// Rejects a model that refers to a connection that does not exist.
fn check_connection(stored: &Stored, config: &Value) -> Answered<()> {
    match stored.is_broken(config) {
        false => Ok(()),
        true => {
            let id = config["provider_connection_id"]
                .as_str()
                .unwrap_or_default();
            let text = format!("Provider connection '{id}' not found");
            Err(detail(StatusCode::UNPROCESSABLE_ENTITY, &text).into())
        }
    }
}
