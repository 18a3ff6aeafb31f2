//! The rules of titles and tags.

use serde_json::{Value, json};

use crate::fake::wire::reply::{Answered, invalid};

/// Checks titles and tags, which have the same rules in all requests.
pub(crate) fn check_names(request: &Value) -> Answered<()> {
    if let Some(title) = request["title"].as_str() {
        let at = json!(["body", "title"]);
        if title.is_empty() {
            let rule = "String should have at least 1 character";
            return Err(invalid("string_too_short", at, rule).into());
        }
        if title.chars().count() > 200 {
            let rule = "String should have at most 200 characters";
            return Err(invalid("string_too_long", at, rule).into());
        }
        if title.trim().is_empty() {
            return Err(invalid("value_error", at, "Value error, title must not be blank").into());
        }
    }
    let Value::Object(tags) = &request["tags"] else {
        return Ok(());
    };
    let fits = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let short = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.chars().count() <= 256)
    };
    if tags.iter().all(|(key, value)| fits(key) && short(value)) {
        return Ok(());
    }
    let rule = "Value error, a tag's key is lowercase alphanumeric, its value 256 characters";
    Err(invalid("value_error", json!(["body", "tags"]), rule).into())
}
