//! Messages and their contents, as the model receives them.

use crate::{
    Text,
    json::{declare::wire, open_enum::open_enum},
};

open_enum! {
    /// The role of a message.
    #[derive(Default)]
    Role {
        /// The user, or a hook or test that acts for the user.
        #[default]
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// Instructions.
        System = "system",
        /// The result of a tool.
        Tool = "tool",
    }
}

wire! {
    /// A message.
    Message {
        /// The role of the message.
        role: Role,
        /// The parts of the message.
        content: Vec<Content> = default,
        /// The tool calls, if the message is from the model.
        tool_calls: Option<Vec<ToolCall>> = default,
        /// The id of the tool call, if the message is a tool's result.
        tool_call_id: Option<Text> = default,
        /// The name of the tool.
        name: Option<Text> = default,
        /// The model's reasoning before the message.
        reasoning_content: Option<Text> = default,
        /// Thinking blocks of Anthropic models.
        thinking_blocks: Vec<ThinkingBlock> = default,
        /// Reasoning from OpenAI's Responses API.
        responses_reasoning_item: Option<ReasoningItem> = default,
    }

    /// A tool call in the model's format.
    ToolCall {
        /// The id that links the call to its result.
        id: Text,
        /// The name of the tool.
        name: Text,
        /// The arguments as JSON from the model, which may be invalid.
        arguments: Text,
        /// The OpenAI API of the call: `completion` or `responses`.
        origin: Option<Text> = default,
        /// The id in OpenAI's Responses API.
        responses_item_id: Option<Text> = default,
    }

    /// Reasoning from OpenAI's Responses API.
    ReasoningItem {
        /// The id of the item.
        id: Option<Text> = default,
        /// The summary of the reasoning.
        summary: Vec<Text> = default,
        /// The full reasoning text.
        content: Option<Vec<Text>> = default,
        /// The encrypted reasoning, which only the provider can decrypt.
        encrypted_content: Option<Text> = default,
        /// The status of the item.
        status: Option<Text> = default,
    }
}

wire! {
    /// A part of a message.
    Content {
        /// The type: `text`, `image`, or a newer type.
        content_type: Text = default as "type",
        /// The text of a `text` part.
        text: Option<Text> = default,
        /// The images of an `image` part, as URLs or `data:` URLs.
        image_urls: Vec<Text> = default,
        /// Whether to ask the provider to cache the prompt up to this part.
        cache_prompt: bool = default,
    }

    /// A thinking block, either with a signature or redacted.
    ThinkingBlock {
        /// `thinking` or `redacted_thinking`.
        block_type: Text = default as "type",
        /// The thinking.
        thinking: Option<Text> = default,
        /// The provider's signature of the thinking.
        signature: Option<Text> = default,
        /// The redacted thinking, which only the provider can decrypt.
        data: Option<Text> = default,
    }
}

impl Message {
    /// Returns the text of all text parts.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }
}

/// Returns the text of all text parts, one per line.
pub fn text_of(parts: &[Content]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .collect();
    texts.join("\n")
}
