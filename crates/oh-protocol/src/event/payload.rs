//! The typed body of each kind of event.

use bytestring::ByteString;

use super::{
    action::Action,
    message::{Content, Message, ReasoningItem, ThinkingBlock, ToolCall},
    observation::Observation,
    untyped::Malformed,
    update::ConversationStateUpdateEvent,
};
use crate::{
    Json, Text,
    open_enum::open_enum,
    scan::Flaw,
    wire::{Ignored, Members, Wire, decode_rest, decode_with_flaws, wire},
};

/// Declares the payload and how each kind is read.
macro_rules! payloads {
    ($( $(#[$meta:meta])* $variant:ident($type:ty) = $kind:literal ),+ $(,)?) => {
        /// What an event says, by kind.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Payload {
            $( $(#[$meta])* $variant(Box<$type>), )+
            /// A kind this version has no type for; the event keeps its bytes.
            Unknown,
            /// A known kind whose body does not read, and why; the event keeps its bytes.
            Malformed(Box<Malformed>),
        }

        impl Payload {
            /// Every kind that has a type of its own here.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// Reads the body, from after the header on where that is known; and which optional
            /// fields were left out.
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
                        None => decode_with_flaws(kind, &raw.clone().into())
                            .map(|(body, flaws)| (Box::new(body), flaws)),
                    }
                }
                let read = match kind {
                    $( $kind => decoded(kind, raw, body)
                        .map(|(body, flaws)| (Self::$variant(body), flaws)), )+
                    // It must be JSON all the same.
                    _ => decoded::<Ignored>(kind, raw, body).map(|(_, flaws)| (Self::Unknown, flaws)),
                };
                read.unwrap_or_else(|flaw| {
                    let malformed = Malformed {
                        kind: kind.into(),
                        reason: flaw.to_string().into(),
                        json: raw.clone().into(),
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
    /// Text from the user, the agent, or the surroundings.
    Message(MessageEvent) = "MessageEvent",
    /// A tool call of the agent.
    Action(ActionEvent) = "ActionEvent",
    /// A tool's result.
    Observation(ObservationEvent) = "ObservationEvent",
    /// An action that the user or a hook refused.
    UserReject(UserRejectObservation) = "UserRejectObservation",
    /// A tool call that was invalid or interrupted.
    AgentError(AgentErrorEvent) = "AgentErrorEvent",
    /// A tool call of an agent that speaks ACP.
    AcpToolCall(AcpToolCallEvent) = "ACPToolCallEvent",
    /// A run that failed, or a title that could not be made.
    ConversationError(ConversationErrorEvent) = "ConversationErrorEvent",
    /// A change of the conversation's state.
    ConversationStateUpdate(ConversationStateUpdateEvent) = "ConversationStateUpdateEvent",
    /// A hook that was run.
    HookExecution(HookExecutionEvent) = "HookExecutionEvent",
    /// A pause was asked for.
    Pause(PauseEvent) = "PauseEvent",
    /// An interrupt was asked for.
    Interrupt(InterruptEvent) = "InterruptEvent",
    /// Part of the history was replaced by a summary.
    Condensation(CondensationEvent) = "Condensation",
    /// The history is to be condensed.
    CondensationRequest(CondensationRequestEvent) = "CondensationRequest",
    /// The summary as the model sees it.
    CondensationSummary(CondensationSummaryEvent) = "CondensationSummaryEvent",
    /// What security analyzers made of actions.
    SecurityAnalysis(SecurityAnalysisEvent) = "SecurityAnalysisEvent",
    /// A log of what was said to the model and what it answered.
    LlmCompletionLog(LlmCompletionLogEvent) = "LLMCompletionLogEvent",
    /// The tokens of an answer, by number.
    Token(TokenEvent) = "TokenEvent",
    /// A piece of an answer (legacy socket only, never stored).
    StreamingDelta(StreamingDeltaEvent) = "StreamingDeltaEvent",
    /// The server refuses something that was sent over the socket.
    ServerError(ServerErrorEvent) = "ServerErrorEvent",
}

impl Payload {
    /// What does not read: the body, or the action, observation or change of the state in it.
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
    /// The risk of an action, as a security analyzer judged it.
    ///
    /// Risks are ordered: `Low < Medium < High < Unknown < Other(_)`. A risk that nobody has
    /// judged, or that this version does not know, counts as the highest, so that
    /// `risk <= SecurityRisk::Medium` never lets such an action through. The server itself does
    /// not order `UNKNOWN`.
    #[derive(Default)]
    SecurityRisk {
        /// Not judged.
        #[default]
        Unknown = "UNKNOWN",
        /// Reads only.
        Low = "LOW",
        /// Changes things in its own place.
        Medium = "MEDIUM",
        /// Changes things elsewhere.
        High = "HIGH",
    }
}

open_enum! {
    /// What kind of failure it was.
    FailureKind {
        /// The provider refuses the key.
        Auth = "auth",
        /// The account has nothing left.
        Quota = "quota",
        /// Too much at once.
        RateLimit = "rate_limit",
        /// The configuration does not fit.
        Config = "config",
        /// It may pass.
        Transient = "transient",
        /// The agent did something wrong and can do better.
        AgentAction = "agent_action",
        /// The server's own.
        Internal = "internal",
        /// Not known.
        Unknown = "unknown",
    }
}

wire! {
    /// The agent's instructions.
    SystemPromptEvent {
        /// The prompt.
        system_prompt: Content,
        /// The tools offered.
        tools: Vec<ToolDefinition> = default,
        /// What changes from conversation to conversation.
        dynamic_context: Option<Content> = default,
    }

    /// A tool as it is offered to the model.
    ToolDefinition {
        /// The server's class.
        kind: Text = default,
        /// Its name.
        title: Option<Text> = default,
        /// What the model is told of it.
        description: Text = default,
        /// The kind of its actions.
        action_type: Option<Text> = default,
        /// The kind of its observations.
        observation_type: Option<Text> = default,
        /// Hints: read-only, destructive, and so on.
        annotations: Option<Json> = default,
        /// The JSON schema of its arguments, where it is a client's.
        input_schema: Option<Json> = default,
        /// What the MCP server says of it, where it is one's.
        mcp_tool: Option<Json> = default,
        /// Anything else.
        meta: Option<Json> = default,
    }

    /// Text from the user, the agent, or the surroundings (then with role `user`, too).
    MessageEvent {
        /// The message as the model sees it.
        llm_message: Message,
        /// Ties it to an answer of the model, where it is one.
        llm_response_id: Option<Text> = default,
        /// The skills it woke.
        activated_skills: Vec<Text> = default,
        /// What hooks and skills added.
        extended_content: Vec<Content> = default,
        /// Who sent it, where several can.
        sender: Option<Text> = default,
        /// What a critic made of it.
        critic_result: Option<CriticResult> = default,
    }

    /// A tool call of the agent.
    ActionEvent {
        /// What the agent said along with it.
        thought: Vec<Content> = default,
        /// What the agent thought before it, where the model tells.
        reasoning_content: Option<Text> = default,
        /// Thinking as Anthropic's models give it.
        thinking_blocks: Vec<ThinkingBlock> = default,
        /// Reasoning as OpenAI's responses give it.
        responses_reasoning_item: Option<ReasoningItem> = default,
        /// What the tool is to do; absent when the call was invalid.
        action: Option<Action> = default,
        /// The tool's name.
        tool_name: Text,
        /// Ties the call to its result.
        tool_call_id: Text,
        /// The call as the model wrote it.
        tool_call: Option<ToolCall> = default,
        /// Ties calls of one answer together.
        llm_response_id: Option<Text> = default,
        /// How risky it was judged.
        security_risk: SecurityRisk = default,
        /// What a critic made of it.
        critic_result: Option<CriticResult> = default,
        /// What it is for, in a few words.
        summary: Option<Text> = default,
    }

    /// What a critic made of something.
    CriticResult {
        /// From 0 to 1: how good.
        score: f64,
        /// Why.
        message: Option<Text> = default,
        /// More.
        metadata: Option<Json> = default,
    }

    /// A tool's result.
    ObservationEvent {
        /// What the tool answers.
        observation: Observation,
        /// The id of the action's event.
        action_id: Text,
        /// The tool's name.
        tool_name: Text,
        /// Ties the result to its call.
        tool_call_id: Text,
        /// What hooks added.
        extended_content: Vec<Content> = default,
    }

    /// An action that the user or a hook refused.
    UserRejectObservation {
        /// The id of the action's event.
        action_id: Text,
        /// The tool's name.
        tool_name: Text,
        /// Ties it to its call.
        tool_call_id: Text = default,
        /// Why.
        rejection_reason: Text = default,
        /// `user` or `hook`.
        rejection_source: Option<Text> = default,
    }

    /// A tool call that was invalid or interrupted.
    AgentErrorEvent {
        /// The tool's name.
        tool_name: Text,
        /// Ties it to its call.
        tool_call_id: Text,
        /// What went wrong.
        error: Text,
        /// What kind of failure it is.
        classification: Option<ErrorClassification> = default,
    }

    /// What kind of failure something is, and whether trying again can help.
    ErrorClassification {
        /// What kind.
        kind: FailureKind,
        /// Whether trying again can help.
        retryable: bool = default,
        /// `none`, `retry` or `settings`: what the user can do.
        user_action: Option<Text> = default,
        /// Names the failure in the server's log.
        error_id: Option<Text> = default,
    }

    /// A tool call of an agent that speaks ACP. It is sent again as it goes on.
    AcpToolCallEvent {
        /// Ties what is sent of one call together.
        tool_call_id: Text,
        /// It in a few words.
        title: Text,
        /// `pending`, `in_progress`, `completed` or `failed`.
        status: Option<Text> = default,
        /// What kind of tool: `read`, `edit`, `execute`, …
        tool_kind: Option<Text> = default,
        /// What the tool got.
        raw_input: Option<Json> = default,
        /// What the tool gave.
        raw_output: Option<Json> = default,
        /// What the user may see of it.
        content: Option<Vec<Json>> = default,
        /// Whether it failed.
        is_error: bool = default,
    }

    /// A run that failed, or a title that could not be made (the run goes on then).
    ConversationErrorEvent {
        /// A word for it, such as `LLMAuthenticationError`.
        code: Text,
        /// The explanation.
        detail: Text = default,
        /// What kind of failure it is.
        classification: Option<ErrorClassification> = default,
    }

    /// A hook that was run.
    HookExecutionEvent {
        /// `PreToolUse`, `PostToolUse`, `UserPromptSubmit`, `SessionStart`, `SessionEnd` or `Stop`.
        hook_event_type: Text,
        /// What was run.
        hook_command: Text,
        /// The tool it was about, if any.
        tool_name: Option<Text> = default,
        /// Whether it ran as it should.
        success: bool = default,
        /// Whether it denied.
        blocked: bool = default,
        /// Its exit code; −1 after a timeout.
        exit_code: Option<i32> = default,
        /// What it wrote to stdout, at most 50,000 characters.
        stdout: Text = default,
        /// What it wrote to stderr, at most 50,000 characters.
        stderr: Text = default,
        /// Why it denied: what the agent is told.
        reason: Option<Text> = default,
        /// What it adds to what the agent is told.
        additional_context: Option<Text> = default,
        /// What went wrong with the hook itself.
        error: Option<Text> = default,
        /// The id of the action's event it was about.
        action_id: Option<Text> = default,
        /// The id of the message's event it was about. It dangles where the hook gave context: the
        /// server then gives the message a new id.
        message_id: Option<Text> = default,
        /// What the hook got on stdin.
        hook_input: Option<Json> = default,
    }

    /// A pause was asked for.
    PauseEvent {}

    /// An interrupt was asked for.
    InterruptEvent {}

    /// Part of the history was replaced by a summary.
    CondensationEvent {
        /// What the model no longer sees, in no order.
        forgotten_event_ids: Vec<Text> = default,
        /// What it sees instead.
        summary: Option<Text> = default,
        /// Where in the history the summary stands.
        summary_offset: Option<u64> = default,
        /// Ties it to the answer of the model that wrote the summary.
        llm_response_id: Option<Text> = default,
    }

    /// The history is to be condensed.
    CondensationRequestEvent {}

    /// The summary as the model sees it.
    CondensationSummaryEvent {
        /// It.
        summary: Text,
    }

    /// What security analyzers made of actions.
    SecurityAnalysisEvent {
        /// Which analyzer.
        analyzer: Text,
        /// Under which policy.
        policy: Text,
        /// The risk of each action, by the id of its event.
        risks: std::collections::BTreeMap<Text, SecurityRisk> = default,
        /// More, by the id of the action's event.
        details: Option<Json> = default,
    }

    /// A log of what was said to the model and what it answered.
    LlmCompletionLogEvent {
        /// What the server would call the file.
        filename: Text,
        /// What is in it, JSON.
        log_data: Text,
        /// The model.
        model_name: Option<Text> = default,
        /// Under which name its cost is counted.
        usage_id: Option<Text> = default,
    }

    /// The tokens of an answer, by number.
    TokenEvent {
        /// Of the prompt.
        prompt_token_ids: Vec<u64> = default,
        /// Of the answer.
        response_token_ids: Vec<u64> = default,
    }

    /// A piece of an answer.
    StreamingDeltaEvent {
        /// Text.
        content: Option<Text> = default,
        /// Reasoning.
        reasoning_content: Option<Text> = default,
    }

    /// The server refuses something that was sent over the socket.
    ServerErrorEvent {
        /// A word for it.
        code: Text,
        /// The explanation.
        detail: Text = default,
    }
}

impl ObservationEvent {
    /// The text of the result.
    pub fn text(&self) -> String {
        self.observation.text()
    }

    /// Whether the tool reports a failure.
    pub fn is_error(&self) -> bool {
        self.observation.is_error()
    }
}
