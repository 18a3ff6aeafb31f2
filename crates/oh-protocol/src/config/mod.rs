//! What a conversation is started with: model, agent, policies.

mod agent;
mod llm;
mod secret;
mod start;

pub use agent::{Agent, ToolSpec};
pub use llm::Llm;
pub use start::StartConversation;
