//! What most programs name: `use openhands::prelude::*;`.

pub use oh_protocol::{
    ConversationId, Event, ExecutionStatus, Payload,
    config::{Agent, Llm},
    hooks::{Hook, HookConfig, HookMatcher},
};
pub use oh_transport::Client;

#[cfg(feature = "process")]
pub use oh_process::LocalServer;
