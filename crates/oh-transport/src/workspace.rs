//! The seam between workspaces and conversations: all that one needs to know of the other.

use crate::Client;

/// A directory on a server: what a conversation needs to know of a workspace.
pub trait WorkspaceHandle {
    /// The server that holds it.
    fn client(&self) -> &Client;

    /// The directory's path, in the server's own notation.
    fn working_dir(&self) -> &str;
}
