//! The record of executed actions and their permissions.

use oh_protocol::ConversationId;
use serde_json::Value;

/// An action that the fake server executed.
///
/// The record contains each tool call, including `finish` and `think`, from the moment the tool
/// starts. Actions that are interrupted later are included. Actions that were rejected or blocked
/// by a hook are not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Execution {
    /// The conversation.
    pub conversation: ConversationId,
    /// The id of the `ActionEvent`.
    pub action_id: String,
    /// The tool.
    pub tool: String,
    /// The arguments of the tool.
    pub arguments: Value,
    /// The permission for the action.
    pub permission: Permission,
}

impl Execution {
    /// Returns the command line, for the `terminal` tool.
    pub fn command(&self) -> Option<&str> {
        let command = self.arguments["command"].as_str();
        command.filter(|_| self.tool == "terminal")
    }
}

/// The reason why an action was allowed to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// No confirmation policy required an approval.
    NotAsked,
    /// `POST …/run` while the action waited.
    Run,
    /// `POST …/events/respond_to_confirmation` with `accept: true`.
    Response,
    /// `POST …/events` with `run: true` while the action waited.
    Message,
    /// A message over a socket while the action waited.
    Socket,
    /// `POST …/condense` while the action waited.
    Condense,
    /// A goal that was started or continued while the action waited.
    Goal,
    /// [`FakeConversation::say`](crate::FakeConversation::say) while the action waited.
    Test,
}
