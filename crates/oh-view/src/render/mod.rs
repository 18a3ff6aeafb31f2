//! Turns each kind of event into blocks.

mod action;
mod observation;
mod state;
mod texts;
mod values;

use oh_protocol::{
    Event, Payload, Source,
    event::{
        AcpToolCallEvent, AgentErrorEvent, Content, ErrorClassification, HookExecutionEvent,
        MessageEvent, Role, SystemPromptEvent, UserRejectObservation, text_of,
    },
};

use crate::{Block, Part, Tone};
use texts::{added, thought};

/// Returns the blocks of an event. Its texts are not cleaned yet.
pub(crate) fn blocks(event: &Event) -> Vec<Block> {
    match event.payload() {
        Payload::SystemPrompt(body) => vec![system_prompt(body)],
        Payload::Message(body) => vec![message(event.source(), body)],
        Payload::Action(body) => vec![action::block(body)],
        Payload::Observation(body) => vec![observation::block(body)],
        Payload::UserReject(body) => vec![rejection(body)],
        Payload::AgentError(body) => vec![agent_error(body)],
        Payload::AcpToolCall(body) => vec![acp(body)],
        Payload::ConversationError(body) => vec![failure(
            &format!("error {}", body.code),
            &body.detail,
            body.classification.as_ref(),
        )],
        Payload::ConversationStateUpdate(body) => state::block(body).into_iter().collect(),
        Payload::HookExecution(body) => vec![hook(body)],
        Payload::Pause(_) => vec![Block::new(Tone::Warning, "pause requested")],
        Payload::Interrupt(_) => vec![Block::new(Tone::Warning, "interrupt requested")],
        Payload::Condensation(body) => {
            let events = body.forgotten_event_ids.len();
            let plural = if events == 1 { "" } else { "s" };
            let note = format!("a summary replaces {events} event{plural}");
            let summary = body.summary.as_deref().unwrap_or_default();
            vec![
                Block::new(Tone::Quiet, "condensation")
                    .note(note)
                    .part(Part::Markdown(summary.to_owned())),
            ]
        }
        Payload::CondensationRequest(_) => {
            vec![Block::new(Tone::Quiet, "condensation requested")]
        }
        Payload::CondensationSummary(body) => vec![
            Block::new(Tone::Quiet, "condensation summary")
                .part(Part::Markdown(body.summary.to_string()))
                .only_full(true),
        ],
        Payload::SecurityAnalysis(body) => {
            let risks = body.risks.iter();
            let risks = risks.map(|(id, risk)| (id.to_string(), risk.to_string()));
            vec![
                Block::new(Tone::Quiet, "security analysis")
                    .note(format!("{}, {}", body.analyzer, body.policy))
                    .part(Part::Fields(risks.collect()))
                    .only_full(true),
            ]
        }
        Payload::LlmCompletionLog(body) => vec![
            Block::new(Tone::Quiet, "model log")
                .note(body.model_name.as_deref().unwrap_or_default())
                .part(values::json_text(&body.log_data))
                .only_full(true),
        ],
        Payload::Token(body) => {
            let (prompt, response) = (&body.prompt_token_ids, &body.response_token_ids);
            let note = format!("{} in, {} out", prompt.len(), response.len());
            let block = Block::new(Tone::Quiet, "token ids").note(note);
            vec![block.only_full(true)]
        }
        Payload::StreamingDelta(body) => vec![
            Block::new(Tone::Quiet, "streamed text")
                .part(Part::Thought(
                    body.reasoning_content
                        .as_deref()
                        .unwrap_or_default()
                        .to_owned(),
                ))
                .part(Part::text(body.content.as_deref().unwrap_or_default()))
                .only_full(true),
        ],
        Payload::ServerError(body) => {
            vec![failure(
                &format!("server error {}", body.code),
                &body.detail,
                None,
            )]
        }
        Payload::Malformed(body) => vec![
            Block::new(Tone::Error, event.kind())
                .note("could not be decoded")
                .part(Part::Error(body.to_string()))
                .part(values::json_text(event.as_json())),
        ],
        _ => vec![
            Block::new(Tone::Quiet, event.kind())
                .note("unknown kind")
                .part(values::json_text(event.as_json())),
        ],
    }
}

fn message(source: &Source, body: &MessageEvent) -> Block {
    let message = &body.llm_message;
    let (tone, title) = match (source, &message.role) {
        (Source::User, _) => (Tone::User, "user"),
        (Source::Agent, _) => (Tone::Agent, "agent"),
        (source, Role::User) => (Tone::Quiet, source.as_str()),
        (source, _) => (Tone::Agent, source.as_str()),
    };
    let mut notes = Vec::new();
    if let Some(sender) = &body.sender {
        notes.push(format!("from {sender}"));
    }
    if !body.activated_skills.is_empty() {
        let skills: Vec<&str> = body.activated_skills.iter().map(|skill| &**skill).collect();
        notes.push(format!("skills: {}", skills.join(", ")));
    }
    if let Some(critic) = &body.critic_result {
        notes.push(format!("critic: {:.2}", critic.score));
    }
    Block::new(tone, title)
        .note(notes.join(", "))
        .part(thought(
            message.reasoning_content.as_deref(),
            &message.thinking_blocks,
            message.responses_reasoning_item.as_ref(),
        ))
        .parts(content(&message.content))
        .parts(added(&body.extended_content))
}

/// Returns the text and the number of images of a message.
fn content(parts: &[Content]) -> Vec<Part> {
    let images: usize = parts.iter().map(|part| part.image_urls.len()).sum();
    let images = match images {
        0 => String::new(),
        1 => "[1 image]".to_owned(),
        many => format!("[{many} images]"),
    };
    vec![Part::Markdown(text_of(parts)), Part::Text(images)]
}

fn system_prompt(body: &SystemPromptEvent) -> Block {
    let tools: Vec<&str> = body
        .tools
        .iter()
        .map(|tool| tool.title.as_deref().unwrap_or(&tool.kind))
        .collect();
    let context = body
        .dynamic_context
        .iter()
        .filter_map(|part| part.text.as_deref());
    Block::new(Tone::Quiet, "system prompt")
        .note(format!("{} tools", tools.len()))
        .part(Part::Fields(match tools.is_empty() {
            true => Vec::new(),
            false => vec![("tools".to_owned(), tools.join(", "))],
        }))
        .part(Part::Markdown(
            body.system_prompt
                .text
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        ))
        .parts(context.map(|text| Part::Markdown(text.to_owned())))
        .only_full(true)
}

fn rejection(body: &UserRejectObservation) -> Block {
    let by = body.rejection_source.as_deref().unwrap_or("user");
    Block::new(Tone::Warning, format!("{} rejected", body.tool_name))
        .note(format!("by {by}"))
        .part(Part::text(&*body.rejection_reason))
}

fn agent_error(body: &AgentErrorEvent) -> Block {
    failure(
        &format!("{} failed", body.tool_name),
        &body.error,
        body.classification.as_ref(),
    )
}

/// Returns an error with all that is known about it.
fn failure(title: &str, detail: &str, classification: Option<&ErrorClassification>) -> Block {
    let note = classification.map_or_else(String::new, |class| {
        let mut notes = vec![class.kind.to_string()];
        if class.retryable {
            notes.push("a retry can help".to_owned());
        }
        match class.user_action.as_deref() {
            None | Some("none") => {}
            Some(action) => notes.push(format!("action: {action}")),
        }
        notes.extend(class.error_id.as_ref().map(|id| format!("id {id}")));
        notes.join(", ")
    });
    Block::new(Tone::Error, title)
        .note(note)
        .part(Part::Error(detail.to_owned()))
}

fn acp(body: &AcpToolCallEvent) -> Block {
    let tone = match (body.is_error, body.status.as_deref()) {
        (true, _) | (_, Some("failed")) => Tone::Error,
        (_, Some("completed")) => Tone::Result,
        _ => Tone::Action,
    };
    let notes = [body.tool_kind.as_deref(), body.status.as_deref()];
    let notes: Vec<&str> = notes.into_iter().flatten().collect();
    let mut block = Block::new(tone, &*body.title).note(notes.join(", "));
    for (name, json) in [("input", &body.raw_input), ("output", &body.raw_output)] {
        if let Some(json) = json {
            let text = values::compact(json.as_str());
            block = block.part(Part::Fields(vec![(name.to_owned(), text)]));
        }
    }
    let content = body.content.iter().flatten();
    block.parts(content.map(|json| values::json_text(json.as_str())))
}

fn hook(body: &HookExecutionEvent) -> Block {
    let (tone, verdict) = match (body.blocked, body.success) {
        (true, _) => (Tone::Warning, "denied"),
        (false, true) => (Tone::Quiet, "allowed"),
        (false, false) => (Tone::Warning, "failed"),
    };
    let mut notes = vec![verdict.to_owned()];
    notes.extend(body.tool_name.as_ref().map(ToString::to_string));
    notes.extend(body.exit_code.map(|code| format!("exit {code}")));
    let named = |name: &str, text: &str| {
        (!text.trim().is_empty()).then(|| (name.to_owned(), text.trim_end().to_owned()))
    };
    let fields = [
        named("reason", body.reason.as_deref().unwrap_or_default()),
        named(
            "context",
            body.additional_context.as_deref().unwrap_or_default(),
        ),
        named("stdout", &body.stdout),
        named("stderr", &body.stderr),
    ];
    Block::new(tone, format!("hook {}", body.hook_event_type))
        .note(notes.join(", "))
        .part(Part::code("sh", &*body.hook_command))
        .part(Part::Fields(fields.into_iter().flatten().collect()))
        .part(Part::Error(
            body.error.as_deref().unwrap_or_default().to_owned(),
        ))
        .only_full(tone == Tone::Quiet && body.additional_context.is_none())
}
