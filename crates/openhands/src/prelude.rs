//! The types that most programs need: `use openhands::prelude::*;`.

pub use oh_protocol::{
    ConversationId, Event, ExecutionStatus, Payload,
    config::{Agent, ConfirmationPolicy, Llm},
    event::{Action, Observation, SecurityRisk},
    hooks::{Hook, HookConfig, HookMatcher},
};
pub use oh_transport::{Client, WorkspaceHandle};

#[cfg(feature = "conversation")]
pub use oh_conversation::{
    ApprovalEvent, Bulk, ClientTool, ClientToolCall, Conversation, Conversations, Cursor,
    LinkStatus, RunOutcome, RunReport, RunStatus, Token,
};
#[cfg(feature = "process")]
pub use oh_process::LocalServer;
#[cfg(feature = "docker")]
pub use oh_sandbox::DockerServer;
#[cfg(feature = "workspace")]
pub use oh_workspace::{Workspace, WorkspaceExt};
