//! Functions that log the entries of a run, and the execution of hooks.

use serde_json::{Value, json};

use crate::fake::state::{
    conversation::Conversation,
    message::{content, message_fields},
    tools::{HookCall, Verdict, snake},
    world::World,
};
use crate::model::Step;

/// The subject of a hook event.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    /// The action's id and the tool.
    Tool(&'a str, &'a str),
    /// The message's id and its text.
    Message(&'a str, &'a str),
    Nothing,
}

/// Returns whether a matcher matches a tool: everything, one name, or a pattern for the whole name.
fn fits(matcher: &str, tool: Option<&str>) -> bool {
    if matches!(matcher, "*" | "") {
        return true;
    }
    let Some(tool) = tool else {
        return false;
    };
    let inner = matcher
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'));
    let pattern = match inner.filter(|inner| !inner.is_empty()) {
        Some(inner) => inner,
        None if matcher.contains(|c| "|.*+?[]()^$\\{}".contains(c)) => matcher,
        None => return matcher == tool,
    };
    match regex::Regex::new(&format!("^(?:{pattern})$")) {
        Ok(pattern) => pattern.is_match(tool),
        Err(_) => inner.is_none() && matcher == tool,
    }
}

/// Runs the hooks for an event. For events that hooks can block, stops after the first hook that
/// denies.
pub(crate) fn hooks(
    world: &World,
    conversation: &Conversation,
    event: &str,
    about: About<'_>,
) -> Vec<Verdict> {
    let tool = match about {
        About::Tool(_, tool) => Some(tool),
        About::Message(..) | About::Nothing => None,
    };
    let configured = conversation.lock().hooks[snake(event)].clone();
    let stops = matches!(event, "PreToolUse" | "UserPromptSubmit" | "Stop");
    let mut verdicts = Vec::new();
    for matcher in configured.as_array().into_iter().flatten() {
        let wanted = matcher["matcher"].as_str().unwrap_or("*");
        if !fits(wanted, tool) {
            continue;
        }
        for hook in matcher["hooks"].as_array().into_iter().flatten() {
            let command = hook["command"].as_str().unwrap_or_default();
            let verdict = world.judge(&HookCall {
                event: event.to_owned(),
                command: command.to_owned(),
                tool: tool.map(str::to_owned),
                message: match about {
                    About::Message(_, text) => text.to_owned(),
                    About::Tool(..) | About::Nothing => String::new(),
                },
            });
            let blocked = verdict.is_denied();
            let mut fields = json!({
                "hook_event_type": event,
                "hook_command": command,
                "success": verdict.exit_code == 0,
                "blocked": blocked,
                "exit_code": verdict.exit_code,
                "stdout": verdict.stdout(),
                "stderr": verdict.reason,
            });
            if let Some(context) = &verdict.context {
                fields["additional_context"] = json!(context);
            }
            match about {
                About::Tool(action, tool) => {
                    fields["tool_name"] = json!(tool);
                    fields["action_id"] = json!(action);
                    fields["hook_input"] = json!({});
                }
                About::Message(id, text) => {
                    fields["message_id"] = json!(id);
                    fields["hook_input"] = json!({"message": text});
                }
                About::Nothing if event == "Stop" => {
                    fields["hook_input"] = json!({"reason": "agent_finished"});
                }
                About::Nothing => {}
            }
            conversation.append("hook", "HookExecutionEvent", fields);
            verdicts.push(verdict);
            if blocked && stops {
                return verdicts;
            }
        }
    }
    verdicts
}

pub(crate) fn say(conversation: &Conversation, step: &Step, item: Option<String>) {
    let text = step.text.clone().unwrap_or_default();
    let mut message = json!({"role": "assistant", "content": [content(&text)]});
    if let Some(reasoning) = &step.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    let mut fields = message_fields(&message);
    let response = conversation.clock.uuid().simple();
    fields["llm_response_id"] = json!(format!("chatcmpl-{response}"));
    if let Some(item) = item {
        fields["id"] = json!(item);
    }
    conversation.append("agent", "MessageEvent", fields);
    remember(conversation, json!({"role": "assistant", "content": text}));
}

pub(crate) fn count(conversation: &Conversation, step: &Step) {
    let mut inner = conversation.lock();
    let model = inner.info["agent"]["llm"]["model"].clone();
    let usage = step.usage;
    let stats = inner.info.entry("stats").or_insert_with(|| json!({}));
    let metrics = &mut stats["usage_to_metrics"]["default"];
    let add = |old: &Value, more: u64| json!(old.as_u64().unwrap_or_default() + more);
    let tokens = &metrics["accumulated_token_usage"];
    let tokens = json!({
        "model": model,
        "prompt_tokens": add(&tokens["prompt_tokens"], usage.input),
        "completion_tokens": add(&tokens["completion_tokens"], usage.output),
        "cache_read_tokens": add(&tokens["cache_read_tokens"], usage.cached),
        "cache_write_tokens": 0,
        "reasoning_tokens": add(&tokens["reasoning_tokens"], usage.reasoning),
        "context_window": 0,
        "per_turn_token": usage.input + usage.output,
        "response_id": "",
    });
    let cost = metrics["accumulated_cost"].as_f64().unwrap_or_default();
    *metrics = json!({
        "model_name": model,
        "accumulated_cost": cost + step.cost.unwrap_or_default(),
        "max_budget_per_task": null,
        "accumulated_token_usage": tokens,
    });
    let stats = stats.clone();
    drop(inner);
    conversation.set("stats", stats);
}

pub(crate) fn fail(conversation: &Conversation, code: &str, detail: &str) {
    conversation.set_status("error");
    let (kind, retryable, user_action) = match code {
        "LLMAuthenticationError" => ("auth", false, "settings"),
        "LLMRateLimitError" => ("rate_limit", true, "retry"),
        "LLMServiceUnavailableError" => ("transient", true, "retry"),
        "LLMBadRequestError" => ("config", false, "settings"),
        _ => ("unknown", false, "none"),
    };
    let fields = json!({
        "code": code,
        "detail": detail,
        "classification": {"kind": kind, "retryable": retryable, "user_action": user_action},
    });
    conversation.append("environment", "ConversationErrorEvent", fields);
}

pub(crate) fn invalid(conversation: &Conversation, tool: &str, call: &str, error: &str) {
    let fields = json!({
        "tool_name": tool,
        "tool_call_id": call,
        "error": format!("{tool}: {error}"),
        "classification": {"kind": "agent_action", "retryable": false, "user_action": "none"},
    });
    conversation.append("agent", "AgentErrorEvent", fields);
    remember(
        conversation,
        json!({"role": "tool", "content": format!("{tool}: {error}")}),
    );
}

pub(crate) fn interrupted(conversation: &Conversation, tool: &str, call: &str, why: &str) {
    let fields = json!({
        "tool_name": tool,
        "tool_call_id": call,
        "error": why,
        "classification": {"kind": "internal", "retryable": false, "user_action": "none"},
    });
    conversation.append("agent", "AgentErrorEvent", fields);
    remember(conversation, json!({"role": "tool", "content": why}));
}

pub(crate) fn reject(
    conversation: &Conversation,
    action: &str,
    tool: &str,
    call: &str,
    reason: &str,
    by: &str,
) {
    let fields = json!({
        "action_id": action,
        "tool_name": tool,
        "tool_call_id": call,
        "rejection_reason": reason,
        "rejection_source": by,
    });
    conversation.append("environment", "UserRejectObservation", fields);
    remember(conversation, json!({"role": "tool", "content": reason}));
}

pub(crate) fn remember(conversation: &Conversation, message: Value) {
    conversation.lock().messages.push(message);
}

/// Sends the progress of an answer if the LLM is configured to stream. Returns the id of its future
/// event.
pub(crate) fn stream(conversation: &Conversation, step: &Step) -> Option<String> {
    let streams = conversation.lock().info["agent"]["llm"]["stream"] == true;
    let text = step.text.as_deref().filter(|_| streams)?;
    let item = conversation.clock.id();
    let anchor = conversation.lock().len().checked_sub(1);
    conversation.progress(&json!({
        "type": "item_started", "item_id": item, "attempt": 0, "anchor_seq": anchor,
    }));
    for (order, piece) in crate::model::pieces(text).into_iter().enumerate() {
        conversation.progress(&json!({
            "type": "delta", "item_id": item, "attempt": 0, "order": order,
            "kind": "text", "content": piece,
        }));
    }
    Some(item)
}
