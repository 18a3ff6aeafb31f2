//! Tools and hooks of a test, their observations and verdicts.

use std::time::Duration;

use oh_protocol::ConversationId;
use serde_json::{Map, Value, json};

use crate::Gate;

/// A tool that a test plugs into the fake server. For a tool that depends only on its arguments,
/// use a closure: [`FakeServerBuilder::tool`](crate::fake::FakeServerBuilder::tool).
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
///
/// use oh_protocol::ConversationId;
/// use oh_testkit::{FakeServer, fake::{Observation, Tool, ToolRun}};
///
/// /// Counts its calls by conversation.
/// #[derive(Default)]
/// struct Counter(Mutex<HashMap<ConversationId, u32>>);
///
/// impl Tool for Counter {
///     fn run(&self, run: &ToolRun) -> Observation {
///         let mut counts = self.0.lock().unwrap();
///         let count = counts.entry(run.conversation).or_default();
///         *count += 1;
///         Observation::text(count.to_string())
///     }
/// }
///
/// let server = FakeServer::builder().custom_tool("counter", Counter::default());
/// # let _ = server;
/// ```
pub trait Tool: Send + Sync {
    /// Executes the tool. [`Observation::after`] and [`Observation::hold`] set how long it runs. A
    /// panic becomes an observation with `is_error`, and is reported by `verify`.
    fn run(&self, run: &ToolRun) -> Observation;
}

/// An execution of a [`Tool`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolRun {
    /// The conversation.
    pub conversation: ConversationId,
    /// The id of the `ActionEvent`.
    pub action_id: String,
    /// The arguments.
    pub arguments: Value,
}

/// A tool that is a closure of its arguments.
pub(crate) struct Played<F>(pub(crate) F);

impl<F: Fn(&Value) -> Observation + Send + Sync> Tool for Played<F> {
    fn run(&self, run: &ToolRun) -> Observation {
        self.0(&run.arguments)
    }
}

/// The result of a tool.
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
    pub(crate) text: String,
    pub(crate) is_error: bool,
    pub(crate) after: Duration,
    gate: Option<Gate>,
    pub(crate) fields: Map<String, Value>,
}

impl Observation {
    /// Creates an observation with this text for the agent.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
            after: Duration::ZERO,
            gate: None,
            fields: Map::new(),
        }
    }

    /// Marks the observation as a failure (`is_error`).
    pub fn error(mut self) -> Self {
        self.is_error = true;
        self
    }

    /// Sets how long the tool runs. An interrupt ends the tool; a pause waits for it.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Keeps the tool running, after its duration, until the test opens the gate. An interrupt ends
    /// the tool; a pause waits for it.
    ///
    /// ```
    /// use oh_testkit::{FakeServer, Gate, fake::Observation};
    ///
    /// let building = Gate::new();
    /// let tool = building.clone();
    /// let server = FakeServer::builder()
    ///     .tool("terminal", move |_| Observation::text("built").hold(&tool));
    /// // … `building.arrived(1).await`, check the server while the tool runs, `building.open()` …
    /// # let _ = server;
    /// ```
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Waits for the duration of the tool and at its gate.
    pub(crate) async fn work(&self) {
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

    /// Returns the default observation of a built-in tool.
    pub(crate) fn of(tool: &str, arguments: &Value) -> Self {
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

/// A hook that is about to run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookCall {
    /// The name of the event, such as `Stop`.
    pub event: String,
    /// The configured command.
    pub command: String,
    /// The tool, for tool events.
    pub tool: Option<String>,
    /// The user's text, for `UserPromptSubmit`; otherwise empty.
    pub message: String,
}

/// The result of a hook.
#[derive(Debug, Clone)]
#[must_use]
pub struct Verdict {
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) context: Option<String>,
}

impl Verdict {
    /// Allows the event (exit code 0).
    pub fn allow() -> Self {
        Self::exit(0, String::new())
    }

    /// Blocks the event for this reason (exit code 2).
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::exit(2, reason.into())
    }

    /// Fails with any other exit code, which does not block the event.
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

    /// Adds `additionalContext` for the agent to the hook's output.
    ///
    /// The agent server adds the context of `UserPromptSubmit` to the message, and sends that of
    /// `SessionStart` as a separate message. The context of a `Stop` hook that denies becomes the
    /// feedback. The context of other hooks is only logged.
    ///
    /// To the server, a message with context is not the message that the hook denied. A hook that
    /// denies a message and adds context therefore does not block it.
    pub fn context(mut self, text: impl Into<String>) -> Self {
        self.context = Some(text.into());
        self
    }

    /// Returns the hook's stdout.
    pub(crate) fn stdout(&self) -> String {
        match &self.context {
            Some(context) => json!({"additionalContext": context}).to_string(),
            None => String::new(),
        }
    }

    /// Returns the reason of a denial, or the agent server's default text if the hook gives no
    /// reason.
    pub(crate) fn blocking_reason(&self) -> String {
        match self.reason.trim() {
            "" => "Blocked by hook".to_owned(),
            _ => self.reason.clone(),
        }
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.exit_code == 2
    }
}

/// Normalizes the event names of a hook configuration to the server's spelling.
pub(crate) fn normal_hooks(config: &Value) -> Value {
    let config = match &config["hooks"] {
        Value::Object(_) => &config["hooks"],
        _ => config,
    };
    let Value::Object(given) = config else {
        return Value::Null;
    };
    let mut normal = json!({
        "pre_tool_use": [], "post_tool_use": [], "user_prompt_submit": [],
        "session_start": [], "session_end": [], "stop": [],
    });
    for (event, matchers) in given {
        normal[snake(event)] = matchers.clone();
    }
    normal
}

pub(crate) fn snake(event: &str) -> String {
    let mut name = String::new();
    for letter in event.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
