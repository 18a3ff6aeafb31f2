//! The message that a conversation begins with.

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A message for the agent (`SendMessageRequest` on the server).
    pub struct InitialMessage;
    by_hand: ["content"];

    /// Who says it: `user` (the server's default), `system`, `assistant` or `tool`.
    text role;
    /// Whether the agent sets to work at once. Server's default: no.
    value run: bool;
}

impl InitialMessage {
    /// A text.
    pub fn new(text: impl Into<String>) -> Self {
        let fields = Fields::of("InitialMessage");
        Self { fields }.text(text)
    }

    /// Adds a text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        let content = Fields::of("Text")
            .with("type", Field::plain("text"))
            .with("text", text.into());
        self.fields.push("content", Field::Object(content));
        self
    }

    /// Adds images by their addresses, `data:` URLs among them.
    pub fn images(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let urls: Field = urls.into_iter().map(Into::<String>::into).collect();
        let content = Fields::of("Images")
            .with("type", Field::plain("image"))
            .with("image_urls", urls);
        self.fields.push("content", Field::Object(content));
        self
    }
}

impl From<&str> for InitialMessage {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for InitialMessage {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
