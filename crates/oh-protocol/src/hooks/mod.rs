//! The configuration of hooks, which run on the server when an event occurs in a conversation.
//!
//! Contains the JSON format and the server's rules. The crate `oh-hooks` loads files and runs
//! hooks.

mod hook;

pub use hook::{Hook, HookKind};

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The event that a hook runs for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum HookEventType {
    /// Before a tool runs. The hook can deny the tool call.
    PreToolUse,
    /// After a tool ran. The hook cannot deny.
    PostToolUse,
    /// When the user sends a message. The hook can reject the message or add context.
    UserPromptSubmit,
    /// Before the first message. The hook can add context.
    SessionStart,
    /// When the conversation is closed on the server. The hook cannot deny.
    SessionEnd,
    /// When the agent wants to finish. The hook can make the agent continue.
    Stop,
    /// An event of a newer server, by name.
    Other(Box<str>),
}

impl HookEventType {
    /// The six events that this version supports, in the server's order.
    pub const ALL: [Self; 6] = [
        Self::PreToolUse,
        Self::PostToolUse,
        Self::UserPromptSubmit,
        Self::SessionStart,
        Self::SessionEnd,
        Self::Stop,
    ];

    /// Returns the name in events and in the environment of a hook, such as `PreToolUse`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::PreToolUse => "PreToolUse",
            Self::PostToolUse => "PostToolUse",
            Self::UserPromptSubmit => "UserPromptSubmit",
            Self::SessionStart => "SessionStart",
            Self::SessionEnd => "SessionEnd",
            Self::Stop => "Stop",
            Self::Other(name) => name,
        }
    }

    /// Returns the key in a configuration, such as `pre_tool_use`. For an event of a newer server,
    /// returns its name.
    pub fn field(&self) -> &str {
        match self {
            Self::PreToolUse => "pre_tool_use",
            Self::PostToolUse => "post_tool_use",
            Self::UserPromptSubmit => "user_prompt_submit",
            Self::SessionStart => "session_start",
            Self::SessionEnd => "session_end",
            Self::Stop => "stop",
            Self::Other(name) => name,
        }
    }

    /// Returns the event for a key in a file: `PreToolUse`, `pre_tool_use`, and other spellings
    /// that the server converts to the latter, such as `preToolUse`.
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

    /// Returns whether the event concerns a tool. Matchers of other events must match everything.
    pub fn has_tool(&self) -> bool {
        matches!(self, Self::PreToolUse | Self::PostToolUse)
    }

    /// Returns whether a hook can deny the event. `false` for events of newer servers.
    pub fn can_block(&self) -> bool {
        matches!(self, Self::PreToolUse | Self::UserPromptSubmit | Self::Stop)
    }
}

impl From<String> for HookEventType {
    fn from(name: String) -> Self {
        let known = Self::ALL.into_iter().find(|event| event.as_str() == name);
        known.unwrap_or_else(|| Self::Other(name.into()))
    }
}

impl From<HookEventType> for String {
    fn from(event: HookEventType) -> Self {
        event.as_str().to_owned()
    }
}

impl std::fmt::Display for HookEventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Hooks by event, in the server's format (`hook_config`).
///
/// ```
/// use oh_protocol::hooks::{Hook, HookConfig, HookMatcher};
/// use std::time::Duration;
///
/// let hooks = HookConfig::new()
///     .pre_tool_use(HookMatcher::exact("terminal").hook(Hook::command("./guard.sh")))
///     .stop(Hook::command("./check.sh").timeout(Duration::from_secs(60)));
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
    /// Events of newer servers, which are kept so that they can be sent back.
    #[serde(flatten)]
    extra: Map<String, Value>,
    #[serde(skip)]
    ignored: Ignored,
}

/// Keys that the server ignores in the source file of a configuration. They do not affect the
/// behaviour, so all values are equal.
#[derive(Debug, Clone, Default)]
struct Ignored(Vec<String>);

impl PartialEq for Ignored {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Hooks for the tools that match a pattern.
///
/// ```
/// use oh_protocol::hooks::{Hook, HookConfig, HookMatcher};
///
/// let guard = Hook::command("./guard.sh");
/// let terminal = HookMatcher::exact("terminal").hook(guard.clone());
/// let files = HookMatcher::regex("file_.*|glob").hook(guard);
/// let hooks = HookConfig::new().pre_tool_use(terminal).pre_tool_use(files);
/// # let _ = hooks;
/// ```
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
    /// Creates a configuration without hooks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds hooks that run before a tool and can deny the tool call.
    pub fn pre_tool_use(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::PreToolUse, hooks)
    }

    /// Adds hooks that run after a tool.
    pub fn post_tool_use(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::PostToolUse, hooks)
    }

    /// Adds hooks that run when the user sends a message. The hooks can reject the message or add
    /// context.
    pub fn user_prompt_submit(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::UserPromptSubmit, hooks)
    }

    /// Adds hooks that run before the first message.
    pub fn session_start(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::SessionStart, hooks)
    }

    /// Adds hooks that run when the conversation is closed on the server.
    pub fn session_end(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::SessionEnd, hooks)
    }

    /// Adds hooks that run when the agent wants to finish. The hooks can make the agent continue.
    pub fn stop(self, hooks: impl Into<HookMatcher>) -> Self {
        self.on(HookEventType::Stop, hooks)
    }

    /// Adds hooks for an event that is known only at run time. Hooks for an event of a newer server
    /// are sent unchanged.
    pub fn on(mut self, event: HookEventType, hooks: impl Into<HookMatcher>) -> Self {
        let hooks = hooks.into();
        match self.matchers_mut(&event) {
            Some(matchers) => matchers.push(hooks),
            None => {
                let all = self
                    .extra
                    .entry(event.field())
                    .or_insert(Value::Array(Vec::new()));
                if let (Value::Array(all), Ok(hooks)) = (all, serde_json::to_value(hooks)) {
                    all.push(hooks);
                }
            }
        }
        self
    }

    /// Records a key that the server ignores in the source file of these hooks, such as
    /// `stop[0].timout`. The key is not sent, and `lint` of the oh-hooks crate reports it.
    pub fn with_ignored(mut self, place: impl Into<String>) -> Self {
        self.ignored.0.push(place.into());
        self
    }

    /// Returns the paths of the keys that the server ignores in the source file of these hooks.
    pub fn ignored(&self) -> &[String] {
        &self.ignored.0
    }

    /// Appends the hooks of `other`, event by event. The hooks of `self` run first.
    pub fn merge(mut self, mut other: Self) -> Self {
        for event in HookEventType::ALL {
            if let (Some(more), Some(own)) = (other.matchers_mut(&event), self.matchers_mut(&event))
            {
                own.append(more);
            }
        }
        self.extra.extend(other.extra);
        self.ignored.0.extend(other.ignored.0);
        self
    }

    /// Returns the matchers of an event, in the order in which they are evaluated. The matchers of
    /// events of newer servers are kept, but not returned.
    pub fn matchers(&self, event: impl Borrow<HookEventType>) -> &[HookMatcher] {
        match event.borrow() {
            HookEventType::PreToolUse => &self.pre_tool_use,
            HookEventType::PostToolUse => &self.post_tool_use,
            HookEventType::UserPromptSubmit => &self.user_prompt_submit,
            HookEventType::SessionStart => &self.session_start,
            HookEventType::SessionEnd => &self.session_end,
            HookEventType::Stop => &self.stop,
            HookEventType::Other(_) => &[],
        }
    }

    /// Returns every hook with its event and matcher.
    pub fn iter(&self) -> impl Iterator<Item = (HookEventType, &HookMatcher, &Hook)> {
        HookEventType::ALL.into_iter().flat_map(move |event| {
            self.matchers(&event).iter().flat_map(move |matcher| {
                let event = event.clone();
                let hooks = matcher.hooks.iter();
                hooks.map(move |hook| (event.clone(), matcher, hook))
            })
        })
    }

    /// Returns whether nothing is configured. As on the server, a matcher without hooks counts as
    /// configured.
    pub fn is_empty(&self) -> bool {
        let none = |event: HookEventType| self.matchers(event).is_empty();
        HookEventType::ALL.into_iter().all(none) && self.extra.is_empty()
    }

    /// Checks the server's rules before anything is sent.
    ///
    /// # Errors
    ///
    /// Returns an error for the first hook that the server would reject, with its event, its
    /// position and what to change.
    pub fn check(&self) -> Result<()> {
        for event in HookEventType::ALL {
            for (m, matcher) in self.matchers(&event).iter().enumerate() {
                if let Some(why) = matcher.refusal() {
                    return Err(Error::invalid(format!("{}[{m}]: {why}", event.field())));
                }
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

    fn matchers_mut(&mut self, event: &HookEventType) -> Option<&mut Vec<HookMatcher>> {
        Some(match event {
            HookEventType::PreToolUse => &mut self.pre_tool_use,
            HookEventType::PostToolUse => &mut self.post_tool_use,
            HookEventType::UserPromptSubmit => &mut self.user_prompt_submit,
            HookEventType::SessionStart => &mut self.session_start,
            HookEventType::SessionEnd => &mut self.session_end,
            HookEventType::Stop => &mut self.stop,
            HookEventType::Other(_) => return None,
        })
    }
}

/// Characters that make a pattern a regular expression on the server, or that have a special
/// meaning in one.
const SPECIAL: &str = "|.*+?[](){}^$\\";
/// The patterns of `exact("")` and `exact("*")`, which do not match any tool name.
const NO_TOOL: [&str; 2] = ["/()/", "/\\*/"];

impl HookMatcher {
    /// Creates a matcher without hooks for the tools that match `pattern`. `*` or an empty pattern
    /// matches all tools. `/…/`, or any text that contains one of `|.*+?[]()^$\`, is a regular
    /// expression for the whole name. Any other text matches one name.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            matcher: pattern.into(),
            hooks: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Creates a matcher for every tool, and for events that do not concern a tool.
    pub fn all() -> Self {
        Self::new("*")
    }

    /// Creates a matcher for one tool name, which may contain any characters.
    ///
    /// An empty name and `*` are not valid tool names, and [`HookConfig::check`] rejects them.
    pub fn exact(tool: impl Into<String>) -> Self {
        let tool = tool.into();
        // `/x/` is a regular expression on the server too.
        if !tool.is_empty() && !tool.contains(|c| SPECIAL.contains(c) || c == '/') {
            return Self::new(tool);
        }
        let mut escaped = String::with_capacity(tool.len() + 8);
        for letter in tool.chars() {
            if SPECIAL.contains(letter) {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        Self::regex(escaped)
    }

    /// Creates a matcher for the tools whose whole name matches a (Python) regular expression. An
    /// empty expression matches only an empty name.
    pub fn regex(pattern: impl AsRef<str>) -> Self {
        match pattern.as_ref() {
            // On the server, `//` is a plain name.
            "" => Self::new("/()/"),
            pattern => Self::new(format!("/{pattern}/")),
        }
    }

    fn refusal(&self) -> Option<&'static str> {
        let nobody = NO_TOOL.contains(&&*self.matcher);
        nobody.then_some(
            "the tool name must not be empty or `*`; omit the matcher to match all tools",
        )
    }

    /// Adds a hook. Hooks run in order.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Returns the pattern in the server's notation.
    pub fn pattern(&self) -> &str {
        &self.matcher
    }

    /// Returns the hooks, in the order in which they run.
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
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_stop_hook_has_the_servers_form() {
        let hooks = HookConfig::new().stop(Hook::command("./x.sh").timeout(Duration::from_secs(5)));
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
    fn data_of_a_newer_server_is_kept() {
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
    fn both_spellings_on_the_wire_are_decoded() {
        let hooks: HookConfig = serde_json::from_value(
            json!({"Stop": [{"hooks": [{"command": "x", "async_": true}]}]}),
        )
        .unwrap();
        assert_eq!(hooks, HookConfig::new().stop(Hook::command("x").detached()));
    }

    #[test]
    fn a_rejection_names_the_place() {
        let hooks = HookConfig::new().stop(Hook::command("fine")).stop(
            HookMatcher::all()
                .hook(Hook::command("a"))
                .hook(Hook::command("")),
        );
        let error = hooks.check().unwrap_err().to_string();
        assert!(error.contains("stop[1].hooks[1]"), "{error}");
    }

    #[test]
    fn an_exact_matcher_matches_only_its_name() {
        for (tool, pattern) in [
            ("terminal", "terminal"),
            ("a.b", r"/a\.b/"),
            ("f(x)", r"/f\(x\)/"),
            ("a+b", r"/a\+b/"),
            ("/x/", "//x//"),
            (r"a\b", r"/a\\b/"),
            ("a{2}", r"/a\{2\}/"),
        ] {
            let matcher = HookMatcher::exact(tool);
            assert_eq!(matcher.pattern(), pattern);
            HookConfig::new()
                .stop(matcher.hook(Hook::command("x")))
                .check()
                .unwrap();
        }
        for nobody in ["", "*"] {
            let matcher = HookMatcher::exact(nobody).hook(Hook::command("x"));
            assert!(
                !["", "*"].contains(&matcher.pattern()),
                "{nobody} is not everything"
            );
            let error = HookConfig::new().pre_tool_use(matcher).check().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("pre_tool_use[0]: the tool name"),
                "{error}"
            );
        }
        assert_eq!(HookMatcher::regex("").pattern(), "/()/");
    }

    #[test]
    fn an_event_of_a_newer_server_is_data() {
        let event: HookEventType = serde_json::from_str("\"PreCompact\"").unwrap();
        assert_eq!(event, HookEventType::Other("PreCompact".into()));
        assert_eq!(serde_json::to_string(&event).unwrap(), "\"PreCompact\"");
        assert!(!event.can_block() && !event.has_tool());
        let stop: HookEventType = serde_json::from_str("\"Stop\"").unwrap();
        assert_eq!(stop, HookEventType::Stop);
        let hooks = HookConfig::new().on(
            HookEventType::Other("pre_compact".into()),
            Hook::command("x"),
        );
        assert!(hooks.matchers(&event).is_empty() && !hooks.is_empty());
        let wire = serde_json::to_value(&hooks).unwrap();
        assert_eq!(wire["pre_compact"][0]["hooks"][0]["command"], "x");
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
