//! What a hook is told: the JSON on its stdin. Knows its form, not who reads it.

use oh_protocol::hooks::HookEventType;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// An event as a hook program gets it on stdin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HookInput {
    /// What happened.
    pub event_type: HookEventType,
    /// The tool it is about, for the two tool events.
    #[serde(default)]
    pub tool_name: Option<String>,
    /// What the tool is asked to do: the action, with its `kind`.
    #[serde(default)]
    pub tool_input: Option<Value>,
    /// What the tool answered, after it ran.
    #[serde(default)]
    pub tool_response: Option<Value>,
    /// What the user wrote, for a prompt.
    #[serde(default)]
    pub message: Option<String>,
    /// The conversation's id.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The workspace.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// More; `reason` for a Stop.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl HookInput {
    /// An event about nothing in particular yet; for tests and dry runs.
    pub fn new(event_type: HookEventType) -> Self {
        Self {
            event_type,
            tool_name: None,
            tool_input: None,
            tool_response: None,
            message: None,
            session_id: None,
            working_dir: None,
            metadata: Map::new(),
        }
    }

    /// Makes it about a tool and what that is asked to do.
    #[must_use]
    pub fn tool(mut self, name: impl Into<String>, input: Value) -> Self {
        self.tool_name = Some(name.into());
        self.tool_input = Some(input);
        self
    }

    /// Adds what the tool answered.
    #[must_use]
    pub fn response(mut self, response: Value) -> Self {
        self.tool_response = Some(response);
        self
    }

    /// Adds what the user wrote.
    #[must_use]
    pub fn message(mut self, text: impl Into<String>) -> Self {
        self.message = Some(text.into());
        self
    }

    /// The command line that a terminal action is asked to run.
    pub fn command(&self) -> Option<&str> {
        self.tool_input.as_ref()?.get("command")?.as_str()
    }

    /// What the tool is asked to do, as a type of the caller's.
    ///
    /// # Errors
    ///
    /// When there is none, or it has another form.
    pub fn input_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.tool_input.as_ref().unwrap_or(&Value::Null))
    }

    /// What the tool answered, as a type of the caller's.
    ///
    /// # Errors
    ///
    /// When there is none, or it has another form.
    pub fn response_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.tool_response.as_ref().unwrap_or(&Value::Null))
    }
}
