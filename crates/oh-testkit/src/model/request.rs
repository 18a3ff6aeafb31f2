//! What the model was asked: one request, read leniently in either of OpenAI's shapes.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

/// Where an agent server says which conversation asks.
pub(crate) const SESSION: &str = "x-litellm-session-id";

/// A request that reached the [`ScriptedModel`](super::ScriptedModel).
#[derive(Clone)]
pub struct ModelRequest {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl ModelRequest {
    /// The path asked for, such as `/v1/chat/completions`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// The model's name as the client wrote it, without a provider prefix behind LiteLLM.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Whether a stream was asked for.
    pub fn is_stream(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or_default()
    }

    /// The messages (chat completions) or input items (responses), oldest first.
    pub fn messages(&self) -> &[Value] {
        for field in ["messages", "input"] {
            if let Some(list) = self.body[field].as_array() {
                return list;
            }
        }
        &[]
    }

    /// Names of the tools on offer.
    pub fn tools(&self) -> Vec<&str> {
        let Some(tools) = self.body["tools"].as_array() else {
            return Vec::new();
        };
        tools
            .iter()
            .filter_map(|tool| {
                tool["function"]["name"]
                    .as_str()
                    .or_else(|| tool["name"].as_str())
            })
            .collect()
    }

    /// Text of the newest message: the user's words, or a tool's result.
    pub fn last_text(&self) -> String {
        match self.messages().last() {
            Some(message) => message_text(message),
            None => self.body["input"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Text of the first message with this role, such as `user` or `system`.
    pub fn first_text(&self, role: &str) -> Option<String> {
        self.messages()
            .iter()
            .find(|message| message["role"] == role)
            .map(message_text)
    }

    /// Whether any message holds this text.
    pub fn contains(&self, text: &str) -> bool {
        self.messages()
            .iter()
            .any(|message| message_text(message).contains(text))
            || self.body["instructions"]
                .as_str()
                .is_some_and(|instructions| instructions.contains(text))
    }

    /// Whether this looks like the agent server asking for a conversation's title: no tools,
    /// and instructions that speak of titles.
    pub fn asks_for_title(&self) -> bool {
        if !self.tools().is_empty() {
            return false;
        }
        let instructions = self
            .first_text("system")
            .or_else(|| self.first_text("developer"))
            .or_else(|| self.body["instructions"].as_str().map(str::to_owned))
            .or_else(|| self.first_text("user"));
        instructions.is_some_and(|text| text.to_lowercase().contains("title"))
    }

    /// The agent server's id of the conversation that asks, with dashes. Servers from about 1.50
    /// send it with each request of an agent (header `x-litellm-session-id`).
    pub fn conversation_id(&self) -> Option<&str> {
        self.header(SESSION).filter(|id| !id.is_empty())
    }

    /// What stays the same while a conversation grows: its id, or else model and first words.
    pub(crate) fn conversation(&self) -> String {
        if let Some(id) = self.conversation_id() {
            return id.to_owned();
        }
        let opening = self.first_text("user").unwrap_or_else(|| self.last_text());
        format!("{}: {opening}", self.model())
    }
}

// Headers hold the key, bodies hold prompts: neither belongs in a log.
impl fmt::Debug for ModelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRequest")
            .field("path", &self.path)
            .field("model", &self.model())
            .field("stream", &self.is_stream())
            .field("messages", &self.messages().len())
            .finish_non_exhaustive()
    }
}

fn message_text(message: &Value) -> String {
    for field in ["content", "output"] {
        match &message[field] {
            Value::String(text) => return text.clone(),
            Value::Array(parts) => {
                let texts: Vec<_> = parts
                    .iter()
                    .filter_map(|part| part["text"].as_str())
                    .collect();
                return texts.join("\n");
            }
            _ => {}
        }
    }
    String::new()
}
