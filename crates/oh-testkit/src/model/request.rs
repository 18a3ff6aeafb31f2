//! A request to the model, decoded leniently from either of OpenAI's formats.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

/// The header in which the agent server sends the conversation id.
pub(crate) const SESSION: &str = "x-litellm-session-id";

/// A request received by the [`ScriptedModel`](super::ScriptedModel).
#[derive(Clone)]
pub struct ModelRequest {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl ModelRequest {
    /// Returns the path, such as `/v1/chat/completions`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the whole body.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Returns the model name in the request. LiteLLM removes the provider prefix.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Returns whether the client requested a stream.
    pub fn is_stream(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or_default()
    }

    /// Returns the messages (chat completions) or input items (responses), oldest first.
    pub fn messages(&self) -> &[Value] {
        for field in ["messages", "input"] {
            if let Some(list) = self.body[field].as_array() {
                return list;
            }
        }
        &[]
    }

    /// Returns the names of the available tools.
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

    /// Returns the text of the newest message, which is a user message or a tool result.
    pub fn last_text(&self) -> String {
        match self.messages().last() {
            Some(message) => message_text(message),
            None => self.body["input"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Returns the text of the first message with this role, such as `user` or `system`.
    pub fn first_text(&self, role: &str) -> Option<String> {
        self.messages()
            .iter()
            .find(|message| message["role"] == role)
            .map(message_text)
    }

    /// Returns whether any message or the instructions contain this text.
    pub fn contains(&self, text: &str) -> bool {
        self.messages()
            .iter()
            .any(|message| message_text(message).contains(text))
            || self.body["instructions"]
                .as_str()
                .is_some_and(|instructions| instructions.contains(text))
    }

    /// Returns whether the request looks like the agent server's request for a conversation's
    /// title: it has no tools, and its instructions mention a title.
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

    /// Returns the agent server's id of the conversation, with dashes. Since about version 1.50,
    /// servers send it with each request of an agent (header `x-litellm-session-id`).
    pub fn conversation_id(&self) -> Option<&str> {
        self.header(SESSION).filter(|id| !id.is_empty())
    }

    /// Returns a key that stays the same while a conversation grows: its id, or else the model and
    /// the first user message.
    pub(crate) fn conversation(&self) -> String {
        if let Some(id) = self.conversation_id() {
            return id.to_owned();
        }
        let opening = self.first_text("user").unwrap_or_else(|| self.last_text());
        format!("{}: {opening}", self.model())
    }
}

// Omits headers and body, which contain keys and prompts.
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
