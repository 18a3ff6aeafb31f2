//! Parser for the text of a `hooks.json` file that follows the server's rules and records ignored
//! keys. Contains no I/O.

use oh_protocol::hooks::{Hook, HookConfig, HookEventType, HookMatcher};
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Wire, json};

use crate::json::{self, Value};

/// Parses a configuration. An error contains the problem and its location.
pub(crate) fn read(text: &str) -> Result<HookConfig, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = json::read(text).map_err(|_| not_json(text))?;
    let mut ignored = Vec::new();
    let file = object(&file, "", &mut ignored)?;
    let (events, root) = match get(&file, "hooks") {
        Some(events) => {
            let beside = file.iter().filter(|(key, _)| *key != "hooks");
            ignored.extend(beside.map(|(key, _)| format!("{key} (outside `hooks`)")));
            (object(events, "hooks", &mut ignored)?, "hooks")
        }
        None => (file, "hooks.json"),
    };
    let mut config = HookConfig::new();
    let mut seen = Vec::new();
    for (key, matchers) in events {
        let event = HookEventType::from_key(key).ok_or_else(|| {
            let events = HookEventType::ALL.map(|event| event.as_str().to_owned());
            format!(
                "{root}: `{key}` is not a hook event; must be one of {}",
                events.join(", ")
            )
        })?;
        if seen.contains(&event) {
            return Err(format!("{key}: {event} is configured twice"));
        }
        for (at, matcher) in list(matchers, key)?.iter().enumerate() {
            let place = format!("{key}[{at}]");
            config = config.on(event.clone(), read_matcher(matcher, &place, &mut ignored)?);
        }
        seen.push(event);
    }
    Ok(ignored.into_iter().fold(config, HookConfig::with_ignored))
}

fn read_matcher(
    value: &Value,
    place: &str,
    ignored: &mut Vec<String>,
) -> Result<HookMatcher, String> {
    let (mut pattern, mut hooks) = ("*", &[][..]);
    for (key, value) in object(value, place, ignored)? {
        let place = format!("{place}.{key}");
        match key {
            "matcher" => pattern = text(value, &place)?,
            "hooks" => hooks = list(value, &place)?,
            _ => ignored.push(place),
        }
    }
    let mut matcher = HookMatcher::new(pattern);
    for (at, hook) in hooks.iter().enumerate() {
        let place = format!("{place}.hooks[{at}]");
        matcher = matcher.hook(read_hook(hook, &place, ignored)?);
    }
    Ok(matcher)
}

fn read_hook(value: &Value, place: &str, ignored: &mut Vec<String>) -> Result<Hook, String> {
    let fields = object(value, place, ignored)?;
    let mut wire = Map::new();
    for (key, value) in &fields {
        let place = format!("{place}.{key}");
        let value = match *key {
            "type" => {
                let kind = text(value, &place)?;
                if !["command", "prompt", "agent"].contains(&kind) {
                    return Err(format!("{place}: must be `command`, `prompt` or `agent`"));
                }
                Wire::from(kind)
            }
            "command" => Wire::from(text(value, &place)?),
            "name" | "prompt" | "system_prompt" => match value {
                Value::None => continue,
                value => Wire::from(text(value, &place)?),
            },
            "tools" => {
                let tools = list(value, &place)?.iter();
                let tools = tools.map(|tool| text(tool, &place).map(Wire::from));
                Wire::from(tools.collect::<Result<Vec<_>, _>>()?)
            }
            "timeout" | "max_iterations" => {
                let number = whole(value);
                json!(number.ok_or_else(|| format!("{place}: must be a whole number"))?)
            }
            "async" | "async_" => {
                let on = switch(value);
                json!(on.ok_or_else(|| format!("{place}: must be true or false"))?)
            }
            _ => {
                ignored.push(place);
                continue;
            }
        };
        match *key {
            // If both spellings are present, the server uses `async`.
            "async_" if get(&fields, "async").is_some() => ignored.push(place),
            "async_" => _ = wire.insert("async".into(), value),
            key => _ = wire.insert(key.into(), value),
        }
    }
    let hook = serde_json::from_value::<Hook>(wire.into());
    let hook = hook.map_err(|error| format!("{place}: {error}"))?;
    hook.check()
        .map_err(|error| format!("{place}: {}", error.context()))?;
    Ok(hook)
}

/// Returns the fields of an object, each key once. The last value of a repeated key wins.
fn object<'a>(
    value: &'a Value,
    place: &str,
    ignored: &mut Vec<String>,
) -> Result<Vec<(&'a str, &'a Value)>, String> {
    let Value::Dict(fields) = value else {
        let place = if place.is_empty() {
            "hooks.json"
        } else {
            place
        };
        return Err(format!("{place}: must be an object"));
    };
    let mut last: Vec<(&str, &Value)> = Vec::new();
    for (key, value) in fields {
        match last.iter_mut().find(|(name, _)| name == key) {
            Some(slot) => {
                slot.1 = value;
                let place = if place.is_empty() {
                    String::new()
                } else {
                    format!("{place}.")
                };
                ignored.push(format!(
                    "{place}{key} (repeated; only the last value is used)"
                ));
            }
            None => last.push((key, value)),
        }
    }
    Ok(last)
}

fn get<'a>(fields: &[(&str, &'a Value)], key: &str) -> Option<&'a Value> {
    let mut fields = fields.iter();
    fields
        .find(|(name, _)| *name == key)
        .map(|(_, value)| *value)
}

fn list<'a>(value: &'a Value, place: &str) -> Result<&'a [Value], String> {
    match value {
        Value::List(items) => Ok(items),
        _ => Err(format!("{place}: must be a list")),
    }
}

fn text<'a>(value: &'a Value, place: &str) -> Result<&'a str, String> {
    let text = value.as_text();
    text.ok_or_else(|| format!("{place}: must be a string"))
}

/// Parses a whole number, including values that the server converts: `60.0`, `"60"`, `true`.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(yes) => Some(i64::from(*yes)),
        Value::Number(text, _) => text.parse().ok().or_else(|| rounded(text.parse().ok()?)),
        Value::Text(text) => digits(text.trim()),
        _ => None,
    }
}

/// Parses a boolean, including values that the server converts: `1`, `"yes"`, `"off"`.
fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(yes) => Some(*yes),
        Value::Number(_, true) => Some(false),
        Value::Number(text, _) => (text.parse() == Ok(1.0)).then_some(true),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn rounded(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() < 9e15;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "it is whole and small enough"
    )]
    exact.then_some(number as i64)
}

/// Parses digits with optional sign, single underscores between digits, and zeros after a point.
fn digits(text: &str) -> Option<i64> {
    let (integer, zeros) = text.split_once('.').unwrap_or((text, "0"));
    if zeros.is_empty() || zeros.bytes().any(|b| b != b'0') {
        return None;
    }
    let figures = integer.strip_prefix(['+', '-']).unwrap_or(integer);
    let edges = figures.starts_with('_') || figures.ends_with('_') || figures.contains("__");
    if edges || figures.bytes().any(|b| !b.is_ascii_digit() && b != b'_') {
        return None;
    }
    integer.replace('_', "").parse().ok()
}

/// Describes why a text is not valid JSON, with line and column.
fn not_json(text: &str) -> String {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => error.to_string(),
        Ok(_) => "invalid JSON, or nested too deeply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_form_of_the_file_has_the_same_meaning() {
        let expected =
            HookConfig::new().stop(Hook::command("./c.sh").timeout(Duration::from_secs(5)));
        for text in [
            r#"{"stop": [{"hooks": [{"command": "./c.sh", "timeout": 5}]}]}"#,
            r#"{"Stop": [{"matcher": "*", "hooks": [{"command": "./c.sh", "timeout": "5"}]}]}"#,
            r#"{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "./c.sh", "timeout": 5.0}]}]}}"#,
        ] {
            let read = read(text).unwrap();
            assert_eq!((&read, read.ignored()), (&expected, &[][..]), "{text}");
        }
    }

    #[test]
    fn ignored_entries_are_loaded_and_named() {
        let hook = r#"{"hooks": [{"command": "x"}]}"#;
        for (text, ignored) in [
            (
                format!(r#"{{"description": "Guards", "hooks": {{"Stop": [{hook}]}}}}"#),
                "description (outside `hooks`)",
            ),
            (
                format!(r#"{{"hooks": {{"Stop": [{hook}]}}, "Stop": []}}"#),
                "Stop (outside `hooks`)",
            ),
            (
                r#"{"stop": [{"hooks": [{"command": "x", "timout": NaN}]}]}"#.to_owned(),
                "stop[0].hooks[0].timout",
            ),
            (
                r#"{"stop": [{"when": "\ud800", "hooks": [{"command": "x"}]}]}"#.to_owned(),
                "stop[0].when",
            ),
            (
                format!(r#"{{"Stop": 7, "Stop": [{hook}]}}"#),
                "Stop (repeated; only the last value is used)",
            ),
            (
                r#"{"stop": [{"hooks": [{"command": "y", "command": "x"}]}]}"#.to_owned(),
                "stop[0].hooks[0].command (repeated; only the last value is used)",
            ),
        ] {
            let read = read(&text).unwrap();
            assert_eq!(read.ignored(), [ignored], "{text}");
            assert_eq!(read, HookConfig::new().stop(Hook::command("x")), "{text}");
        }
        assert_eq!(
            read(r#"{"stop": [{"hoks": []}]}"#).unwrap().ignored(),
            ["stop[0].hoks"]
        );
    }

    #[test]
    fn entries_that_the_server_rejects_are_rejected_with_their_place() {
        for (text, says) in [
            ("{\n  \"Stpo\": []}", "`Stpo` is not a hook event"),
            (r#"{"stop": [], "Stop": []}"#, "Stop is configured twice"),
            (
                r#"{"stop": [{"hooks": [{"type": "wasm"}]}]}"#,
                "stop[0].hooks[0].type: must be",
            ),
            (
                r#"{"stop": [{"hooks": [{"command": "x"}, {"command": ""}]}]}"#,
                "stop[0].hooks[1]: a command hook must have",
            ),
            (
                r#"{"stop": [{"hooks": [{"type": "prompt", "prompt": "p", "command": "x"}]}]}"#,
                "cannot have a `command`",
            ),
            (
                r#"{"stop": [{"matcher": null}]}"#,
                "stop[0].matcher: must be a string",
            ),
            (
                r#"{"stop": [{"hooks": [{"command": "x", "timeout": "soon"}]}]}"#,
                "hooks[0].timeout: must be a whole number",
            ),
            (r#"{"hooks": {"hooks": {}}}"#, "`hooks` is not a hook event"),
            (r#"{"hooks": []}"#, "hooks: must be an object"),
            (r#"{"hooks": null}"#, "hooks: must be an object"),
            (r#"{"stop": {}}"#, "stop: must be a list"),
            ("[]", "hooks.json: must be an object"),
            ("{\"stop\": [\n", "line 2 column"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
