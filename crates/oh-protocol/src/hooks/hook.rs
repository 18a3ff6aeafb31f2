//! A single hook: its kinds, fields and rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, json::open_enum::open_enum, time::whole_seconds};

open_enum! {
    /// The kind of a hook, which determines how it decides (`type`).
    HookKind {
        /// A command line, which decides by its exit code and output.
        Command = "command",
        /// A single completion of the agent's model.
        Prompt = "prompt",
        /// A separate agent with tools.
        Agent = "agent",
    }
}

/// A single hook. The allowed fields depend on the kind; see [`check`](Hook::check).
///
/// ```
/// use oh_protocol::hooks::Hook;
/// use std::time::Duration;
///
/// // Exit code 2 denies, and stderr is the feedback for the agent.
/// let tests = Hook::command("cargo test --quiet >&2 || exit 2").timeout(Duration::from_secs(300));
/// tests.check()?;
/// # Ok::<(), oh_protocol::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Hook {
    #[serde(rename = "type", default = "Hook::default_kind")]
    kind: HookKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    // Always serialized, even if empty, as in the server's own responses.
    #[serde(default)]
    command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
    // Signed, because the server accepts any value, and decoding must not fail on an invalid one.
    #[serde(default = "Hook::default_timeout")]
    timeout: i64,
    #[serde(
        default = "Hook::default_iterations",
        skip_serializing_if = "Hook::is_default_iterations"
    )]
    max_iterations: i64,
    #[serde(rename = "async", alias = "async_", default)]
    detached: bool,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Hook {
    /// Creates a hook that runs a command line with `sh -c` on the server, in the workspace.
    /// Default timeout: 60 s.
    ///
    /// The whole server is blocked while the hook runs, so it should be fast.
    pub fn command(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            ..Self::of(HookKind::Command)
        }
    }

    /// Creates a hook in which the agent's model judges the event once, based on this policy.
    pub fn prompt(policy: impl Into<String>) -> Self {
        Self {
            prompt: Some(policy.into()),
            ..Self::of(HookKind::Prompt)
        }
    }

    /// Creates a hook in which a separate agent judges the event, based on this system prompt.
    pub fn agent(system_prompt: impl Into<String>) -> Self {
        Self {
            system_prompt: Some(system_prompt.into()),
            ..Self::of(HookKind::Agent)
        }
    }

    /// Sets the name for events and logs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the timeout, rounded up to whole seconds. Default: 60 s. A hook that times out allows
    /// the event.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = i64::try_from(whole_seconds(timeout)).unwrap_or(i64::MAX);
        self
    }

    /// Runs the hook in the background. A detached hook cannot deny. For command hooks only.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Adds a tool to an agent hook, by its name on the server.
    pub fn tool(mut self, name: impl Into<String>) -> Self {
        self.tools.push(name.into());
        self
    }

    /// Sets the maximum number of steps of an agent hook. Default: 3.
    pub fn max_iterations(mut self, steps: u64) -> Self {
        self.max_iterations = i64::try_from(steps).unwrap_or(i64::MAX);
        self
    }

    /// Returns the kind of the hook.
    pub fn kind(&self) -> &HookKind {
        &self.kind
    }

    /// Returns the command line. Empty for the other kinds.
    pub fn command_line(&self) -> &str {
        &self.command
    }

    /// Returns the timeout. A negative value in a decoded hook counts as zero.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0))
    }

    /// Returns the name that was set.
    pub fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the policy of a prompt hook (`prompt`).
    pub fn policy(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// Returns the system prompt of an agent hook (`system_prompt`).
    pub fn system_prompt(&self) -> Option<&str> {
        self.system_prompt.as_deref()
    }

    /// Returns the tools of an agent hook.
    pub fn tools(&self) -> &[String] {
        &self.tools
    }

    /// Returns the maximum number of steps of an agent hook.
    pub fn iterations(&self) -> u64 {
        u64::try_from(self.max_iterations).unwrap_or(0)
    }

    /// Returns whether the hook runs in the background (`async`).
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// Returns the server's label for the hook in events (`hook_command`): the command, or the kind
    /// and name.
    pub fn label(&self) -> String {
        if !self.command.is_empty() {
            return self.command.clone();
        }
        let text = match &self.kind {
            HookKind::Prompt => self.prompt.as_deref(),
            HookKind::Agent => self.system_prompt.as_deref(),
            _ => None,
        };
        let tail: String = match (&self.name, text.filter(|text| !text.is_empty())) {
            (Some(name), _) => name.clone(),
            (None, Some(text)) => text.chars().take(20).collect(),
            (None, None) => self.kind.to_string(),
        };
        format!("{}-hook:{tail}", self.kind)
    }

    /// Checks the server's rules for one hook.
    ///
    /// # Errors
    ///
    /// Returns an error if a required field of the hook's kind is missing, or if a field is set
    /// that the kind does not allow.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::invalid(why));
        let none = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        match self.kind {
            HookKind::Command if self.command.is_empty() => {
                return refuse("a command hook must have a `command`");
            }
            HookKind::Prompt if none(&self.prompt) => {
                return refuse("a prompt hook must have a `prompt`, which is its policy");
            }
            HookKind::Prompt if !self.command.is_empty() => {
                return refuse(
                    "a prompt hook cannot have a `command`; remove the `command` or the `type`",
                );
            }
            HookKind::Agent if !self.command.is_empty() => {
                return refuse("an agent hook cannot have a `command`; use `system_prompt`");
            }
            HookKind::Prompt | HookKind::Agent if self.detached => {
                return refuse("only command hooks can be `async`");
            }
            _ => {}
        }
        Ok(())
    }

    fn of(kind: HookKind) -> Self {
        Self {
            kind,
            name: None,
            command: String::new(),
            prompt: None,
            system_prompt: None,
            tools: Vec::new(),
            timeout: Self::default_timeout(),
            max_iterations: Self::default_iterations(),
            detached: false,
            extra: Map::new(),
        }
    }

    fn default_kind() -> HookKind {
        HookKind::Command
    }

    fn default_timeout() -> i64 {
        60
    }

    fn default_iterations() -> i64 {
        3
    }

    fn is_default_iterations(steps: &i64) -> bool {
        *steps == Self::default_iterations()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prompt_hook_still_has_an_empty_command() {
        assert_eq!(
            serde_json::to_value(Hook::prompt("no rm")).unwrap(),
            json!({
                "type": "prompt", "command": "", "prompt": "no rm", "timeout": 60, "async": false,
            })
        );
    }

    #[test]
    fn a_timeout_is_rounded_up_and_an_invalid_one_is_kept() {
        let seconds = |timeout| {
            let hook = Hook::command("x").timeout(timeout);
            (
                hook.time_limit().as_secs(),
                serde_json::to_value(&hook).unwrap()["timeout"].clone(),
            )
        };
        assert_eq!(seconds(Duration::from_millis(1)), (1, json!(1)));
        assert_eq!(seconds(Duration::from_secs(5)), (5, json!(5)));
        assert_eq!(seconds(Duration::MAX).1, json!(i64::MAX));
        let negative: Hook =
            serde_json::from_value(json!({"command": "x", "timeout": -3})).unwrap();
        assert_eq!(negative.time_limit(), Duration::ZERO);
        assert_eq!(serde_json::to_value(&negative).unwrap()["timeout"], -3);
    }

    #[test]
    fn each_kind_of_hook_is_validated() {
        let with_command = |mut hook: Hook| {
            hook.command = "x".to_owned();
            hook
        };
        for (hook, word) in [
            (Hook::command(""), "must have a `command`"),
            (Hook::prompt(""), "must have a `prompt`"),
            (with_command(Hook::prompt("p")), "cannot have a `command`"),
            (with_command(Hook::agent("p")), "system_prompt"),
            (Hook::prompt("p").detached(), "async"),
            (Hook::agent("p").detached(), "async"),
        ] {
            let error = hook.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for hook in [
            Hook::command("x").detached().timeout(Duration::ZERO),
            Hook::command(" "),
            Hook::prompt("p"),
            Hook::agent(""),
        ] {
            hook.check().unwrap();
        }
    }

    #[test]
    fn labels_distinguish_hooks() {
        let long = "Deny commands that delete files";
        for (hook, label) in [
            (Hook::command("./x.sh").name("n"), "./x.sh"),
            (Hook::prompt(long), "prompt-hook:Deny commands that d"),
            (Hook::prompt(long).name("rm"), "prompt-hook:rm"),
            (Hook::agent(""), "agent-hook:agent"),
        ] {
            assert_eq!(hook.label(), label);
        }
    }
}
