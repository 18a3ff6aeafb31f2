//! Encodes a step in OpenAI's responses format, plain and as typed server-sent events.

use serde_json::{Value, json};

use super::{
    ModelRequest, Step,
    parts::{id, pieces, seconds_now},
};

pub(super) fn plain(request: &ModelRequest, step: &Step) -> Value {
    response(request, step, &id("resp_"), "completed", items(step))
}

/// Returns the server-sent events of a streamed answer.
pub(super) fn chunks(request: &ModelRequest, step: &Step) -> Vec<String> {
    let response_id = id("resp_");
    let started = response(request, step, &response_id, "in_progress", Vec::new());
    let mut events = vec![
        json!({"type": "response.created", "response": started}),
        json!({"type": "response.in_progress", "response": started}),
    ];
    let items = items(step);
    for (index, item) in items.iter().enumerate() {
        item_events(&mut events, index, item);
    }
    let done = response(request, step, &response_id, "completed", items);
    events.push(json!({"type": "response.completed", "response": done}));
    events
        .into_iter()
        .enumerate()
        .map(|(number, mut event)| {
            event["sequence_number"] = json!(number);
            let name = event["type"].as_str().unwrap_or_default();
            format!("event: {name}\ndata: {event}\n\n")
        })
        .collect()
}

/// Adds the events of one output item, from start to end.
fn item_events(events: &mut Vec<Value>, index: usize, item: &Value) {
    let mut opened = item.clone();
    opened["status"] = json!("in_progress");
    let (part, added, delta, done, field) = match item["type"].as_str() {
        Some("message") => {
            opened["content"] = json!([]);
            let text = "response.output_text";
            (
                Some(&item["content"][0]),
                "content_part",
                text,
                text,
                "text",
            )
        }
        Some("reasoning") => {
            opened["summary"] = json!([]);
            let text = "response.reasoning_summary_text";
            let added = "reasoning_summary_part";
            (Some(&item["summary"][0]), added, text, text, "text")
        }
        _ => {
            opened["arguments"] = json!("");
            let text = "response.function_call_arguments";
            (None, "", text, text, "arguments")
        }
    };
    let place = |mut event: Value| {
        event["output_index"] = json!(index);
        event
    };
    let within = |mut event: Value| {
        event["item_id"] = item["id"].clone();
        match added {
            "content_part" => event["content_index"] = json!(0),
            "reasoning_summary_part" => event["summary_index"] = json!(0),
            _ => {}
        }
        place(event)
    };
    events.push(place(
        json!({"type": "response.output_item.added", "item": opened}),
    ));
    let text = match part {
        Some(part) => {
            let mut empty = part.clone();
            empty[field] = json!("");
            events.push(within(
                json!({"type": format!("response.{added}.added"), "part": empty}),
            ));
            part[field].as_str()
        }
        None => item[field].as_str(),
    }
    .unwrap_or_default();
    for piece in pieces(text) {
        events.push(within(
            json!({"type": format!("{delta}.delta"), "delta": piece}),
        ));
    }
    let mut end = json!({"type": format!("{done}.done")});
    end[field] = json!(text);
    events.push(within(end));
    if let Some(part) = part {
        events.push(within(
            json!({"type": format!("response.{added}.done"), "part": part}),
        ));
    }
    events.push(place(
        json!({"type": "response.output_item.done", "item": item}),
    ));
}

fn items(step: &Step) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(reasoning) = &step.reasoning {
        items.push(json!({
            "type": "reasoning",
            "id": id("rs_"),
            "summary": [{"type": "summary_text", "text": reasoning}],
        }));
    }
    if let Some(text) = &step.text {
        items.push(json!({
            "type": "message",
            "id": id("msg_"),
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }));
    }
    for call in &step.calls {
        items.push(json!({
            "type": "function_call",
            "id": id("fc_"),
            "call_id": id("call_"),
            "status": "completed",
            "name": call.name,
            "arguments": call.arguments,
        }));
    }
    items
}

fn response(
    request: &ModelRequest,
    step: &Step,
    id: &str,
    status: &str,
    output: Vec<Value>,
) -> Value {
    let usage = step.usage;
    let usage = (status == "completed").then(|| {
        json!({
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        })
    });
    let asked = request.body();
    json!({
        "id": id,
        "object": "response",
        "created_at": seconds_now(),
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": asked["instructions"],
        "metadata": {},
        "model": request.model(),
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked["tools"].as_array().cloned().unwrap_or_default(),
        "top_p": 1.0,
        "usage": usage,
    })
}
