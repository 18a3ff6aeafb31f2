//! The interface between workspaces and conversations.

use crate::Client;

/// A directory on a server, as seen by a conversation.
pub trait WorkspaceHandle {
    /// Returns the client of the server that contains the directory.
    fn client(&self) -> &Client;

    /// Returns the path of the directory, in the server's notation.
    fn working_dir(&self) -> &str;
}
