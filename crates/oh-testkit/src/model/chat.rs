//! Encodes a step in OpenAI's chat completions format, plain and streamed.

use serde_json::{Value, json};

use super::{
    ModelRequest, Step,
    parts::{id, pieces, seconds_now},
};

pub(super) fn plain(request: &ModelRequest, step: &Step) -> Value {
    let mut message = json!({"role": "assistant", "content": step.text});
    if let Some(reasoning) = &step.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !step.calls.is_empty() {
        message["tool_calls"] = step
            .calls
            .iter()
            .map(|call| {
                json!({
                    "id": id("call_"),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                })
            })
            .collect();
    }
    json!({
        "id": id("chatcmpl-"),
        "object": "chat.completion",
        "created": seconds_now(),
        "model": request.model(),
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(step)}],
        "usage": usage(step),
    })
}

/// Returns the server-sent events of a streamed answer, including `[DONE]`.
pub(super) fn chunks(request: &ModelRequest, step: &Step) -> Vec<String> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    for piece in pieces(step.reasoning.as_deref().unwrap_or_default()) {
        deltas.push(json!({"reasoning_content": piece}));
    }
    for piece in pieces(step.text.as_deref().unwrap_or_default()) {
        deltas.push(json!({"content": piece}));
    }
    for (index, call) in step.calls.iter().enumerate() {
        deltas.push(json!({"tool_calls": [{
            "index": index,
            "id": id("call_"),
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }]}));
        for piece in pieces(&call.arguments) {
            deltas.push(json!({"tool_calls": [{
                "index": index,
                "function": {"arguments": piece},
            }]}));
        }
    }
    let id = id("chatcmpl-");
    let created = seconds_now();
    let chunk = |choices: Value| {
        json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.model(),
            "choices": choices,
        })
    };
    let mut chunks: Vec<_> = deltas
        .into_iter()
        .map(|delta| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])))
        .collect();
    chunks.push(chunk(json!([
        {"index": 0, "delta": {}, "finish_reason": finish_reason(step)}
    ])));
    if request.body()["stream_options"]["include_usage"] == true {
        let mut last = chunk(json!([]));
        last["usage"] = usage(step);
        chunks.push(last);
    }
    let mut events: Vec<_> = chunks
        .into_iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn finish_reason(step: &Step) -> &'static str {
    if step.calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    }
}

fn usage(step: &Step) -> Value {
    let usage = step.usage;
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}
