//! The first message of a conversation.

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A message to the agent (`SendMessageRequest` on the server).
    pub struct InitialMessage;
    by_hand: ["content"];

    /// Sets the role of the sender: `user` (the server default), `system`, `assistant` or `tool`.
    text role;
    /// Sets whether the agent starts to work at once. Server default: false.
    value run: bool;
}

impl InitialMessage {
    /// Creates a message with a text.
    pub fn new(text: impl Into<String>) -> Self {
        let fields = Fields::of("InitialMessage");
        Self { fields }.text(text)
    }

    pub(super) fn of(fields: Fields) -> Self {
        Self { fields }
    }

    /// Adds a text part.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        let content = Fields::of("Text")
            .with("type", Field::plain("text"))
            .with("text", text.into());
        self.fields.push("content", Field::Object(content));
        self
    }

    /// Adds images by URL, including `data:` URLs.
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
