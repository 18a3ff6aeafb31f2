//! Requests of the agent to its model.

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use crate::fake::state::{conversation::Conversation, world::World};
use crate::model::{ModelRequest, SESSION};

/// Builds the model request for a question outside of the agent's work.
pub(crate) fn question(world: &World, conversation: &Conversation, text: &str) -> ModelRequest {
    let mut request = request(world, conversation);
    if let Some(messages) = request.body["messages"].as_array_mut() {
        messages.push(json!({"role": "user", "content": text}));
    }
    request
}

/// Builds the model request for the next step.
pub(crate) fn request(world: &World, conversation: &Conversation) -> ModelRequest {
    let tools: Vec<_> = world
        .tool_names(conversation)
        .into_iter()
        .map(|name| json!({"type": "function", "function": {"name": name}}))
        .collect();
    let inner = conversation.lock();
    let model = inner.info["agent"]["llm"]["model"]
        .as_str()
        .unwrap_or_default();
    // LiteLLM also removes the provider prefix.
    let model = model.split_once('/').map_or(model, |(_, name)| name);
    let body = json!({"model": model, "messages": inner.messages, "tools": tools});
    let mut headers = HeaderMap::new();
    if let Ok(id) = HeaderValue::from_str(&conversation.id.hyphenated().to_string()) {
        headers.insert(SESSION, id);
    }
    ModelRequest {
        path: "/v1/chat/completions".to_owned(),
        headers,
        body,
    }
}
