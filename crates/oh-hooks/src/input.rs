//! The input of a hook: the JSON event that a hook program gets on stdin.

use oh_protocol::{
    Event, Payload,
    event::{Action, HookExecutionEvent, Observation, Source},
    hooks::HookEventType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// An event as a hook program gets it on stdin.
///
/// ```
/// use oh_hooks::{HookEventType, HookInput};
/// use serde_json::json;
///
/// let action = json!({"kind": "TerminalAction", "command": "rm -rf build"});
/// let input = HookInput::new(HookEventType::PreToolUse).tool("terminal", action);
/// assert_eq!(input.command(), Some("rm -rf build"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HookInput {
    /// The type of the event.
    pub event_type: HookEventType,
    /// The name of the tool, for the two tool events.
    #[serde(default)]
    pub tool_name: Option<String>,
    /// The tool's input: the action, including its `kind`.
    #[serde(default)]
    pub tool_input: Option<Value>,
    /// The tool's response, after it ran.
    #[serde(default)]
    pub tool_response: Option<Value>,
    /// The user's message, for UserPromptSubmit.
    #[serde(default)]
    pub message: Option<String>,
    /// The conversation id.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The workspace directory.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Additional data, such as `reason` for a Stop.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Fields of a newer server that this version does not support.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl HookInput {
    /// Creates an event that has only a type. Intended for tests and dry runs.
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
            extra: Map::new(),
        }
    }

    /// Creates the input that hooks got, or would have got, for a recorded event, so that hooks can
    /// be run on it again.
    ///
    /// An action becomes a PreToolUse event and a user message becomes a UserPromptSubmit event. A
    /// hook execution event becomes the input of that hook. Returns `None` for all other events.
    /// Fields that an action does not have are absent; the server sends them as `null`.
    pub fn recorded(event: &Event) -> Option<Self> {
        match event.payload() {
            Payload::Action(_) => {
                let mut input = Self::new(HookEventType::PreToolUse);
                input.tool_name = Some(part(event, "tool_name")?.as_str()?.to_owned());
                input.tool_input = Some(part(event, "action")?);
                Some(input)
            }
            Payload::Message(message) if *event.source() == Source::User => {
                Some(Self::new(HookEventType::UserPromptSubmit).message(message.llm_message.text()))
            }
            Payload::HookExecution(hook) => Self::executed(hook),
            _ => None,
        }
    }

    /// Creates the input that PostToolUse hooks got, or would have got, for an action and its
    /// observation.
    ///
    /// Returns `None` if `action` is not an action or `observation` does not belong to it.
    pub fn recorded_response(action: &Event, observation: &Event) -> Option<Self> {
        let input = Self::recorded(action)?;
        let about = match observation.payload() {
            Payload::Observation(seen) => *seen.action_id == *action.id(),
            _ => false,
        };
        if !about || input.event_type != HookEventType::PreToolUse {
            return None;
        }
        let response = part(observation, "observation")?;
        let event_type = HookEventType::PostToolUse;
        Some(
            Self {
                event_type,
                ..input
            }
            .response(response),
        )
    }

    fn executed(hook: &HookExecutionEvent) -> Option<Self> {
        let mut input = Self::new(HookEventType::from_key(&hook.hook_event_type)?);
        input.tool_name = hook.tool_name.as_deref().map(str::to_owned);
        let input_json = hook.hook_input.as_ref().map(|json| json.to_value());
        let get = |key: &str| {
            input_json
                .as_ref()?
                .get(key)
                .cloned()
                .filter(|value| !value.is_null())
        };
        input.tool_input = get("tool_input");
        input.tool_response = get("tool_response");
        input.message = get("message").and_then(|text| Some(text.as_str()?.to_owned()));
        input
            .metadata
            .extend(get("reason").map(|reason| ("reason".to_owned(), reason)));
        Some(input)
    }

    /// Sets the tool's name and its input.
    #[must_use]
    pub fn tool(mut self, name: impl Into<String>, input: Value) -> Self {
        self.tool_name = Some(name.into());
        self.tool_input = Some(input);
        self
    }

    /// Sets the tool's response.
    #[must_use]
    pub fn response(mut self, response: Value) -> Self {
        self.tool_response = Some(response);
        self
    }

    /// Sets the user's message.
    #[must_use]
    pub fn message(mut self, text: impl Into<String>) -> Self {
        self.message = Some(text.into());
        self
    }

    /// Returns the command line of a terminal action.
    pub fn command(&self) -> Option<&str> {
        self.tool_input.as_ref()?.get("command")?.as_str()
    }

    /// Returns why the agent wants to stop, for a Stop event. Example: `agent_finished`.
    pub fn reason(&self) -> Option<&str> {
        self.metadata.get("reason")?.as_str()
    }

    /// Decodes the tool's input as the action of a built-in tool.
    ///
    /// Returns `None` if the event has no tool input. An input of an unknown kind becomes
    /// [`Action::Unknown`], and an invalid one becomes [`Action::Malformed`], as in an event.
    pub fn action(&self) -> Option<Action> {
        let input = self.tool_input.clone().filter(|input| !input.is_null())?;
        serde_json::from_value(input).ok()
    }

    /// Decodes the tool's response as the observation of a built-in tool. See
    /// [`action`](Self::action).
    pub fn observation(&self) -> Option<Observation> {
        serde_json::from_value(self.tool_response.clone()?).ok()
    }

    /// Decodes the tool's input as a type of the caller.
    ///
    /// # Errors
    ///
    /// Returns an error if the event has no tool input or the input does not match the type.
    pub fn input_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.tool_input.as_ref().unwrap_or(&Value::Null))
    }

    /// Decodes the tool's response as a type of the caller.
    ///
    /// # Errors
    ///
    /// Returns an error if the event has no tool response or the response does not match the type.
    pub fn response_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.tool_response.as_ref().unwrap_or(&Value::Null))
    }
}

/// Returns one field of an event's JSON.
fn part(event: &Event, key: &str) -> Option<Value> {
    let mut body: Map<String, Value> = serde_json::from_slice(event.raw()).ok()?;
    body.remove(key).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(json: Value) -> Event {
        Event::from_json(json.to_string()).unwrap()
    }

    #[test]
    fn an_event_of_a_newer_server_can_be_read() {
        let json = r#"{"event_type": "PreCompact", "session_id": "s", "new": 1}"#;
        let input: HookInput = serde_json::from_str(json).unwrap();
        assert_eq!(input.event_type.as_str(), "PreCompact");
        assert_eq!(
            serde_json::to_value(&input).unwrap()["event_type"],
            "PreCompact"
        );
    }

    #[test]
    fn a_tools_input_and_response_are_typed() {
        let input = HookInput::new(HookEventType::PostToolUse)
            .tool(
                "terminal",
                json!({"kind": "TerminalAction", "command": "ls", "timeout": null}),
            )
            .response(json!({"kind": "TerminalObservation", "exit_code": 3,
                "content": [{"type": "text", "text": "no"}]}));
        let Some(Action::Terminal(action)) = input.action() else {
            panic!("{:?}", input.action());
        };
        assert_eq!(&*action.command, "ls");
        let Some(Observation::Terminal(seen)) = input.observation() else {
            panic!("{:?}", input.observation());
        };
        assert_eq!(seen.exit_code, Some(3));
        let other = HookInput::new(HookEventType::PreToolUse).tool("x", json!({"kind": "XAction"}));
        assert!(matches!(other.action(), Some(Action::Unknown(_))));
        assert!(HookInput::new(HookEventType::Stop).action().is_none());
        assert!(HookInput::new(HookEventType::Stop).observation().is_none());
        #[derive(serde::Deserialize)]
        struct Mine {
            command: String,
        }
        assert_eq!(input.input_as::<Mine>().unwrap().command, "ls");
        assert!(input.response_as::<Mine>().is_err());
    }

    #[test]
    fn recorded_events_can_be_evaluated_again() {
        let action = event(json!({"kind": "ActionEvent", "id": "a", "timestamp": "t",
            "source": "agent", "tool_name": "terminal", "tool_call_id": "c",
            "action": {"kind": "TerminalAction", "command": "ls"}}));
        let input = HookInput::recorded(&action).unwrap();
        assert_eq!(input.event_type, HookEventType::PreToolUse);
        assert_eq!(
            (input.tool_name.as_deref(), input.command()),
            (Some("terminal"), Some("ls"))
        );

        let observation = |id: &str| {
            event(json!({"kind": "ObservationEvent", "id": "o",
            "timestamp": "t", "source": "environment", "tool_name": "terminal",
            "tool_call_id": "c", "action_id": id,
            "observation": {"kind": "TerminalObservation", "exit_code": 0, "content": []}}))
        };
        let input = HookInput::recorded_response(&action, &observation("a")).unwrap();
        assert_eq!(input.event_type, HookEventType::PostToolUse);
        assert!(input.observation().is_some());
        assert_eq!(
            HookInput::recorded_response(&action, &observation("b")),
            None
        );
        assert_eq!(HookInput::recorded(&observation("a")), None);

        let said = |source: &str| {
            event(json!({"kind": "MessageEvent", "id": "m",
            "timestamp": "t", "source": source,
            "llm_message": {"role": "user", "content": [{"type": "text", "text": "hi"}]}}))
        };
        let input = HookInput::recorded(&said("user")).unwrap();
        assert_eq!(input.message.as_deref(), Some("hi"));
        assert_eq!(HookInput::recorded(&said("environment")), None);

        let hook = event(
            json!({"kind": "HookExecutionEvent", "id": "h", "timestamp": "t",
            "source": "hook", "hook_event_type": "Stop", "hook_command": "x",
            "hook_input": {"reason": "agent_finished"}}),
        );
        assert_eq!(
            HookInput::recorded(&hook).unwrap().reason(),
            Some("agent_finished")
        );
    }

    #[test]
    fn data_of_a_newer_server_is_kept() {
        let json = r#"{"event_type": "Stop", "urgency": 3}"#;
        let input: HookInput = serde_json::from_str(json).unwrap();
        assert_eq!(input.extra["urgency"], 3);
    }
}
