//! Hook configuration: what runs on the server when something happens in a conversation.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Hooks by event, in the server's own form (`hook_config`).
///
/// ```
/// use oh_protocol::hooks::{Hook, HookConfig};
///
/// let hooks = HookConfig::new().stop(Hook::command("./check.sh").timeout(60));
/// assert!(hooks.check().is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct HookConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pre_tool_use: Vec<HookMatcher>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    post_tool_use: Vec<HookMatcher>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    user_prompt_submit: Vec<HookMatcher>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    session_start: Vec<HookMatcher>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    session_end: Vec<HookMatcher>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stop: Vec<HookMatcher>,
}

/// Hooks for the tools that a pattern names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct HookMatcher {
    #[serde(default = "HookMatcher::everything")]
    matcher: String,
    #[serde(default)]
    hooks: Vec<Hook>,
}

/// One hook: a command the server runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Hook {
    #[serde(rename = "type", default = "Hook::default_type")]
    kind: String,
    #[serde(default)]
    command: String,
    #[serde(default = "Hook::default_timeout")]
    timeout: u64,
    #[serde(rename = "async", alias = "async_", default)]
    detached: bool,
}

impl HookConfig {
    /// No hooks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before a tool runs; may deny it.
    pub fn pre_tool_use(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.pre_tool_use.push(hooks.into());
        self
    }

    /// After a tool ran.
    pub fn post_tool_use(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.post_tool_use.push(hooks.into());
        self
    }

    /// When the user sends a message; may refuse it or add to it.
    pub fn user_prompt_submit(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.user_prompt_submit.push(hooks.into());
        self
    }

    /// Before the first message.
    pub fn session_start(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.session_start.push(hooks.into());
        self
    }

    /// When the conversation is closed on the server.
    pub fn session_end(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.session_end.push(hooks.into());
        self
    }

    /// When the agent wants to finish; may send it back to work.
    pub fn stop(mut self, hooks: impl Into<HookMatcher>) -> Self {
        self.stop.push(hooks.into());
        self
    }

    /// Whether there is no hook at all.
    pub fn is_empty(&self) -> bool {
        self.matchers().all(|matcher| matcher.hooks.is_empty())
    }

    /// Checks the server's rules before anything travels.
    ///
    /// # Errors
    ///
    /// When a hook has no command, or a timeout of zero.
    pub fn check(&self) -> Result<()> {
        for hook in self.matchers().flat_map(|matcher| &matcher.hooks) {
            if hook.kind == "command" && hook.command.trim().is_empty() {
                return Err(Error::invalid("a command hook needs a command"));
            }
            if hook.timeout == 0 {
                return Err(Error::invalid(format!(
                    "hook `{}`: a timeout of zero ends it at once",
                    hook.command
                )));
            }
        }
        Ok(())
    }

    fn matchers(&self) -> impl Iterator<Item = &HookMatcher> {
        [
            &self.pre_tool_use,
            &self.post_tool_use,
            &self.user_prompt_submit,
            &self.session_start,
            &self.session_end,
            &self.stop,
        ]
        .into_iter()
        .flatten()
    }
}

impl HookMatcher {
    /// Hooks for the tools that `pattern` names: `*` or nothing for all, `/…/` for a regular
    /// expression over the whole name, anything else for one name.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            matcher: pattern.into(),
            hooks: Vec::new(),
        }
    }

    /// Adds a hook; they run in order.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hooks.push(hook);
        self
    }

    fn everything() -> String {
        "*".to_owned()
    }
}

impl From<Hook> for HookMatcher {
    fn from(hook: Hook) -> Self {
        Self::new("*").hook(hook)
    }
}

impl Hook {
    /// Runs a command line with `sh -c` on the server, in the workspace, for at most 60 s.
    ///
    /// While it runs, the whole server waits: keep it short.
    pub fn command(command: impl Into<String>) -> Self {
        Self {
            kind: Self::default_type(),
            command: command.into(),
            timeout: Self::default_timeout(),
            detached: false,
        }
    }

    /// After how many seconds it is ended. It counts as allowed then.
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = seconds;
        self
    }

    /// Runs beside everything else; cannot deny then.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    fn default_type() -> String {
        "command".to_owned()
    }

    fn default_timeout() -> u64 {
        60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_hook_has_the_servers_form() {
        let hooks = HookConfig::new().stop(Hook::command("./x.sh").timeout(5));
        let wire = serde_json::to_value(&hooks).unwrap();
        assert_eq!(
            wire,
            serde_json::json!({"stop": [{"matcher": "*", "hooks": [
                {"type": "command", "command": "./x.sh", "timeout": 5, "async": false}
            ]}]})
        );
        assert_eq!(serde_json::from_value::<HookConfig>(wire).unwrap(), hooks);
    }

    #[test]
    fn a_command_hook_without_a_command_is_refused() {
        assert!(HookConfig::new().stop(Hook::command(" ")).check().is_err());
        assert!(
            HookConfig::new()
                .stop(Hook::command("x").timeout(0))
                .check()
                .is_err()
        );
    }
}
