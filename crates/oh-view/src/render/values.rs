//! JSON as code and as fields.

use oh_protocol::redact;
use serde::Serialize;
use serde_json::Value;

use crate::Part;

/// Returns JSON on one line, without values whose names are secret. Text that is not JSON is
/// returned unchanged.
pub(super) fn compact(json: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(mut value) => {
            redact::json(&mut value);
            value.to_string()
        }
        Err(_) => json.to_owned(),
    }
}

/// Returns JSON as compact code.
pub(super) fn json_text(json: &str) -> Part {
    Part::code("json", compact(json))
}

/// Returns the members of a body as fields, except for those in `without`, for `null`, `false` and
/// empty values. A body that is not an object is returned as code.
pub(super) fn fields(body: &impl Serialize, without: &[&str]) -> Part {
    let Ok(mut value) = serde_json::to_value(body) else {
        return Part::Fields(Vec::new());
    };
    redact::json(&mut value);
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(name, value)| {
                name != "kind" && !without.contains(&name.as_str()) && !is_blank(value)
            });
            Part::Fields(members.map(|(name, value)| (name, shown(value))).collect())
        }
        Value::Null => Part::Fields(Vec::new()),
        other => Part::code("json", other.to_string()),
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn shown(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
