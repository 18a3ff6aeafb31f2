//! Which hooks an event concerns, by the server's rules. Knows patterns; runs nothing.

use oh_protocol::hooks::{Hook, HookConfig, HookEventType, HookMatcher};
use regex::Regex;

use crate::{Error, ErrorKind, Result};

/// Whether a matcher concerns an event about this tool, or about none.
///
/// `*` and an empty pattern concern everything, and only they concern events about no tool. A
/// pattern in slashes, or with one of `|.*+?[]()^$\`, must match the tool's whole name. The server
/// takes an expression that is none for one that matches nothing (in slashes) or for a plain name.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when the pattern uses what only Python's expressions have, so that
/// only the server can tell.
pub fn matches(matcher: &HookMatcher, tool: Option<&str>) -> Result<bool> {
    let pattern = matcher.pattern();
    if matches!(pattern, "*" | "") {
        return Ok(true);
    }
    let Some(tool) = tool else { return Ok(false) };
    match expression(pattern) {
        None => Ok(pattern == tool),
        Some((explicit, text)) => match compile(text) {
            Ok(regex) => Ok(regex.is_match(tool)),
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
            Err(_) => Ok(!explicit && pattern == tool),
        },
    }
}

/// The hooks that run for an event about this tool, in order.
///
/// # Errors
///
/// As [`matches()`].
pub fn hooks_for<'a>(
    config: &'a HookConfig,
    event: HookEventType,
    tool: Option<&str>,
) -> Result<Vec<&'a Hook>> {
    let mut hooks = Vec::new();
    for matcher in config.matchers(event) {
        if matches(matcher, tool)? {
            hooks.extend(matcher.hooks());
        }
    }
    Ok(hooks)
}

/// Checks the server's rules, and that every pattern can match something.
///
/// The server takes a broken pattern without a word, and its hooks then never run: a guard that
/// guards nothing. So it is refused here.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] for a hook against the rules; [`ErrorKind::Pattern`] for an expression
/// that is none.
pub fn check(config: &HookConfig) -> Result<()> {
    config
        .check()
        .map_err(|error| Error::new(ErrorKind::Invalid, error.context().to_owned(), None))?;
    for event in HookEventType::ALL {
        for (index, matcher) in config.matchers(event).iter().enumerate() {
            let Some((_, text)) = expression(matcher.pattern()) else {
                continue;
            };
            if matcher.pattern() == "*" {
                continue;
            }
            match compile(text) {
                Err(error) if error.kind() == ErrorKind::Pattern => {
                    let field = event.field();
                    return Err(Error::new(
                        ErrorKind::Pattern,
                        format!("{field}[{index}]: {error}; its hooks would never run"),
                        None,
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The expression in a pattern, and whether slashes make it one.
fn expression(pattern: &str) -> Option<(bool, &str)> {
    let inner = pattern
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'))
        .filter(|inner| !inner.is_empty());
    match inner {
        Some(inner) => Some((true, inner)),
        None if pattern.contains(|c| "|.*+?[]()^$\\".contains(c)) => Some((false, pattern)),
        None => None,
    }
}

fn compile(text: &str) -> Result<Regex> {
    let refused = |kind, why: &str| Err(Error::new(kind, format!("pattern `{text}` {why}"), None));
    let only_python = [
        "(?=", "(?!", "(?<=", "(?<!", "(?P=", "(?(", "(?>", "\\Z", "++", "?+", "*+",
    ];
    let back_reference = text
        .as_bytes()
        .windows(2)
        .any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit());
    if back_reference || only_python.iter().any(|part| text.contains(part)) {
        return refused(ErrorKind::Unsupported, "can be read by the server only");
    }
    // Python refuses a repeated repetition, which this engine would take.
    if text.contains("**") {
        return refused(ErrorKind::Pattern, "repeats a repetition");
    }
    Regex::new(&format!(r"\A(?:{text})\z"))
        .or_else(|_| refused(ErrorKind::Pattern, "is not a regular expression"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_matches_nothing_is_refused() {
        let hook = || Hook::command("x");
        for pattern in ["/[/", "/**/", "[", "*foo"] {
            let config = HookConfig::new().pre_tool_use(HookMatcher::new(pattern).hook(hook()));
            assert_eq!(
                check(&config).unwrap_err().kind(),
                ErrorKind::Pattern,
                "{pattern}"
            );
        }
        for pattern in ["*", "", "/Edit|Write/", "terminal", "(?!x)y"] {
            check(&HookConfig::new().pre_tool_use(HookMatcher::new(pattern).hook(hook()))).unwrap();
        }
    }

    #[test]
    fn only_the_server_can_tell_look_around() {
        let error = matches(&HookMatcher::new("(?!x)y"), Some("y")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn hooks_come_in_order_and_for_their_tool() {
        let config = HookConfig::new()
            .pre_tool_use(HookMatcher::exact("terminal").hook(Hook::command("a")))
            .pre_tool_use(Hook::command("b"));
        let labels = |tool| {
            let hooks = hooks_for(&config, HookEventType::PreToolUse, Some(tool)).unwrap();
            hooks.iter().map(|hook| hook.label()).collect::<Vec<_>>()
        };
        assert_eq!(labels("terminal"), ["a", "b"]);
        assert_eq!(labels("browser"), ["b"]);
    }
}
