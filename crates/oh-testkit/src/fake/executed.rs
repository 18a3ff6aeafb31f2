//! The record of the actions that a fake server carried out, and of what allowed each.

use oh_protocol::ConversationId;
use serde_json::Value;

/// An action that the fake server carried out.
///
/// The record holds each call of a tool, `finish` and `think` included, from the moment the tool
/// begins: an action that is interrupted afterwards is in it. Actions that were rejected, or that a
/// hook blocked, are not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Execution {
    /// The conversation.
    pub conversation: ConversationId,
    /// The id of the `ActionEvent`.
    pub action_id: String,
    /// The tool.
    pub tool: String,
    /// The arguments, as the tool got them.
    pub arguments: Value,
    /// What allowed the action.
    pub permission: Permission,
}

impl Execution {
    /// The command line, for the `terminal` tool.
    pub fn command(&self) -> Option<&str> {
        let command = self.arguments["command"].as_str();
        command.filter(|_| self.tool == "terminal")
    }
}

/// What allowed an action to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// No confirmation policy asked for an approval.
    NotAsked,
    /// `POST …/run` while the action waited.
    Run,
    /// `POST …/events/respond_to_confirmation` with `accept: true`.
    Response,
    /// `POST …/events` with `run: true` while the action waited.
    Message,
    /// A message over a socket while the action waited.
    Socket,
    /// A goal that was started, or went on, while the action waited.
    Goal,
    /// [`FakeConversation::say`](super::FakeConversation::say) while the action waited.
    Test,
}
