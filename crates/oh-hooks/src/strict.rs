//! The text of a `hooks.json`, read as the server reads it, with nothing dropped: where the server
//! passes over a key, this refuses it. Knows no files.

use std::fmt;

use oh_protocol::hooks::{Hook, HookConfig, HookEventType, HookMatcher};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Value, json};

pub(crate) fn read(text: &str) -> serde_json::Result<HookConfig> {
    serde_json::from_str(text).map(|Wrapped(config)| config)
}

/// The configuration, or `{"hooks": …}` around it.
struct Wrapped(HookConfig);

/// The configuration itself.
struct Bare(HookConfig);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matcher {
    #[serde(default = "everything")]
    matcher: String,
    #[serde(default)]
    hooks: Vec<Checked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loose {
    #[serde(rename = "type", default)]
    kind: Kind,
    name: Option<String>,
    #[serde(default)]
    command: String,
    prompt: Option<String>,
    system_prompt: Option<String>,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default = "minute")]
    timeout: Number,
    #[serde(default = "three")]
    max_iterations: Number,
    #[serde(rename = "async", alias = "async_", default)]
    detached: Switch,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Command,
    Prompt,
    Agent,
}

/// A hook that the server takes. It refuses within the hook, so that the error has its place.
#[derive(Deserialize)]
#[serde(try_from = "Loose")]
struct Checked(Hook);

impl TryFrom<Loose> for Checked {
    type Error = String;

    fn try_from(loose: Loose) -> Result<Self, String> {
        let kind = match loose.kind {
            Kind::Command => "command",
            Kind::Prompt => "prompt",
            Kind::Agent => "agent",
        };
        let mut wire = json!({
            "type": kind, "command": loose.command, "tools": loose.tools,
            "timeout": loose.timeout.0, "max_iterations": loose.max_iterations.0,
            "async": loose.detached.0,
        });
        for (key, text) in [
            ("name", loose.name),
            ("prompt", loose.prompt),
            ("system_prompt", loose.system_prompt),
        ] {
            if let Some(text) = text {
                wire[key] = Value::String(text);
            }
        }
        let hook: Hook = serde_json::from_value(wire).map_err(|error| error.to_string())?;
        hook.check().map_err(|error| error.context().to_owned())?;
        Ok(Self(hook))
    }
}

fn everything() -> String {
    "*".to_owned()
}

fn minute() -> Number {
    Number(60)
}

fn three() -> Number {
    Number(3)
}

/// A whole number, or what the server takes for one: `60.0`, `"60"`, `true`.
struct Number(i64);

/// A truth value, or what the server takes for one: `1`, `"yes"`, `"off"`.
#[derive(Default)]
struct Switch(bool);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::Bool(yes) => Some(i64::from(*yes)),
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => digits(text.trim()),
            _ => None,
        };
        number
            .map(Self)
            .ok_or_else(|| wanted(&value, "a whole number"))
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let switch = match &value {
            Value::Bool(yes) => Some(*yes),
            Value::Number(number) => match number.as_f64() {
                Some(0.0) => Some(false),
                Some(1.0) => Some(true),
                _ => None,
            },
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
                "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        switch
            .map(Self)
            .ok_or_else(|| wanted(&value, "true or false"))
    }
}

fn wanted<E: de::Error>(value: &Value, what: &str) -> E {
    E::custom(format_args!("{value} is not {what}"))
}

fn whole(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() < 9e15;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "it is whole and small enough"
    )]
    exact.then_some(number as i64)
}

/// Digits with single underscores between them, a sign, and zeros after a point.
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

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Keys { wrapper: true })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Keys { wrapper: false })
            .map(Self)
    }
}

struct Keys {
    /// Whether `hooks` may stand around everything.
    wrapper: bool,
}

impl<'de> Visitor<'de> for Keys {
    type Value = HookConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with hooks by event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HookConfig, A::Error> {
        let mut config = HookConfig::new();
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "hooks" && self.wrapper {
                if !seen.is_empty() {
                    return Err(de::Error::custom(
                        "`hooks` beside other keys, which the server would ignore",
                    ));
                }
                let Bare(inner) = map.next_value()?;
                return match map.next_key::<String>()? {
                    None => Ok(inner),
                    Some(key) => Err(de::Error::custom(format_args!(
                        "`{key}` beside `hooks`, where the server would ignore it"
                    ))),
                };
            }
            let Some(event) = HookEventType::from_key(&key) else {
                return Err(de::Error::custom(format_args!(
                    "`{key}` is no hook event; there are {}",
                    HookEventType::ALL.map(HookEventType::as_str).join(", ")
                )));
            };
            if seen.contains(&event) {
                return Err(de::Error::custom(format_args!(
                    "`{key}`: {event} stands here twice"
                )));
            }
            seen.push(event);
            for read in map.next_value::<Vec<Matcher>>()? {
                let matcher = HookMatcher::new(read.matcher);
                let hooks = read.hooks.into_iter().map(|Checked(hook)| hook);
                config = config.on(event, hooks.fold(matcher, HookMatcher::hook));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> serde_json::Result<HookConfig> {
        read(text)
    }

    #[test]
    fn every_form_of_the_file_means_the_same() {
        let expected = HookConfig::new().stop(Hook::command("./c.sh").timeout(5));
        for text in [
            r#"{"stop": [{"hooks": [{"command": "./c.sh", "timeout": 5}]}]}"#,
            r#"{"Stop": [{"matcher": "*", "hooks": [{"command": "./c.sh", "timeout": 5}]}]}"#,
            r#"{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "./c.sh", "timeout": 5}]}]}}"#,
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_would_be_dropped_silently_is_refused_with_its_place() {
        for (text, place, word) in [
            ("{\n  \"Stpo\": []}", "line 2 column", "`Stpo`"),
            ("{\"stop\": [],\n \"Stop\": []}", "line 2 column", "twice"),
            ("{\"stop\": [{\n\"hoks\": []}]}", "line 2 column", "hoks"),
            (
                "{\"stop\": [{\"hooks\": [\n{\"command\": \"x\", \"timout\": 1}]}]}",
                "line 2 column",
                "timout",
            ),
            (
                "{\"stop\": [{\"hooks\": [{\"command\": \"x\",\n\"command\": \"y\"}]}]}",
                "line 2 column",
                "command",
            ),
            (
                "{\"stop\": [{\"hooks\": [{\n\"type\": \"wasm\"}]}]}",
                "line 2 column",
                "wasm",
            ),
            ("{\"hooks\": {},\n\"Stop\": []}", "line 2 column", "beside"),
            ("{\"stop\": [\n", "line 2 column", "EOF"),
            ("{\"stop\": [],\n\"hooks\": {}}", "line 2 column", "beside"),
            (
                "{\"hooks\":\n{\"hooks\": {}}}",
                "line 2 column",
                "`hooks` is no",
            ),
            (
                "{\"hooks\": {\"stop\": [],\n\"Stop\": []}}",
                "line 2 column",
                "twice",
            ),
            (
                "{\"stop\": [{\"hooks\": [{\"command\": \"x\"},\n{\"command\": \"\"}]}]}",
                "line 2 column",
                "needs a `command`",
            ),
            (
                "{\"stop\": [{\"hooks\": [\n{\"type\": \"prompt\", \"prompt\": \"p\", \"command\": \"x\"}]}]}",
                "line 2 column",
                "cannot have a `command`",
            ),
            (
                "{\"stop\": [{\"matcher\":\nnull}]}",
                "line 2 column",
                "null",
            ),
            (
                "{\"stop\": [{\"hooks\": [{\"command\": \"x\",\n\"timeout\": \"soon\"}]}]}",
                "line 2 column",
                "whole number",
            ),
            ("[]", "line 1 column", "an object"),
        ] {
            let error = parse(text).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains(place) && message.contains(word),
                "{message}"
            );
        }
    }
}
