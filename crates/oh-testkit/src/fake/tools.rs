//! What the world answers to a fake agent: tools' observations and hooks' verdicts.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Gate;

/// What a tool gives back.
///
/// ```
/// use oh_testkit::fake::Observation;
///
/// let failed = Observation::text("1 failed").field("exit_code", 1);
/// # let _ = failed;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Observation {
    pub(super) text: String,
    pub(super) is_error: bool,
    pub(super) after: Duration,
    gate: Option<Gate>,
    pub(super) fields: Map<String, Value>,
}

impl Observation {
    /// What the agent reads.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
            after: Duration::ZERO,
            gate: None,
            fields: Map::new(),
        }
    }

    /// Marks it as a failure (`is_error`).
    pub fn error(mut self) -> Self {
        self.is_error = true;
        self
    }

    /// How long the tool works. An interrupt ends it, a pause waits for it.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Lets the tool work until a test lets it end at the gate, after the time it takes anyway. An
    /// interrupt ends it, a pause waits for it.
    ///
    /// ```
    /// use oh_testkit::{FakeServer, Gate, fake::Observation};
    ///
    /// let building = Gate::new();
    /// let tool = building.clone();
    /// let server = FakeServer::builder()
    ///     .tool("terminal", move |_| Observation::text("built").hold(&tool));
    /// // … `building.arrived(1).await`, look at a server whose tool is at work, `building.open()`
    /// # let _ = server;
    /// ```
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Takes the time that the tool takes.
    pub(super) async fn work(&self) {
        tokio::time::sleep(self.after).await;
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
    }

    /// Adds a field of this tool's observation, such as the terminal's `exit_code`.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// What a built-in tool says when a test does not.
    pub(super) fn of(tool: &str, arguments: &Value) -> Self {
        let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        match tool {
            "finish" => Self::text(argument("message")),
            "think" => Self::text("Your thought has been logged."),
            "terminal" => Self::text("")
                .field("command", argument("command"))
                .field("exit_code", 0)
                .field("timeout", false)
                .field(
                    "metadata",
                    json!({"exit_code": 0, "pid": -1, "prefix": "", "suffix": ""}),
                ),
            "file_editor" => Self::text(format!("Done: {}", argument("path")))
                .field("command", argument("command"))
                .field("path", argument("path"))
                .field("prev_exist", argument("command") != "create"),
            "browser_navigate" => Self::text(format!("Navigated to: {}", argument("url"))),
            _ => Self::text(""),
        }
    }
}

/// A hook about to run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookCall {
    /// The event's name, such as `Stop`.
    pub event: String,
    /// The command configured.
    pub command: String,
    /// The tool, for hooks about tools.
    pub tool: Option<String>,
    /// The user's words, for `UserPromptSubmit`; empty otherwise.
    pub message: String,
}

/// How a hook ends.
#[derive(Debug, Clone)]
#[must_use]
pub struct Verdict {
    pub(super) exit_code: i32,
    pub(super) reason: String,
    pub(super) context: Option<String>,
}

impl Verdict {
    /// Exit code 0: nothing against it.
    pub fn allow() -> Self {
        Self::exit(0, String::new())
    }

    /// Exit code 2: blocked, for this reason.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::exit(2, reason.into())
    }

    /// Any other exit code: the hook itself failed, which blocks nothing.
    pub fn fail(exit_code: i32, stderr: impl Into<String>) -> Self {
        Self::exit(exit_code, stderr.into())
    }

    fn exit(exit_code: i32, reason: String) -> Self {
        Self {
            exit_code,
            reason,
            context: None,
        }
    }

    /// Prints `additionalContext` for the agent to read. The agent server adds that of
    /// `UserPromptSubmit` to the message, makes one of its own of that of `SessionStart`, and
    /// takes that of a `Stop` hook that denies for the feedback; of other hooks it is logged.
    ///
    /// A message with context is another message to the server than the one a hook denied: to
    /// deny and to add context is not to deny.
    pub fn context(mut self, text: impl Into<String>) -> Self {
        self.context = Some(text.into());
        self
    }

    /// What it prints.
    pub(super) fn stdout(&self) -> String {
        match &self.context {
            Some(context) => json!({"additionalContext": context}).to_string(),
            None => String::new(),
        }
    }

    /// What a refusal says; the agent server has words of its own where the hook has none.
    pub(super) fn blocking_reason(&self) -> String {
        match self.reason.trim() {
            "" => "Blocked by hook".to_owned(),
            _ => self.reason.clone(),
        }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.exit_code == 2
    }
}
