//! Messages and their contents, as the model sees them.

use crate::{Text, open_enum::open_enum, wire::wire};

open_enum! {
    /// Whose part a message is.
    Role {
        /// The user's, or that of hooks and tests in the user's name.
        User = "user",
        /// The model's.
        Assistant = "assistant",
        /// Instructions.
        System = "system",
        /// A tool's result.
        Tool = "tool",
    }
}

wire! {
    /// A message.
    Message {
        /// Whose part it is.
        role: Role,
        /// Its parts.
        content: Vec<Content> = default,
        /// The calls in it, where it is the model's.
        tool_calls: Option<Vec<ToolCall>> = default,
        /// Which call it answers, where it is a tool's.
        tool_call_id: Option<Text> = default,
        /// Which tool it is of.
        name: Option<Text> = default,
        /// What the model thought before it.
        reasoning_content: Option<Text> = default,
        /// Thinking as Anthropic's models give it.
        thinking_blocks: Vec<ThinkingBlock> = default,
        /// Reasoning as OpenAI's responses give it.
        responses_reasoning_item: Option<ReasoningItem> = default,
    }

    /// A tool call as the model wrote it.
    ToolCall {
        /// Ties it to its result.
        id: Text,
        /// The tool.
        name: Text,
        /// The arguments: JSON as the model wrote it, which need not be valid.
        arguments: Text,
        /// `completion` or `responses`: which of OpenAI's interfaces it came through.
        origin: Option<Text> = default,
        /// Its id in OpenAI's responses.
        responses_item_id: Option<Text> = default,
    }

    /// Reasoning as OpenAI's responses give it.
    ReasoningItem {
        /// Its id.
        id: Option<Text> = default,
        /// It in short.
        summary: Vec<Text> = default,
        /// It at length.
        content: Option<Vec<Text>> = default,
        /// It, for the model's eyes only.
        encrypted_content: Option<Text> = default,
        /// How far it got.
        status: Option<Text> = default,
    }
}

wire! {
    /// One part of a message.
    Content {
        /// `text`, `image`, or something newer.
        content_type: Text = default as "type",
        /// The text of a `text` part.
        text: Option<Text> = default,
        /// The images of an `image` part, as URLs or `data:` URLs.
        image_urls: Vec<Text> = default,
        /// Whether the provider was asked to cache up to here.
        cache_prompt: bool = default,
    }

    /// A block of thinking: open with its signature, or redacted.
    ThinkingBlock {
        /// `thinking` or `redacted_thinking`.
        block_type: Text = default as "type",
        /// The thinking.
        thinking: Option<Text> = default,
        /// What proves to the provider that it is its own.
        signature: Option<Text> = default,
        /// Redacted thinking, for the model's eyes only.
        data: Option<Text> = default,
    }
}

impl Message {
    /// The text of all text parts.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }
}

/// The text of all text parts, a line each.
pub fn text_of(parts: &[Content]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .collect();
    texts.join("\n")
}
