//! Messages and their contents, as the model sees them.

use serde::Deserialize;

/// A message.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// `user`, `assistant`, `system` or `tool`.
    pub role: String,
    /// Its parts.
    #[serde(default)]
    pub content: Vec<Content>,
}

impl Message {
    /// The text of all text parts.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }
}

/// One part of a message.
#[derive(Debug, Clone, Default, Deserialize)]
#[non_exhaustive]
pub struct Content {
    /// `text`, `image`, or something newer.
    #[serde(default, rename = "type")]
    pub content_type: String,
    /// The text of a `text` part.
    #[serde(default)]
    pub text: Option<String>,
    /// The images of an `image` part, as URLs or `data:` URLs.
    #[serde(default)]
    pub image_urls: Vec<String>,
}

/// The text of all text parts, a line each.
pub(crate) fn text_of(parts: &[Content]) -> String {
    parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .collect::<Vec<_>>()
        .join("\n")
}
