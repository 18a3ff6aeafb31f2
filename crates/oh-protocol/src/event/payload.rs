//! The typed payload of each kind of event.

use bytestring::ByteString;

use super::{
    action::Action,
    message::{Content, Message, ReasoningItem, ThinkingBlock, ToolCall},
    observation::Observation,
    update::ConversationStateUpdateEvent,
};
use crate::{
    Json, Text,
    json::{
        declare::wire,
        open_enum::open_enum,
        scan::Flaw,
        untyped::Malformed,
        wire::{Ignored, Members, Wire, decode_rest, decode_with_flaws},
    },
};

/// Declares the payload enum and how each kind is decoded.
macro_rules! payloads {
    ($( $(#[$meta:meta])* $variant:ident($type:ty) = $kind:literal ),+ $(,)?) => {
        /// The typed content of an event, by kind.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Payload {
            $( $(#[$meta])* $variant(Box<$type>), )+
            /// A kind that this version does not support. The event keeps its bytes.
            Unknown,
            /// A known kind whose body could not be decoded, with the reason. The event keeps its
            /// bytes.
            Malformed(Box<Malformed>),
        }

        impl Payload {
            /// All kinds that have a type in this version.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// Decodes the body, starting after the header if the position is known. Also returns
            /// the optional fields that were skipped.
            pub(super) fn read(
                kind: &str,
                raw: &ByteString,
                body: Option<usize>,
            ) -> (Self, Vec<Malformed>) {
                fn decoded<T: Wire + Members>(
                    kind: &str,
                    raw: &ByteString,
                    body: Option<usize>,
                ) -> Result<(Box<T>, Vec<Malformed>), Flaw> {
                    match body {
                        Some(from) => decode_rest(kind, raw, from),
                        None => decode_with_flaws(kind, &Text::came(raw.clone()))
                            .map(|(body, flaws)| (Box::new(body), flaws)),
                    }
                }
                let read = match kind {
                    $( $kind => decoded(kind, raw, body)
                        .map(|(body, flaws)| (Self::$variant(body), flaws)), )+
                    // The body must still be valid JSON.
                    _ => decoded::<Ignored>(kind, raw, body)
                        .map(|(_, flaws)| (Self::Unknown, flaws)),
                };
                read.unwrap_or_else(|flaw| {
                    let malformed = Malformed {
                        kind: kind.into(),
                        reason: flaw.to_string().into(),
                        json: Json::new(Text::came(raw.clone())),
                    };
                    (Self::Malformed(Box::new(malformed)), Vec::new())
                })
            }
        }
    };
}

payloads! {
    /// The agent's instructions and tools, before the first message.
    SystemPrompt(SystemPromptEvent) = "SystemPromptEvent",
    /// A text from the user, the agent or the environment.
    Message(MessageEvent) = "MessageEvent",
    /// A tool call of the agent.
    Action(ActionEvent) = "ActionEvent",
    /// The result of a tool.
    Observation(ObservationEvent) = "ObservationEvent",
    /// An action that the user or a hook rejected.
    UserReject(UserRejectObservation) = "UserRejectObservation",
    /// A tool call that was invalid or interrupted.
    AgentError(AgentErrorEvent) = "AgentErrorEvent",
    /// A tool call of an ACP agent.
    AcpToolCall(AcpToolCallEvent) = "ACPToolCallEvent",
    /// A failed run, or a title that could not be generated.
    ConversationError(ConversationErrorEvent) = "ConversationErrorEvent",
    /// A change of the conversation's state.
    ConversationStateUpdate(ConversationStateUpdateEvent) = "ConversationStateUpdateEvent",
    /// The execution of a hook.
    HookExecution(HookExecutionEvent) = "HookExecutionEvent",
    /// A request to pause.
    Pause(PauseEvent) = "PauseEvent",
    /// A request to interrupt.
    Interrupt(InterruptEvent) = "InterruptEvent",
    /// The replacement of a part of the history by a summary.
    Condensation(CondensationEvent) = "Condensation",
    /// A request to condense the history.
    CondensationRequest(CondensationRequestEvent) = "CondensationRequest",
    /// The summary as the model receives it.
    CondensationSummary(CondensationSummaryEvent) = "CondensationSummaryEvent",
    /// The risks that a security analyzer assigned to actions.
    SecurityAnalysis(SecurityAnalysisEvent) = "SecurityAnalysisEvent",
    /// A log of the messages that were sent to the model, and of its response.
    LlmCompletionLog(LlmCompletionLogEvent) = "LLMCompletionLogEvent",
    /// The token ids of a response.
    Token(TokenEvent) = "TokenEvent",
    /// A part of a streamed response (legacy socket only, never stored).
    StreamingDelta(StreamingDeltaEvent) = "StreamingDeltaEvent",
    /// The server's rejection of data that the client sent over the socket.
    ServerError(ServerErrorEvent) = "ServerErrorEvent",
}

impl Payload {
    /// Returns the part that could not be decoded: the body, or the action, observation or state
    /// change in it.
    pub fn malformed(&self) -> Option<&Malformed> {
        match self {
            Self::Malformed(malformed) => Some(malformed),
            Self::Action(body) => body.action.as_ref().and_then(Action::malformed),
            Self::Observation(body) => body.observation.malformed(),
            Self::ConversationStateUpdate(body) => body.change.malformed(),
            _ => None,
        }
    }
}

open_enum! {
    /// The risk of an action, as rated by a security analyzer.
    ///
    /// Risks are ordered: `Low < Medium < High < Unknown < Other(_)`. An unrated risk or a value
    /// that this version does not support counts as the highest, so that `risk <=
    /// SecurityRisk::Medium` never allows such an action. The server itself does not order
    /// `UNKNOWN`.
    #[derive(Default)]
    SecurityRisk {
        /// Not rated.
        #[default]
        Unknown = "UNKNOWN",
        /// Read-only.
        Low = "LOW",
        /// Changes inside the sandbox.
        Medium = "MEDIUM",
        /// Changes outside the sandbox.
        High = "HIGH",
    }
}

open_enum! {
    /// The kind of a failure.
    #[derive(Default)]
    FailureKind {
        /// The provider rejected the API key.
        Auth = "auth",
        /// The provider reports that the account's quota is exhausted.
        Quota = "quota",
        /// Too many requests at once.
        RateLimit = "rate_limit",
        /// The configuration is invalid.
        Config = "config",
        /// A temporary failure.
        Transient = "transient",
        /// A mistake of the agent that the agent can correct itself.
        AgentAction = "agent_action",
        /// An internal failure of the server.
        Internal = "internal",
        /// An unknown failure.
        #[default]
        Unknown = "unknown",
    }
}

wire! {
    /// The agent's instructions.
    SystemPromptEvent {
        /// The system prompt.
        system_prompt: Content,
        /// The tools that the agent can use.
        tools: Vec<ToolDefinition> = default,
        /// The part of the prompt that differs between conversations.
        dynamic_context: Option<Content> = default,
    }

    /// A tool as it is described to the model.
    ToolDefinition {
        /// The name of the tool's class on the server.
        kind: Text = default,
        /// The name of the tool.
        title: Option<Text> = default,
        /// The description for the model.
        description: Text = default,
        /// The kind of the tool's actions.
        action_type: Option<Text> = default,
        /// The kind of the tool's observations.
        observation_type: Option<Text> = default,
        /// Hints about the tool's effects, such as read-only or destructive.
        annotations: Option<Json> = default,
        /// The JSON schema of the arguments, if this is a client tool.
        input_schema: Option<Json> = default,
        /// The definition from the MCP server, if this is an MCP tool.
        mcp_tool: Option<Json> = default,
        /// Additional data.
        meta: Option<Json> = default,
    }

    /// A text from the user, the agent or the environment. Messages of the environment also have
    /// the role `user`.
    MessageEvent {
        /// The message as the model receives it.
        llm_message: Message,
        /// The id of the model's response, if the message is part of one.
        llm_response_id: Option<Text> = default,
        /// The skills that the message activated.
        activated_skills: Vec<Text> = default,
        /// The content that hooks and skills added.
        extended_content: Vec<Content> = default,
        /// The sender, if there can be several.
        sender: Option<Text> = default,
        /// The critic's evaluation.
        critic_result: Option<CriticResult> = default,
    }

    /// A tool call of the agent.
    ActionEvent {
        /// The text that the agent wrote with the call.
        thought: Vec<Content> = default,
        /// The model's reasoning before the call, if available.
        reasoning_content: Option<Text> = default,
        /// Thinking blocks of Anthropic models.
        thinking_blocks: Vec<ThinkingBlock> = default,
        /// Reasoning from OpenAI's Responses API.
        responses_reasoning_item: Option<ReasoningItem> = default,
        /// The input of the tool. `None` if the call was invalid.
        action: Option<Action> = default,
        /// The name of the tool.
        tool_name: Text,
        /// The id that links the call to its result.
        tool_call_id: Text,
        /// The call in the model's format.
        tool_call: Option<ToolCall> = default,
        /// The id of the model's response, which is shared by all calls in it.
        llm_response_id: Option<Text> = default,
        /// The rated risk.
        security_risk: SecurityRisk = default,
        /// The critic's evaluation.
        critic_result: Option<CriticResult> = default,
        /// A short summary of the action's purpose.
        summary: Option<Text> = default,
    }

    /// A critic's evaluation.
    CriticResult {
        /// The score, from 0 (bad) to 1 (good).
        score: f64,
        /// The explanation.
        message: Option<Text> = default,
        /// Additional data.
        metadata: Option<Json> = default,
    }

    /// The result of a tool.
    ObservationEvent {
        /// The output of the tool.
        observation: Observation,
        /// The id of the action event.
        action_id: Text,
        /// The name of the tool.
        tool_name: Text,
        /// The id that links the result to its call.
        tool_call_id: Text,
        /// The content that hooks added.
        extended_content: Vec<Content> = default,
    }

    /// An action that the user or a hook rejected.
    UserRejectObservation {
        /// The id of the action event.
        action_id: Text,
        /// The name of the tool.
        tool_name: Text,
        /// The id of the tool call.
        tool_call_id: Text = default,
        /// The reason for the rejection.
        rejection_reason: Text = default,
        /// The origin of the rejection: `user` or `hook`.
        rejection_source: Option<Text> = default,
    }

    /// A tool call that was invalid or interrupted.
    AgentErrorEvent {
        /// The name of the tool.
        tool_name: Text,
        /// The id of the tool call.
        tool_call_id: Text,
        /// The error message.
        error: Text,
        /// The kind of failure.
        classification: Option<ErrorClassification> = default,
    }

    /// The kind of a failure, and whether a retry can help.
    ErrorClassification {
        /// The kind of failure.
        kind: FailureKind,
        /// Whether a retry can help.
        retryable: bool = default,
        /// The action that the user can take: `none`, `retry` or `settings`.
        user_action: Option<Text> = default,
        /// The id of the failure in the server's log.
        error_id: Option<Text> = default,
    }

    /// A tool call of an ACP agent. The server sends it again with each update.
    AcpToolCallEvent {
        /// The id of the tool call, which is the same for all updates.
        tool_call_id: Text,
        /// A short description of the call.
        title: Text,
        /// `pending`, `in_progress`, `completed` or `failed`.
        status: Option<Text> = default,
        /// The kind of tool: `read`, `edit`, `execute`, …
        tool_kind: Option<Text> = default,
        /// The input of the tool.
        raw_input: Option<Json> = default,
        /// The output of the tool.
        raw_output: Option<Json> = default,
        /// The content to display to the user.
        content: Option<Vec<Json>> = default,
        /// Whether the call failed.
        is_error: bool = default,
    }

    /// A failed run, or a title that could not be generated (in that case the run continues).
    ConversationErrorEvent {
        /// The error code, such as `LLMAuthenticationError`.
        code: Text,
        /// The explanation.
        detail: Text = default,
        /// The kind of failure.
        classification: Option<ErrorClassification> = default,
    }

    /// The execution of a hook.
    HookExecutionEvent {
        /// The hook's event type: `PreToolUse`, `PostToolUse`, `UserPromptSubmit`, `SessionStart`,
        /// `SessionEnd` or `Stop`.
        hook_event_type: Text,
        /// The command of the hook.
        hook_command: Text,
        /// The name of the tool, for tool events.
        tool_name: Option<Text> = default,
        /// Whether the hook ran without failure.
        success: bool = default,
        /// Whether the hook denied the event.
        blocked: bool = default,
        /// The exit code; −1 after a timeout.
        exit_code: Option<i32> = default,
        /// The hook's stdout, at most 50,000 characters.
        stdout: Text = default,
        /// The hook's stderr, at most 50,000 characters.
        stderr: Text = default,
        /// The reason for the denial, which is sent to the agent.
        reason: Option<Text> = default,
        /// The context that the hook adds for the agent.
        additional_context: Option<Text> = default,
        /// The error, if the hook itself failed.
        error: Option<Text> = default,
        /// The id of the action event that the hook ran for.
        action_id: Option<Text> = default,
        /// The id of the message event that the hook ran for. If the hook added context, no event
        /// has this id, because the server then gives the message a new id.
        message_id: Option<Text> = default,
        /// The hook's stdin.
        hook_input: Option<Json> = default,
    }

    /// A request to pause.
    PauseEvent {}

    /// A request to interrupt.
    InterruptEvent {}

    /// The replacement of a part of the history by a summary.
    CondensationEvent {
        /// The ids of the events that the model no longer receives, in no particular order.
        forgotten_event_ids: Vec<Text> = default,
        /// The summary that replaces these events.
        summary: Option<Text> = default,
        /// The position of the summary in the history.
        summary_offset: Option<u64> = default,
        /// The id of the model's response that contained the summary.
        llm_response_id: Option<Text> = default,
    }

    /// A request to condense the history.
    CondensationRequestEvent {}

    /// The summary as the model receives it.
    CondensationSummaryEvent {
        /// The summary.
        summary: Text,
    }

    /// The risks that a security analyzer assigned to actions.
    SecurityAnalysisEvent {
        /// The analyzer.
        analyzer: Text,
        /// The confirmation policy.
        policy: Text,
        /// The risk of each action, by the id of the action event.
        risks: std::collections::BTreeMap<Text, SecurityRisk> = default,
        /// Additional data, by the id of the action event.
        details: Option<Json> = default,
    }

    /// A log of the messages that were sent to the model, and of its response.
    LlmCompletionLogEvent {
        /// The file name that the server uses for the log.
        filename: Text,
        /// The content of the log, as JSON.
        log_data: Text,
        /// The name of the model.
        model_name: Option<Text> = default,
        /// The name under which the cost is counted.
        usage_id: Option<Text> = default,
    }

    /// The token ids of a response.
    TokenEvent {
        /// The token ids of the prompt.
        prompt_token_ids: Vec<u64> = default,
        /// The token ids of the response.
        response_token_ids: Vec<u64> = default,
    }

    /// A part of a streamed response.
    StreamingDeltaEvent {
        /// The text.
        content: Option<Text> = default,
        /// The reasoning.
        reasoning_content: Option<Text> = default,
    }

    /// The server's rejection of data that the client sent over the socket.
    ServerErrorEvent {
        /// The error code.
        code: Text,
        /// The explanation.
        detail: Text = default,
    }
}

impl ObservationEvent {
    /// Returns the text of the result.
    pub fn text(&self) -> String {
        self.observation.text()
    }

    /// Returns whether the tool reports a failure.
    pub fn is_error(&self) -> bool {
        self.observation.is_error()
    }
}
