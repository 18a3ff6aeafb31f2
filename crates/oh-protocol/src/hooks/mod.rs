//! Hook configuration: what runs on the server when something happens in a conversation.
//!
//! Knows the wire's form and the server's rules; neither runs a hook nor reads a file.

mod hook;

pub use hook::{Hook, HookKind};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// What a hook can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HookEventType {
    /// Before a tool runs; may deny it.
    PreToolUse,
    /// After a tool ran; cannot deny.
    PostToolUse,
    /// When the user sends a message; may refuse it or add to it.
    UserPromptSubmit,
    /// Before the first message; may add to the conversation.
    SessionStart,
    /// When the conversation is closed on the server; cannot deny.
    SessionEnd,
    /// When the agent wants to finish; may send it back to work.
    Stop,
}

impl HookEventType {
    /// All six, in the server's order.
    pub const ALL: [Self; 6] = [
        Self::PreToolUse,
        Self::PostToolUse,
        Self::UserPromptSubmit,
        Self::SessionStart,
        Self::SessionEnd,
        Self::Stop,
    ];

    /// The name in events and in the environment of a hook: `PreToolUse`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreToolUse => "PreToolUse",
            Self::PostToolUse => "PostToolUse",
            Self::UserPromptSubmit => "UserPromptSubmit",
            Self::SessionStart => "SessionStart",
            Self::SessionEnd => "SessionEnd",
            Self::Stop => "Stop",
        }
    }

    /// The key in a configuration: `pre_tool_use`.
    pub fn field(self) -> &'static str {
        match self {
            Self::PreToolUse => "pre_tool_use",
            Self::PostToolUse => "post_tool_use",
            Self::UserPromptSubmit => "user_prompt_submit",
            Self::SessionStart => "session_start",
            Self::SessionEnd => "session_end",
            Self::Stop => "stop",
        }
    }

    /// The event that a key of a file names: `PreToolUse` and `pre_tool_use`, and what else the
    /// server turns into the latter, such as `preToolUse`.
    pub fn from_key(key: &str) -> Option<Self> {
        let mut field = String::with_capacity(key.len() + 3);
        for (at, c) in key.char_indices() {
            if at > 0 && c.is_ascii_uppercase() {
                field.push('_');
            }
            field.push(c.to_ascii_lowercase());
        }
        Self::ALL.into_iter().find(|event| field == event.field())
    }

    /// Whether it is about a tool. Matchers of other events must match everything.
    pub fn has_tool(self) -> bool {
        matches!(self, Self::PreToolUse | Self::PostToolUse)
    }

    /// Whether a hook that denies stops what it is about.
    pub fn can_block(self) -> bool {
        matches!(self, Self::PreToolUse | Self::UserPromptSubmit | Self::Stop)
    }
}

impl std::fmt::Display for HookEventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Hooks by event, in the server's own form (`hook_config`).
///
/// ```
/// use oh_protocol::hooks::{Hook, HookConfig, HookMatcher};
///
/// let hooks = HookConfig::new()
///     .pre_tool_use(HookMatcher::exact("terminal").hook(Hook::command("./guard.sh")))
///     .stop(Hook::command("./check.sh").timeout(60));
/// assert!(hooks.check().is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct HookConfig {
    #[serde(default, alias = "PreToolUse", skip_serializing_if = "Vec::is_empty")]
    pre_tool_use: Vec<HookMatcher>,
    #[serde(default, alias = "PostToolUse", skip_serializing_if = "Vec::is_empty")]
    post_tool_use: Vec<HookMatcher>,
    #[serde(
        default,
        alias = "UserPromptSubmit",
        skip_serializing_if = "Vec::is_empty"
    )]
    user_prompt_submit: Vec<HookMatcher>,
    #[serde(default, alias = "SessionStart", skip_serializing_if = "Vec::is_empty")]
    session_start: Vec<HookMatcher>,
    #[serde(default, alias = "SessionEnd", skip_serializing_if = "Vec::is_empty")]
    session_end: Vec<HookMatcher>,
    #[serde(default, alias = "Stop", skip_serializing_if = "Vec::is_empty")]
    stop: Vec<HookMatcher>,
    /// Events of newer servers, kept so that what was read can be sent back.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// Hooks for the tools that a pattern names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct HookMatcher {
    #[serde(default = "HookMatcher::everything")]
    matcher: String,
    #[serde(default)]
    hooks: Vec<Hook>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl HookConfig {
    /// No hooks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before a tool runs; may deny it.
    pub fn pre_tool_use(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::PreToolUse, hooks)
    }

    /// After a tool ran.
    pub fn post_tool_use(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::PostToolUse, hooks)
    }

    /// When the user sends a message; may refuse it or add to it.
    pub fn user_prompt_submit(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::UserPromptSubmit, hooks)
    }

    /// Before the first message.
    pub fn session_start(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::SessionStart, hooks)
    }

    /// When the conversation is closed on the server.
    pub fn session_end(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::SessionEnd, hooks)
    }

    /// When the agent wants to finish; may send it back to work.
    pub fn stop(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::Stop, hooks)
    }

    /// Adds hooks for an event that is known only at run time.
    pub fn on(mut self, event: HookEventType, hooks: impl Into<HookMatcher>) -> Self {
        self.matchers_mut(event).push(hooks.into());
        self
    }

    /// Appends the hooks of `other` to these, event by event; these run first.
    pub fn merge(mut self, mut other: Self) -> Self {
        for event in HookEventType::ALL {
            let more = std::mem::take(other.matchers_mut(event));
            self.matchers_mut(event).extend(more);
        }
        self.extra.extend(other.extra);
        self
    }

    /// The matchers of one event, in the order they are asked.
    pub fn matchers(&self, event: HookEventType) -> &[HookMatcher] {
        match event {
            HookEventType::PreToolUse => &self.pre_tool_use,
            HookEventType::PostToolUse => &self.post_tool_use,
            HookEventType::UserPromptSubmit => &self.user_prompt_submit,
            HookEventType::SessionStart => &self.session_start,
            HookEventType::SessionEnd => &self.session_end,
            HookEventType::Stop => &self.stop,
        }
    }

    /// Every hook with its event and matcher.
    pub fn iter(&self) -> impl Iterator<Item = (HookEventType, &HookMatcher, &Hook)> {
        HookEventType::ALL.into_iter().flat_map(move |event| {
            self.matchers(event).iter().flat_map(move |matcher| {
                matcher.hooks.iter().map(move |hook| (event, matcher, hook))
            })
        })
    }

    /// Whether nothing is configured. A matcher without hooks is something, as on the server.
    pub fn is_empty(&self) -> bool {
        let none = |event: HookEventType| self.matchers(event).is_empty();
        HookEventType::ALL.into_iter().all(none) && self.extra.is_empty()
    }

    /// Checks the server's rules before anything travels.
    ///
    /// # Errors
    ///
    /// The first hook that the server would refuse: its event, its place, and what to change.
    pub fn check(&self) -> Result<()> {
        for event in HookEventType::ALL {
            for (m, matcher) in self.matchers(event).iter().enumerate() {
                for (h, hook) in matcher.hooks.iter().enumerate() {
                    hook.check().map_err(|error| {
                        let field = event.field();
                        Error::invalid(format!("{field}[{m}].hooks[{h}]: {}", error.context()))
                    })?;
                }
            }
        }
        Ok(())
    }

    fn matchers_mut(&mut self, event: HookEventType) -> &mut Vec<HookMatcher> {
        match event {
            HookEventType::PreToolUse => &mut self.pre_tool_use,
            HookEventType::PostToolUse => &mut self.post_tool_use,
            HookEventType::UserPromptSubmit => &mut self.user_prompt_submit,
            HookEventType::SessionStart => &mut self.session_start,
            HookEventType::SessionEnd => &mut self.session_end,
            HookEventType::Stop => &mut self.stop,
        }
    }
}

impl HookMatcher {
    /// Hooks for the tools that `pattern` names: `*` or nothing for all; `/…/`, or any text with
    /// one of `|.*+?[]()^$\`, for a regular expression over the whole name; else for one name.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            matcher: pattern.into(),
            hooks: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Hooks for every tool, and for events that are about no tool.
    pub fn all() -> Self {
        Self::new("*")
    }

    /// Hooks for one tool by its name.
    pub fn exact(tool: impl Into<String>) -> Self {
        Self::new(tool)
    }

    /// Hooks for the tools whose whole name a (Python) regular expression matches.
    pub fn regex(pattern: impl AsRef<str>) -> Self {
        Self::new(format!("/{}/", pattern.as_ref()))
    }

    /// Adds a hook; they run in order.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// The pattern as it travels.
    pub fn pattern(&self) -> &str {
        &self.matcher
    }

    /// The hooks, in the order they run.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    fn everything() -> String {
        "*".to_owned()
    }
}

impl From<Hook> for HookMatcher {
    fn from(hook: Hook) -> Self {
        Self::all().hook(hook)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stop_hook_has_the_servers_form() {
        let hooks = HookConfig::new().stop(Hook::command("./x.sh").timeout(5));
        let wire = serde_json::to_value(&hooks).unwrap();
        assert_eq!(
            wire,
            json!({"stop": [{"matcher": "*", "hooks": [
                {"type": "command", "command": "./x.sh", "timeout": 5, "async": false}
            ]}]})
        );
        assert_eq!(serde_json::from_value::<HookConfig>(wire).unwrap(), hooks);
    }

    #[test]
    fn what_a_newer_server_says_survives() {
        let wire = json!({
            "stop": [{"matcher": "*", "when": "late", "hooks": [{
                "type": "wasm", "command": "", "timeout": 60, "async": false, "module": "x"
            }]}],
            "pre_compact": [{"matcher": "*"}],
        });
        let hooks: HookConfig = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&hooks).unwrap(), wire);
        assert!(!hooks.is_empty());
    }

    #[test]
    fn both_spellings_of_the_wire_are_read() {
        let hooks: HookConfig = serde_json::from_value(
            json!({"Stop": [{"hooks": [{"command": "x", "async_": true}]}]}),
        )
        .unwrap();
        assert_eq!(hooks, HookConfig::new().stop(Hook::command("x").detached()));
    }

    #[test]
    fn a_refusal_names_the_place() {
        let hooks = HookConfig::new().stop(Hook::command("fine")).stop(
            HookMatcher::all()
                .hook(Hook::command("a"))
                .hook(Hook::command("")),
        );
        let error = hooks.check().unwrap_err().to_string();
        assert!(error.contains("stop[1].hooks[1]"), "{error}");
    }

    #[test]
    fn merging_keeps_the_order() {
        let both = HookConfig::new().stop(Hook::command("a")).merge(
            HookConfig::new()
                .stop(Hook::command("b"))
                .session_end(Hook::command("c")),
        );
        let commands: Vec<_> = both.iter().map(|(_, _, hook)| hook.label()).collect();
        assert_eq!(commands, ["c", "a", "b"]);
        assert!(HookConfig::new().merge(HookConfig::new()).is_empty());
    }
}
