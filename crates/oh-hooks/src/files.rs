//! `hooks.json`: read strictly, written as the server writes it, found where the server looks.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use oh_protocol::hooks::{Hook, HookConfig, HookEventType, HookMatcher};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{Error, ErrorKind, Result, matching};

/// Reads a configuration from the text of a `hooks.json`.
///
/// Keys may be `PreToolUse` or `pre_tool_use`, and all may stand in a `{"hooks": …}`. What the
/// server would drop without a word is refused: a misspelt key would be a guard that never runs.
///
/// # Errors
///
/// [`ErrorKind::File`] with line and column for broken JSON and unknown or repeated keys; else as
/// [`check`](crate::check).
pub fn parse(text: &str) -> Result<HookConfig> {
    let Strict(config) = serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::File, error.to_string(), None))?;
    matching::check(&config)?;
    Ok(config)
}

/// Reads a configuration from a file.
///
/// # Errors
///
/// [`ErrorKind::Io`] when it cannot be read; else as [`parse`], with the path in front.
pub fn load(path: impl AsRef<Path>) -> Result<HookConfig> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|error| cannot("read", path, error))?;
    parse(&text).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Error::new(error.kind(), message, None)
    })
}

/// Writes a configuration to a file, making its directory where it is missing.
///
/// The file is replaced as a whole: a reader sees the old one or the new one.
///
/// # Errors
///
/// As [`check`](crate::check), before anything is written; [`ErrorKind::Io`] when it cannot be.
pub fn save(config: &HookConfig, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    matching::check(config)?;
    let mut text = serde_json::to_string_pretty(config).map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            "the hooks do not encode",
            Some(Box::new(error)),
        )
    })?;
    text.push('\n');
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| cannot("make", parent, error))?;
    }
    let beside = path.with_extension(format!("json.{}", std::process::id()));
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| {
            _ = std::fs::remove_file(&beside);
            cannot("write", path, error)
        })
}

/// The file that the server's own tools would take for a project: `.openhands/hooks.json` below
/// it, or else `.openhands/hooks.json` in the home directory. The server never loads it by itself.
pub fn discover(project: impl AsRef<Path>) -> Option<PathBuf> {
    let home = std::env::home_dir();
    discover_in(project.as_ref(), home.as_deref())
}

fn discover_in(project: &Path, home: Option<&Path>) -> Option<PathBuf> {
    [Some(project), home]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(".openhands/hooks.json"))
        .find(|path| path.exists())
}

fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} {}", path.display());
    Error::new(ErrorKind::Io, message, Some(Box::new(error)))
}

/// A configuration read with nothing unknown in it.
struct Strict(HookConfig);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictMatcher {
    matcher: Option<String>,
    #[serde(default)]
    hooks: Vec<StrictHook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHook {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    name: Option<String>,
    #[serde(default)]
    command: String,
    prompt: Option<String>,
    system_prompt: Option<String>,
    #[serde(default)]
    tools: Vec<String>,
    timeout: Option<u64>,
    max_iterations: Option<u64>,
    #[serde(rename = "async", alias = "async_", default)]
    detached: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Command,
    Prompt,
    Agent,
}

impl StrictHook {
    fn into_hook(self) -> Result<Hook, serde_json::Error> {
        let kind = match self.kind.unwrap_or(Kind::Command) {
            Kind::Command => "command",
            Kind::Prompt => "prompt",
            Kind::Agent => "agent",
        };
        let mut wire = serde_json::json!({
            "type": kind, "command": self.command, "tools": self.tools, "async": self.detached,
            "timeout": self.timeout.unwrap_or(60),
            "max_iterations": self.max_iterations.unwrap_or(3),
        });
        for (key, text) in [
            ("name", self.name),
            ("prompt", self.prompt),
            ("system_prompt", self.system_prompt),
        ] {
            if let Some(text) = text {
                wire[key] = Value::String(text);
            }
        }
        serde_json::from_value(wire)
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hooks by event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut config = HookConfig::new();
                let mut seen = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "hooks" && seen.is_empty() {
                        let inner = map.next_value()?;
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
                    for strict in map.next_value::<Vec<StrictMatcher>>()? {
                        let pattern = strict.matcher.unwrap_or_else(|| "*".to_owned());
                        let mut matcher = HookMatcher::new(pattern);
                        for hook in strict.hooks {
                            matcher = matcher.hook(hook.into_hook().map_err(de::Error::custom)?);
                        }
                        config = config.on(event, matcher);
                    }
                }
                Ok(Strict(config))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::File, "{text}");
            let message = error.to_string();
            assert!(
                message.contains(place) && message.contains(word),
                "{message}"
            );
        }
    }

    #[test]
    fn a_broken_rule_in_a_file_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hooks.json");
        std::fs::write(&path, r#"{"stop": [{"hooks": [{"type": "prompt"}]}]}"#).unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.to_string().contains("hooks.json: stop[0].hooks[0]"),
            "{error}"
        );
        assert_eq!(
            load(directory.path().join("none")).unwrap_err().kind(),
            ErrorKind::Io
        );
    }

    #[test]
    fn a_saved_file_is_found_and_loaded_again() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |root: &Path| root.join(".openhands/hooks.json");
        let find = || discover_in(project.path(), Some(home.path()));
        assert_eq!(find(), None);
        let config = HookConfig::new().stop(Hook::prompt("no").name("n"));
        save(&config, of(home.path())).unwrap();
        assert_eq!(find(), Some(of(home.path())));
        save(&config, of(project.path())).unwrap();
        assert_eq!(find(), Some(of(project.path())));
        assert_eq!(load(find().unwrap()).unwrap(), config);
        assert!(save(&HookConfig::new().stop(Hook::command("")), of(home.path())).is_err());
        assert_eq!(
            std::fs::read_dir(project.path().join(".openhands"))
                .unwrap()
                .count(),
            1
        );
    }
}
