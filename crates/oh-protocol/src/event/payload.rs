//! The typed body of each kind of event.

use serde::Deserialize;
use serde_json::Value;

use super::message::{Content, Message};
use crate::open_enum::open_enum;

/// What an event says, by kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Payload {
    /// The agent's instructions and tools, before the first message.
    SystemPrompt(SystemPromptEvent),
    /// Text from the user, the agent, or the surroundings.
    Message(MessageEvent),
    /// A tool call of the agent.
    Action(ActionEvent),
    /// A tool's result.
    Observation(ObservationEvent),
    /// An action that the user or a hook refused.
    UserReject(UserRejectObservation),
    /// A tool call that was invalid or interrupted.
    AgentError(AgentErrorEvent),
    /// A run that failed, or a title that could not be made.
    ConversationError(ConversationErrorEvent),
    /// A change of the conversation's state.
    ConversationStateUpdate(ConversationStateUpdateEvent),
    /// A hook that was run.
    HookExecution(HookExecutionEvent),
    /// A pause was asked for.
    Pause,
    /// An interrupt was asked for.
    Interrupt,
    /// Part of the history was replaced by a summary.
    Condensation(CondensationEvent),
    /// The history is to be condensed.
    CondensationRequest,
    /// A piece of an answer (legacy socket only, never stored).
    StreamingDelta(StreamingDeltaEvent),
    /// The server refuses something that was sent over the socket.
    ServerError(ServerErrorEvent),
    /// A kind this version has no type for; the event keeps its bytes.
    Unknown,
    /// A known kind whose body does not read, and why; the event keeps its bytes.
    Malformed(String),
}

impl Payload {
    pub(super) fn read(kind: &str, raw: &[u8]) -> Self {
        fn body<'de, T: Deserialize<'de>>(raw: &'de [u8], wrap: fn(T) -> Payload) -> Payload {
            serde_json::from_slice(raw)
                .map_or_else(|error| Payload::Malformed(error.to_string()), wrap)
        }
        match kind {
            "SystemPromptEvent" => body(raw, Self::SystemPrompt),
            "MessageEvent" => body(raw, Self::Message),
            "ActionEvent" => body(raw, Self::Action),
            "ObservationEvent" => body(raw, Self::Observation),
            "UserRejectObservation" => body(raw, Self::UserReject),
            "AgentErrorEvent" => body(raw, Self::AgentError),
            "ConversationErrorEvent" => body(raw, Self::ConversationError),
            "ConversationStateUpdateEvent" => body(raw, Self::ConversationStateUpdate),
            "HookExecutionEvent" => body(raw, Self::HookExecution),
            "PauseEvent" => Self::Pause,
            "InterruptEvent" => Self::Interrupt,
            "Condensation" => body(raw, Self::Condensation),
            "CondensationRequest" => Self::CondensationRequest,
            "StreamingDeltaEvent" => body(raw, Self::StreamingDelta),
            "ServerErrorEvent" => body(raw, Self::ServerError),
            _ => Self::Unknown,
        }
    }
}

/// The agent's instructions.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct SystemPromptEvent {
    /// The prompt.
    pub system_prompt: Content,
    /// The tools offered, as JSON schemas.
    #[serde(default)]
    pub tools: Vec<Value>,
}

/// Text from the user, the agent, or the surroundings (then with role `user`, too).
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct MessageEvent {
    /// The message as the model sees it.
    pub llm_message: Message,
    /// Who sent it, where several can.
    #[serde(default)]
    pub sender: Option<String>,
    /// What hooks and skills added.
    #[serde(default)]
    pub extended_content: Vec<Content>,
}

/// A tool call of the agent.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ActionEvent {
    /// What the agent said along with it.
    #[serde(default)]
    pub thought: Vec<Content>,
    /// What the agent thought before it, where the model tells.
    #[serde(default)]
    pub reasoning_content: Option<String>,
    /// The action with its `kind`; absent when the call was invalid.
    #[serde(default)]
    pub action: Option<Value>,
    /// The tool's name.
    pub tool_name: String,
    /// Ties the call to its result.
    pub tool_call_id: String,
    /// Ties calls of one answer together.
    #[serde(default)]
    pub llm_response_id: Option<String>,
    /// How risky it was judged.
    #[serde(default = "SecurityRisk::unjudged")]
    pub security_risk: SecurityRisk,
    /// What it is for, in a few words.
    #[serde(default)]
    pub summary: Option<String>,
}

open_enum! {
    /// How risky an action was judged.
    SecurityRisk {
        /// Not judged.
        Unknown = "UNKNOWN",
        /// Reads only.
        Low = "LOW",
        /// Changes things in its own place.
        Medium = "MEDIUM",
        /// Changes things elsewhere.
        High = "HIGH",
    }
}

impl SecurityRisk {
    fn unjudged() -> Self {
        Self::Unknown
    }
}

/// A tool's result.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ObservationEvent {
    /// The result with its `kind`, `content` and `is_error`.
    pub observation: Value,
    /// The id of the action's event.
    pub action_id: String,
    /// The tool's name.
    pub tool_name: String,
    /// Ties the result to its call.
    pub tool_call_id: String,
}

impl ObservationEvent {
    /// The text of the result.
    pub fn text(&self) -> String {
        let parts = self.observation["content"].as_array().into_iter().flatten();
        parts
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Whether the tool reports a failure.
    pub fn is_error(&self) -> bool {
        self.observation["is_error"].as_bool().unwrap_or_default()
    }
}

/// An action that the user or a hook refused.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct UserRejectObservation {
    /// The id of the action's event.
    pub action_id: String,
    /// The tool's name.
    pub tool_name: String,
    /// Why.
    #[serde(default)]
    pub rejection_reason: String,
    /// `user` or `hook`.
    #[serde(default)]
    pub rejection_source: Option<String>,
}

/// A tool call that was invalid or interrupted.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct AgentErrorEvent {
    /// The tool's name.
    pub tool_name: String,
    /// Ties it to its call.
    pub tool_call_id: String,
    /// What went wrong.
    pub error: String,
}

/// A run that failed, or a title that could not be made (the run goes on then).
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ConversationErrorEvent {
    /// A word for it, such as `LLMAuthenticationError`.
    pub code: String,
    /// The explanation.
    #[serde(default)]
    pub detail: String,
    /// What kind of failure it is, and whether trying again can help.
    #[serde(default)]
    pub classification: Option<Value>,
}

/// A change of the conversation's state: one key, or all of it under the key `full_state`.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ConversationStateUpdateEvent {
    /// Which part.
    pub key: String,
    /// Its new value.
    #[serde(default)]
    pub value: Value,
}

impl ConversationStateUpdateEvent {
    /// Whether this is a snapshot of the whole state.
    pub fn is_full_state(&self) -> bool {
        self.key == "full_state"
    }
}

/// A hook that was run.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct HookExecutionEvent {
    /// `PreToolUse`, `PostToolUse`, `UserPromptSubmit`, `SessionStart`, `SessionEnd` or `Stop`.
    pub hook_event_type: String,
    /// What was run.
    pub hook_command: String,
    /// The tool it was about, if any.
    #[serde(default)]
    pub tool_name: Option<String>,
    /// Whether it ran as it should.
    #[serde(default)]
    pub success: bool,
    /// Whether it denied.
    #[serde(default)]
    pub blocked: bool,
    /// Its exit code; −1 after a timeout.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// What it wrote to stdout, at most 50,000 characters.
    #[serde(default)]
    pub stdout: String,
    /// What it wrote to stderr, at most 50,000 characters.
    #[serde(default)]
    pub stderr: String,
    /// Why it denied: what the agent is told.
    #[serde(default)]
    pub reason: Option<String>,
    /// What went wrong with the hook itself.
    #[serde(default)]
    pub error: Option<String>,
}

/// Part of the history was replaced by a summary.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct CondensationEvent {
    /// What the model no longer sees, in no order.
    #[serde(default)]
    pub forgotten_event_ids: Vec<String>,
    /// What it sees instead.
    #[serde(default)]
    pub summary: Option<String>,
}

/// A piece of an answer.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct StreamingDeltaEvent {
    /// Text.
    #[serde(default)]
    pub content: Option<String>,
    /// Reasoning.
    #[serde(default)]
    pub reasoning_content: Option<String>,
}

/// The server refuses something that was sent over the socket.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ServerErrorEvent {
    /// A word for it.
    pub code: String,
    /// The explanation.
    #[serde(default)]
    pub detail: String,
}
