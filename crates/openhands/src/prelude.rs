//! What most programs name: `use openhands::prelude::*;`.

pub use oh_protocol::{ConversationId, Event, ExecutionStatus};
