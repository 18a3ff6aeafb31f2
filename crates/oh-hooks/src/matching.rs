//! Selection of the hooks that run for an event, by the server's rules, and linting of a
//! configuration.

use std::{borrow::Borrow, fmt};

use oh_protocol::hooks::{Hook, HookConfig, HookEventType, HookKind, HookMatcher};

use crate::{
    Error, ErrorKind, Result,
    pattern::{Pattern, Refusal},
    tools,
};

/// Returns whether a matcher matches an event for this tool, or an event without a tool.
///
/// `*` and the empty pattern match everything, and only they match events without a tool. A pattern
/// in slashes, or one that contains any of `|.*+?[]()^$\`, is a regular expression. It must match
/// the tool's whole name like Python's `re.fullmatch`, including look-around and back-references.
/// As on the server, an invalid expression in slashes matches nothing, and an invalid expression
/// without slashes is compared as a plain name.
///
/// # Errors
///
/// Returns [`ErrorKind::Unsupported`] if only the server can evaluate the pattern: if it uses
/// case-insensitive letters beyond ASCII or named characters (`\N{…}`), is very long, or would take
/// a million steps.
pub fn matches(matcher: &HookMatcher, tool: Option<&str>) -> Result<bool> {
    let pattern = matcher.pattern();
    if matches!(pattern, "*" | "") {
        return Ok(true);
    }
    let Some(tool) = tool else { return Ok(false) };
    let Some((explicit, text)) = expression(pattern) else {
        return Ok(pattern == tool);
    };
    match Pattern::new(text).and_then(|pattern| pattern.full_match(tool)) {
        Ok(answer) => Ok(answer),
        Err(Refusal::Invalid(_)) => Ok(!explicit && pattern == tool),
        Err(Refusal::Undecided(why)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "cannot decide on the client whether pattern `{text}` matches `{tool}`: {why}; \
                 only the server can"
            ),
            None,
        )),
    }
}

/// Returns the hooks that run for an event with this tool, in order.
///
/// # Errors
///
/// Returns the same errors as [`matches()`].
pub fn hooks_for<'a>(
    config: &'a HookConfig,
    event: impl Borrow<HookEventType>,
    tool: Option<&str>,
) -> Result<Vec<&'a Hook>> {
    let mut hooks = Vec::new();
    for matcher in config.matchers(event.borrow()) {
        if matches(matcher, tool)? {
            hooks.extend(matcher.hooks());
        }
    }
    Ok(hooks)
}

/// Checks a configuration against the server's rules. The server accepts a configuration if and
/// only if this check succeeds.
///
/// [`lint`] reports settings that the server accepts but that can never work.
///
/// # Errors
///
/// Returns [`ErrorKind::InvalidInput`] for a hook that breaks a rule. The message contains its
/// event, its position, and what to change.
pub fn check(config: &HookConfig) -> Result<()> {
    config
        .check()
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error.context().to_owned(), None))
}

/// Why a hook that the server accepts does not work as intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LintKind {
    /// The pattern is not a valid regular expression. It matches nothing, or only a tool with
    /// exactly that name.
    BrokenPattern,
    /// Only the server can evaluate the pattern.
    ObscurePattern,
    /// The pattern selects tools, but the event has no tool. The hooks never run.
    NoTool,
    /// The pattern, or a part of it, matches neither a built-in tool of the server nor one of the
    /// additional tools passed to [`lint_with`]. The hooks run only if an MCP server or a client
    /// provides a matching tool.
    UnknownTool,
    /// A key in the file that the server ignores.
    IgnoredKey,
    /// A matcher without hooks.
    NoHooks,
    /// A timeout of zero. The hook is killed before it begins, and the event is allowed.
    NoTime,
    /// A command or policy that consists of white space only.
    Blank,
    /// A detached hook for an event that can be denied. A detached hook cannot deny.
    CannotDeny,
}

/// A finding of [`lint`]. Displayed as its location and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// The kind of problem.
    pub kind: LintKind,
    /// The location, such as `pre_tool_use[0]` or `stop[1].hooks[0]`; for a key in a file, its
    /// path.
    pub place: String,
    /// The effect of the problem and what to do.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Reports settings that the server accepts but that can never work.
///
/// ```
/// use oh_hooks::{Hook, HookConfig, HookMatcher, LintKind, lint};
///
/// let hooks = HookConfig::new()
///     .pre_tool_use(HookMatcher::new("/[/").hook(Hook::command("./guard.sh")))
///     .stop(HookMatcher::exact("terminal").hook(Hook::command("./check.sh")));
/// let found = lint(&hooks);
/// assert_eq!(found[0].kind, LintKind::BrokenPattern);
/// assert_eq!(found[1].to_string(), "stop[0]: Stop events have no tool, so \
///     these hooks never run; omit the matcher");
/// ```
#[must_use]
pub fn lint(config: &HookConfig) -> Vec<Lint> {
    lint_with(config, std::iter::empty::<String>())
}

/// Works like [`lint`] for an agent that has additional tools, such as those of MCP servers and
/// clients. Pass the tool names as they appear in events. A pattern for one of these tools is not
/// reported as [`LintKind::UnknownTool`].
#[must_use]
pub fn lint_with(
    config: &HookConfig,
    tools: impl IntoIterator<Item = impl Into<String>>,
) -> Vec<Lint> {
    let tools: Vec<String> = tools.into_iter().map(Into::into).collect();
    let ignored = config.ignored().iter().map(|place| Lint {
        kind: LintKind::IgnoredKey,
        place: place.clone(),
        message: "the server ignores this key; check its spelling and its place in the file".into(),
    });
    let mut found: Vec<Lint> = ignored.collect();
    for event in HookEventType::ALL {
        for (m, matcher) in config.matchers(&event).iter().enumerate() {
            let place = format!("{}[{m}]", event.field());
            let about = of_matcher(&event, matcher, &tools);
            found.extend(about.into_iter().map(|(kind, message)| Lint {
                kind,
                place: place.clone(),
                message,
            }));
            for (h, hook) in matcher.hooks().iter().enumerate() {
                found.extend(of_hook(&event, hook).map(|(kind, message)| Lint {
                    kind,
                    place: format!("{place}.hooks[{h}]"),
                    message: message.to_owned(),
                }));
            }
        }
    }
    found
}

fn of_matcher(
    event: &HookEventType,
    matcher: &HookMatcher,
    tools: &[String],
) -> Vec<(LintKind, String)> {
    if matcher.hooks().is_empty() {
        return vec![(LintKind::NoHooks, "the matcher has no hooks".to_owned())];
    }
    let pattern = matcher.pattern();
    if matches!(pattern, "*" | "") {
        return Vec::new();
    }
    if !event.has_tool() {
        let message =
            format!("{event} events have no tool, so these hooks never run; omit the matcher");
        return vec![(LintKind::NoTool, message)];
    }
    let Some((explicit, text)) = expression(pattern) else {
        return unknown(pattern, tools).into_iter().collect();
    };
    let read = match Pattern::new(text) {
        Ok(read) => read,
        Err(Refusal::Invalid(why)) => {
            let effect = match explicit {
                true => "the pattern matches nothing, so its hooks never run",
                false => "the pattern matches only a tool with exactly this name",
            };
            let message = format!("`{text}` is not a valid regular expression ({why}): {effect}");
            return vec![(LintKind::BrokenPattern, message)];
        }
        Err(Refusal::Undecided(why)) => return vec![obscure(text, &why)],
    };
    // Checks alternatives one by one, because a single name in the list may be misspelt.
    let word = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    if text.split('|').all(word) {
        let names = text.split('|');
        return names.filter_map(|name| unknown(name, tools)).collect();
    }
    let all = tools::TOOLS.iter().copied();
    for tool in all.chain(tools.iter().map(String::as_str)) {
        match read.full_match(tool) {
            Ok(true) => return Vec::new(),
            Ok(false) => {}
            Err(Refusal::Undecided(why) | Refusal::Invalid(why)) => {
                return vec![obscure(text, &why)];
            }
        }
    }
    vec![no_tool(text, tools)]
}

fn obscure(text: &str, why: &str) -> (LintKind, String) {
    let message = format!("cannot decide on the client what `{text}` matches: {why}");
    (LintKind::ObscurePattern, message)
}

fn unknown(name: &str, tools: &[String]) -> Option<(LintKind, String)> {
    let known = tools::TOOLS.contains(&name) || tools.iter().any(|tool| tool == name);
    (!known).then(|| no_tool(name, tools))
}

fn no_tool(name: &str, tools: &[String]) -> (LintKind, String) {
    let nearest = match tools::nearest(name, tools) {
        Some(tool) => format!("did you mean `{tool}`? otherwise "),
        None => String::new(),
    };
    let message = format!(
        "`{name}` is not a tool of the server: {nearest}its hooks run only if an MCP server or a \
         client provides a tool with this name"
    );
    (LintKind::UnknownTool, message)
}

fn of_hook(event: &HookEventType, hook: &Hook) -> Option<(LintKind, &'static str)> {
    let blank = match hook.kind() {
        HookKind::Command => Some(hook.command_line()),
        HookKind::Prompt => hook.policy(),
        _ => None,
    };
    if blank.is_some_and(|text| text.trim().is_empty()) {
        return Some((LintKind::Blank, "the command or prompt is empty"));
    }
    if hook.time_limit().is_zero() {
        let message = "a timeout of zero ends the hook at once, so everything is allowed; set a \
                       timeout of at least one second";
        return Some((LintKind::NoTime, message));
    }
    if hook.is_detached() && event.can_block() {
        let message = "a detached hook cannot deny: the server does not wait for its result";
        return Some((LintKind::CannotDeny, message));
    }
    None
}

/// Returns the regular expression in a pattern, and whether it is in slashes.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn settings_that_can_never_work_are_found_with_their_place() {
        let hook = || Hook::command("x");
        let matcher = |pattern: &str| HookMatcher::new(pattern).hook(hook());
        let config = HookConfig::new()
            .pre_tool_use(hook())
            .pre_tool_use(matcher("/**/"))
            .pre_tool_use(matcher("*foo"))
            .pre_tool_use(matcher("(?i)é"))
            .post_tool_use(HookMatcher::exact("terminal"))
            .session_start(matcher("terminal"))
            .stop(hook().detached())
            .stop(HookMatcher::all().hook(hook()).hook(Hook::command(" ")))
            .user_prompt_submit(Hook::prompt("\t"))
            .session_end(hook().timeout(Duration::ZERO))
            .session_end(hook().detached());
        check(&config).unwrap();
        let found: Vec<_> = lint(&config)
            .into_iter()
            .map(|l| (l.kind, l.place))
            .collect();
        let expected = [
            (LintKind::BrokenPattern, "pre_tool_use[1]"),
            (LintKind::BrokenPattern, "pre_tool_use[2]"),
            (LintKind::ObscurePattern, "pre_tool_use[3]"),
            (LintKind::NoHooks, "post_tool_use[0]"),
            (LintKind::Blank, "user_prompt_submit[0].hooks[0]"),
            (LintKind::NoTool, "session_start[0]"),
            (LintKind::NoTime, "session_end[0].hooks[0]"),
            (LintKind::CannotDeny, "stop[0].hooks[0]"),
            (LintKind::Blank, "stop[1].hooks[1]"),
        ]
        .map(|(kind, place)| (kind, place.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn working_settings_are_not_reported() {
        for pattern in [
            "*",
            "",
            "/edit|write_file/",
            "terminal",
            "(?!x)term.*",
            r"thi(.)\S",
        ] {
            let matcher = HookMatcher::new(pattern).hook(Hook::command("x"));
            assert_eq!(lint(&HookConfig::new().pre_tool_use(matcher)), []);
        }
    }

    #[test]
    fn a_matcher_without_a_tool_is_reported_with_the_nearest_tool() {
        for (pattern, names) in [
            ("file-editor", &[("file-editor", "file_editor")][..]),
            ("Bash", &[("Bash", "terminal")]),
            (
                "Edit|Write",
                &[("Edit", "file_editor"), ("Write", "file_editor")],
            ),
            ("/terminal|Grep/", &[("Grep", "grep")]),
            ("mcp__.*", &[("mcp__.*", "")]),
            (r"/a\.b/", &[(r"a\.b", "")]),
        ] {
            let matcher = || HookMatcher::new(pattern).hook(Hook::command("x"));
            let found = lint(
                &HookConfig::new()
                    .pre_tool_use(matcher())
                    .post_tool_use(matcher()),
            );
            assert_eq!(found.len(), 2 * names.len(), "{pattern}: {found:?}");
            for (lint, (name, nearest)) in found.iter().zip(names) {
                assert_eq!(
                    (lint.kind, &*lint.place),
                    (LintKind::UnknownTool, "pre_tool_use[0]")
                );
                assert!(lint.message.contains(&format!("`{name}`")), "{lint}");
                assert!(
                    nearest.is_empty() || lint.message.contains(&format!("`{nearest}`")),
                    "{lint}"
                );
            }
        }
        let own = HookMatcher::new("github_search").hook(Hook::command("x"));
        let own = HookConfig::new().pre_tool_use(own);
        assert_eq!(lint_with(&own, ["github_search"]), []);
        assert_eq!(lint(&own).len(), 1);
    }

    #[test]
    fn entries_that_the_server_ignores_are_reported() {
        let text = r#"{"description": "Guards", "hooks": {"Stop": [{"hooks": [
            {"type": "command", "command": "./quince-check.sh", "timout": 3}]}]}}"#;
        let config = crate::parse(text).unwrap();
        assert_eq!(config.iter().count(), 1);
        let found = lint(&config);
        let places: Vec<_> = found.iter().map(|lint| &*lint.place).collect();
        assert_eq!(
            places,
            ["description (outside `hooks`)", "Stop[0].hooks[0].timout"]
        );
        assert!(found.iter().all(|lint| lint.kind == LintKind::IgnoredKey));
        assert!(
            !serde_json::to_string(&config)
                .unwrap()
                .contains("description")
        );
    }

    #[test]
    fn an_exact_matcher_matches_only_its_name() {
        for name in [
            "terminal", "a.b", "f(x)", "a+b", "/x/", r"a\b", "a{2}", "$", "a|b", "[x]", "^", "a-b",
            "#",
        ] {
            let matcher = HookMatcher::exact(name);
            assert!(matches(&matcher, Some(name)).unwrap(), "{name}");
            for other in [
                "terminal2",
                "aXb",
                "fx",
                "aab",
                "x",
                "ab",
                "aa",
                "",
                "a",
                "b",
                "c",
            ] {
                assert!(!matches(&matcher, Some(other)).unwrap(), "{name} {other}");
            }
        }
        for nobody in ["", "*"] {
            let config =
                HookConfig::new().pre_tool_use(HookMatcher::exact(nobody).hook(Hook::command("x")));
            assert!(!matches(&HookMatcher::exact(nobody), Some("terminal")).unwrap());
            assert_eq!(lint(&config)[0].kind, LintKind::UnknownTool);
            assert!(check(&config).is_err());
        }
        assert!(!matches(&HookMatcher::regex(""), Some("//")).unwrap());
    }

    #[test]
    fn patterns_that_only_the_server_can_evaluate_are_reported() {
        let error = matches(&HookMatcher::new("(?i)k"), Some("\u{212a}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn hooks_are_selected_in_order_and_by_tool() {
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
