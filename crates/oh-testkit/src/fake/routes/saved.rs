//! Meta-profiles and saved workspaces, stored in memory.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{
    routes::agents::checked,
    state::{lock::lock, stored::Stored, world::World},
    wire::{
        known::undone,
        reply::{self, Answered, Call, detail, invalid, missing, ok},
    },
};
use crate::http::{self as server, Response};

pub(crate) fn meta_profiles(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    let stored = &mut *stored;
    match (method, rest) {
        ("GET", []) => {
            let all = stored.meta_profiles.iter().map(|(name, config)| {
                let classes = config["classes"].as_array().map_or(0, Vec::len);
                json!({
                    "name": name,
                    "classifier_model": config["classifier_model"],
                    "num_classes": classes,
                })
            });
            let all: Vec<_> = all.collect();
            Ok(ok(&json!({
                "meta_profiles": all, "active_meta_profile": stored.active_meta_profile,
            })))
        }
        ("GET", [name]) => {
            let name = checked(name)?;
            let found = stored.meta_profiles.get(&name);
            let config = found.ok_or_else(|| unknown(&name))?;
            Ok(ok(&json!({"name": name, "config": config})))
        }
        ("POST", [name]) => {
            let name = checked(name)?;
            let config = full(&call.json()?)?;
            stored.meta_profiles.insert(name.clone(), config);
            let message = format!("Meta-profile '{name}' saved");
            Ok(server::json(
                StatusCode::CREATED,
                &json!({"name": name, "message": message}),
            ))
        }
        ("DELETE", [name]) => {
            let name = checked(name)?;
            stored.meta_profiles.remove(&name);
            if stored.active_meta_profile.as_deref() == Some(&name) {
                stored.active_meta_profile = None;
            }
            let message = format!("Meta-profile '{name}' deleted");
            Ok(ok(&json!({"name": name, "message": message})))
        }
        ("POST", [name, "activate"]) => {
            let name = checked(name)?;
            if !stored.meta_profiles.contains_key(&name) {
                return Err(unknown(&name).into());
            }
            stored.active_meta_profile = Some(name.clone());
            let message = format!("Meta-profile '{name}' activated");
            Ok(ok(
                &json!({"name": name, "message": message, "applied": true}),
            ))
        }
        _ => Err(undone(call).into()),
    }
}

/// Returns the response for an unknown meta-profile.
pub(crate) fn unknown(name: &str) -> Response {
    let text = format!("Meta-profile '{name}' not found");
    detail(StatusCode::NOT_FOUND, &text)
}

/// Returns a meta-profile with all fields, or the response for an invalid one.
fn full(given: &Value) -> Answered<Value> {
    let mut absent = Vec::new();
    if given.get("classifier_model").is_none() {
        absent.push(json!(["body", "classifier_model"]));
    }
    let classes = given["classes"].as_array().map_or(&[][..], Vec::as_slice);
    let mut kept = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        for field in ["description", "model"] {
            if class.get(field).is_none() {
                absent.push(json!(["body", "classes", at, field]));
            }
        }
        kept.push(json!({"description": class["description"], "model": class["model"]}));
    }
    if !absent.is_empty() {
        return Err(missing(absent.into_iter()).into());
    }
    let template = given["prompt_template"].as_str();
    let fault = match template {
        None if kept.is_empty() => "needs either classes or a prompt_template",
        Some(_) if !kept.is_empty() => "with a prompt_template cannot define classes",
        Some(template) if !template.contains("{{ instance_text }}") => {
            "needs `{{ instance_text }}` in its prompt_template"
        }
        _ => {
            return Ok(json!({
                "classifier_model": given["classifier_model"],
                "classes": kept,
                "prompt_template": template,
                "model_table": given["model_table"],
            }));
        }
    };
    let text = format!("Value error, a meta-profile {fault}");
    Err(invalid("value_error", json!(["body"]), &text).into())
}

pub(crate) fn workspaces(world: &World, call: &Call, method: &str, rest: &[&str]) -> Answered {
    let mut stored = lock(&world.stored);
    let stored = &mut *stored;
    let (list, field, what) = match rest {
        [] => (&mut stored.workspaces, "workspaces", "Workspace"),
        ["parents"] => (&mut stored.parents, "parents", "Workspace parent"),
        _ => return Err(undone(call).into()),
    };
    match method {
        "GET" => {}
        "POST" => {
            let request = call.json()?;
            reply::require(&request, &[field])?;
            let items = request[field].as_array().map_or(&[][..], Vec::as_slice);
            for (at, item) in items.iter().enumerate() {
                check(item, field, at)?;
            }
            for item in items {
                if !list.iter().any(|known| known["path"] == item["path"]) {
                    list.push(item.clone());
                }
            }
        }
        "DELETE" => {
            let path = reply::path(call)?;
            let before = list.len();
            list.retain(|known| known["path"] != *path);
            return match list.len() < before {
                true => Ok(ok(&json!({"deleted": true}))),
                false => {
                    let text = format!("{what} not found");
                    Err(detail(StatusCode::NOT_FOUND, &text).into())
                }
            };
        }
        _ => return Err(undone(call).into()),
    }
    Ok(ok(&saved(stored)))
}

fn saved(stored: &Stored) -> Value {
    json!({"workspaces": stored.workspaces, "workspaceParents": stored.parents})
}

/// Checks the texts of a saved workspace or parent.
fn check(item: &Value, list: &str, at: usize) -> Answered<()> {
    let absent = ["id", "name", "path"].into_iter();
    let absent = absent.filter(|field| item.get(field).is_none());
    let absent: Vec<_> = absent
        .map(|field| json!(["body", list, at, field]))
        .collect();
    if !absent.is_empty() {
        return Err(missing(absent.into_iter()).into());
    }
    for (field, limit) in [("id", 4096), ("name", 256), ("path", 4096)] {
        let place = json!(["body", list, at, field]);
        let length = item[field].as_str().map_or(0, |text| text.chars().count());
        if length == 0 {
            let rule = "String should have at least 1 character";
            return Err(invalid("string_too_short", place, rule).into());
        }
        if length > limit {
            let rule = format!("String should have at most {limit} characters");
            return Err(invalid("string_too_long", place, &rule).into());
        }
    }
    Ok(())
}
