//! Parts of messages.

use serde_json::{Value, json};

pub(crate) fn message_fields(message: &Value) -> Value {
    let mut message = message.clone();
    message["thinking_blocks"] = json!([]);
    for part in message["content"].as_array_mut().into_iter().flatten() {
        part["cache_prompt"] = json!(false);
    }
    json!({"llm_message": message, "activated_skills": [], "extended_content": []})
}

pub(crate) fn content(text: &str) -> Value {
    json!({"cache_prompt": false, "type": "text", "text": text})
}

pub(crate) fn text_of(message: &Value) -> String {
    let parts = message["content"].as_array().into_iter().flatten();
    let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}
