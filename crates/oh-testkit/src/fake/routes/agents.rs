//! Agent profiles: agents that refer to model profiles, stored in memory.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    state::{
        lock::lock,
        stored::{Expose, Stored, shown},
        world::World,
    },
    wire::{
        known::undone,
        reply::{Answered, Call, decode, detail, invalid, ok, require},
    },
};
use crate::http::{self as server, Response};

/// The name of the profile that the server creates from its settings.
const DEFAULT: &str = "default";

pub(crate) fn route(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    let stored = &mut *stored;
    let id = || world.clock.uuid().hyphenated().to_string();
    match (method, rest) {
        ("GET", []) => {
            ensure_active(stored, id);
            let all: Vec<_> = stored.agents.iter().map(summary).collect();
            let active = &stored.active_agent;
            Ok(ok(
                &json!({"profiles": all, "active_agent_profile_id": active}),
            ))
        }
        ("GET", [name]) => {
            let name = checked(name)?;
            let profile = stored.agents.get(&name).ok_or_else(|| missing(&name))?;
            Ok(ok(&json!({"name": name, "profile": profile})))
        }
        ("POST", [name]) => {
            let name = checked(name)?;
            let mut profile = full(&name, &call.json()?)?;
            (profile["id"], profile["revision"]) = match stored.agents.get(&name) {
                Some(old) => {
                    let revision = old["revision"].as_u64().unwrap_or_default();
                    (old["id"].clone(), json!(revision.saturating_add(1)))
                }
                None => (json!(id()), json!(0)),
            };
            stored.agents.insert(name.clone(), profile);
            let message = format!("Agent profile '{name}' saved");
            Ok(server::json(
                StatusCode::CREATED,
                &json!({"name": name, "message": message}),
            ))
        }
        ("DELETE", [name]) => {
            let name = checked(name)?;
            let deleted = stored.agents.remove(&name);
            if deleted.is_some_and(|old| old["id"].as_str() == stored.active_agent.as_deref()) {
                ensure_active(stored, id);
            }
            let message = format!("Agent profile '{name}' deleted");
            Ok(ok(&json!({"name": name, "message": message})))
        }
        ("POST", [name, "rename"]) => rename(stored, &checked(name)?, &call.json()?),
        ("POST", [id, "activate"]) => {
            let id = decode(id);
            if stored.agent_by_id(&id).is_none() {
                return Err(unknown(&id).into());
            }
            stored.active_agent = Some(id.clone());
            let message = format!("Agent profile '{id}' activated");
            Ok(ok(
                &json!({"id": id, "message": message, "agent_settings_applied": false}),
            ))
        }
        ("POST", [name, "materialize"]) => {
            let name = checked(name)?;
            let draft = match call.body.is_empty() {
                true => Value::Null,
                false => call.json()?["profile"].take(),
            };
            let profile = match draft {
                Value::Null => stored.agents.get(&name).cloned(),
                draft => Some(full(&name, &draft)?),
            };
            let profile = profile.ok_or_else(|| missing(&name))?;
            Ok(ok(&report(stored, &profile)))
        }
        _ => Err(undone(call).into()),
    }
}

/// Returns the response for an unknown id.
pub(crate) fn unknown(id: &str) -> Response {
    let text = format!("Agent profile with id '{id}' not found");
    detail(StatusCode::NOT_FOUND, &text)
}

fn missing(name: &str) -> Response {
    let text = format!("Agent profile '{name}' not found");
    detail(StatusCode::NOT_FOUND, &text)
}

/// Decodes a name and checks the server's rule for it.
pub(crate) fn checked(name: &str) -> Answered<String> {
    check(decode(name), json!(["path", "name"]))
}

fn check(name: String, at: Value) -> Answered<String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > 64 {
        let rule = "String should have at most 64 characters";
        return Err(invalid("string_too_long", at, rule).into());
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(valid) {
        let rule = "String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'";
        return Err(invalid("string_pattern_mismatch", at, rule).into());
    }
    Ok(name)
}

/// Activates the profile `default` if no profile is active, and creates it if necessary.
fn ensure_active(stored: &mut Stored, id: impl Fn() -> String) {
    let active = stored.active_agent.as_deref();
    if active.is_some_and(|id| stored.agent_by_id(id).is_some()) {
        return;
    }
    let model = stored.active_profile.as_deref().unwrap_or(DEFAULT);
    let seed = json!({"llm_profile_ref": model});
    if !stored.agents.contains_key(DEFAULT)
        && let Ok(mut seed) = full(DEFAULT, &seed)
    {
        seed["id"] = id().into();
        stored.agents.insert(DEFAULT.to_owned(), seed);
    }
    let id = stored.agents.get(DEFAULT).and_then(|it| it["id"].as_str());
    stored.active_agent = id.map(str::to_owned);
}

/// Returns a profile with all fields, or the response for an invalid one.
fn full(name: &str, given: &Value) -> Answered<Value> {
    let kind = given["agent_kind"].as_str().unwrap_or("openhands");
    let mut all = json!({
        "schema_version": 4, "agent_kind": kind, "id": null, "name": name, "revision": 0,
        "mcp_server_refs": null, "secret_refs": null,
    });
    let more = match kind {
        "openhands" => {
            if given["llm_profile_ref"].is_null() {
                let at = json!(["openhands", "llm_profile_ref"]);
                return Err(invalid("missing", at, "Field required").into());
            }
            json!({
                "llm_profile_ref": null, "agent": "CodeActAgent", "tools": null, "persona": null,
                "system_message_suffix": null, "disabled_skills": [], "public_skills": null,
                "condenser": {"condenser_kind": "llm_summarizing", "enabled": true},
                "verification": {"critic_enabled": false},
                "enable_classify_and_switch_llm_tool": false, "meta_profile_ref": null,
                "tool_concurrency_limit": 1,
            })
        }
        "acp" => json!({
            "acp_server": "claude-code", "acp_model": null, "acp_session_mode": null,
            "acp_prompt_timeout": 1800.0, "acp_startup_timeout": 90.0, "acp_command": null,
            "acp_args": null,
        }),
        _ => {
            let rule = "Input tag does not match any of the expected tags";
            return Err(invalid("union_tag_invalid", json!([]), rule).into());
        }
    };
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    for (field, value) in given.as_object().into_iter().flatten() {
        if all.get(field).is_none() {
            let rule = "Extra inputs are not permitted";
            return Err(invalid("extra_forbidden", json!([kind, field]), rule).into());
        }
        if !matches!(field.as_str(), "name" | "id" | "revision") {
            all[field] = value.clone();
        }
    }
    Ok(all)
}

fn summary((name, profile): (&String, &Value)) -> Value {
    json!({
        "id": profile["id"],
        "name": name,
        "agent_kind": profile["agent_kind"],
        "revision": profile["revision"],
        "llm_profile_ref": profile["llm_profile_ref"],
        "mcp_server_refs": profile["mcp_server_refs"],
    })
}

fn rename(stored: &mut Stored, name: &str, request: &Value) -> Answered {
    require(request, &["new_name"])?;
    let new = request["new_name"].as_str().unwrap_or_default().to_owned();
    let new = check(new, json!(["body", "new_name"]))?;
    if !stored.agents.contains_key(name) {
        return Err(missing(name).into());
    }
    let message = match new == name {
        true => format!("Agent profile '{name}' unchanged (same name)"),
        false => format!("Agent profile '{name}' renamed to '{new}'"),
    };
    if new != name && stored.agents.contains_key(&new) {
        let text = format!("Agent profile '{new}' already exists");
        return Err(detail(StatusCode::CONFLICT, &text).into());
    }
    if let Some(mut profile) = stored.agents.remove(name) {
        profile["name"] = new.as_str().into();
        stored.agents.insert(new.clone(), profile);
    }
    Ok(ok(&json!({"name": new, "message": message})))
}

/// Replaces the id of an agent profile in the request for a conversation with the agent's settings.
/// Rejects an unknown id, and a profile that refers to something that does not exist.
pub(crate) fn resolve(stored: &Stored, request: &mut Value) -> Answered<()> {
    let Some(id) = request["agent_profile_id"].as_str() else {
        return Ok(());
    };
    let profile = stored.agent_by_id(id).ok_or_else(|| unknown(id))?;
    let mut profile = profile.clone();
    let other = request["agent_launch_additions"]["llm_profile_ref"].clone();
    if other.is_string() {
        profile["llm_profile_ref"] = other.clone();
    }
    let report = report(stored, &profile);
    if report["valid"] == false {
        let errors = report["errors"].as_array().into_iter().flatten();
        let errors: Vec<_> = errors.filter_map(Value::as_str).collect();
        let body = json!({"detail": {
            "code": "unresolved_profile_references",
            "message": errors.join("; "),
        }});
        return Err(server::json(StatusCode::UNPROCESSABLE_ENTITY, &body).into());
    }
    let model = profile["llm_profile_ref"].as_str().unwrap_or_default();
    request["agent_settings"] = json!({"llm": stored.profile(model)});
    request["launched_agent_profile"] = json!({
        "agent_profile_id": profile["id"],
        "revision": profile["revision"],
        "secret_refs": profile["secret_refs"],
        "llm_profile_ref": other,
    });
    Ok(())
}

/// Reports what a profile refers to. Skills and tools are not checked.
fn report(stored: &Stored, profile: &Value) -> Value {
    let model = profile["llm_profile_ref"].as_str();
    let config = model.and_then(|name| stored.profile(name));
    let mut errors = Vec::new();
    if let (Some(name), None) = (model, config) {
        errors.push(format!("LLM profile '{name}' not found"));
    }
    let servers = &stored.agent["mcp_config"];
    let named = profile["mcp_server_refs"].as_array();
    let named: Option<Vec<_>> = named.map(|names| names.iter().filter_map(Value::as_str).collect());
    let (resolved, dangling): (Vec<_>, Vec<_>) = match named {
        Some(names) => names
            .into_iter()
            .partition(|name| servers.get(name).is_some()),
        None => {
            let all = servers.as_object().into_iter().flatten();
            (all.map(|(name, _)| name.as_str()).collect(), Vec::new())
        }
    };
    if !dangling.is_empty() {
        errors.push(format!(
            "MCP server(s) not configured: {}",
            dangling.join(", ")
        ));
    }
    let valid = errors.is_empty();
    let settings = json!({"agent_kind": profile["agent_kind"], "llm": config});
    json!({
        "agent_kind": profile["agent_kind"],
        "valid": valid,
        "errors": errors,
        "unusable_tools": [],
        "llm_profile_ref": model,
        "llm_profile_resolved": config.is_some(),
        "llm_api_key_set": config.is_some_and(|config| stored.key_set(config)),
        "mcp_server_refs": profile["mcp_server_refs"],
        "resolved_mcp_config_keys": resolved,
        "dangling_mcp_server_refs": dangling,
        "disabled_skills": profile.get("disabled_skills").unwrap_or(&json!([])),
        "public_skills": profile["public_skills"],
        "resolved_skills": [],
        "secret_refs": profile["secret_refs"],
        "acp_api_key_secret_name": null,
        "acp_base_url_secret_name": null,
        "acp_file_secret_names": [],
        "meta_profile_ref": profile["meta_profile_ref"],
        "dangling_meta_profile_ref": null,
        "dangling_meta_profile_llm_refs": [],
        "resolved_settings": valid.then(|| shown(&settings, Expose::Masked)),
    })
}
