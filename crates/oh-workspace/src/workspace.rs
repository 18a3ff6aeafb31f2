//! A directory on a server, in the scope of the whole server or of one conversation.

use std::sync::Arc;

use oh_protocol::{ConversationId, calls::Scope};
use oh_transport::{Client, WorkspaceHandle};

use crate::{Result, command::Hub, path};

/// A directory on a server. Cheap to clone; creating one sends no request to the server.
///
/// Paths are paths on the server, so no path rule of the local system applies. A relative path is
/// relative to the directory.
///
/// ```no_run
/// # async fn build(client: &oh_transport::Client) -> Result<(), oh_workspace::Error> {
/// use oh_workspace::Workspace;
///
/// let workspace = Workspace::new(client, "/path/to/project");
/// workspace.write("notes.txt", "Remember the milk.").await?;
/// println!("{}", workspace.execute("ls -l").await?.stdout());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Workspace {
    client: Client,
    directory: String,
    scope: Scope,
    hub: Arc<Hub>,
}

impl Workspace {
    /// Creates a workspace for `directory`, an absolute path on the server of `client`.
    ///
    /// The path is not checked here. With a relative directory, operations on relative paths and
    /// commands return [`InvalidInput`](crate::ErrorKind::InvalidInput) and send nothing; a
    /// conversation would work below the directory in which the server was started.
    ///
    /// The workspace's commands share a socket with those of its clones and of all workspaces made
    /// from it. Clone one workspace rather than creating many: the server accepts only fifty
    /// sockets.
    pub fn new(client: &Client, directory: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            directory: directory.into(),
            scope: Scope::Server,
            hub: Hub::new(client),
        }
    }

    /// Returns the same directory as the workspace of a conversation.
    ///
    /// Commands in a conversation have a separate history, and the server rejects paths outside the
    /// conversation's workspace. The server has no socket for such commands, so their end is
    /// detected by polling: at most a fifth of their duration late, and at most 2 s late.
    #[must_use]
    pub fn in_conversation(&self, id: ConversationId) -> Self {
        self.in_scope(id.into())
    }

    pub(crate) fn in_scope(&self, scope: Scope) -> Self {
        Self {
            scope,
            ..self.clone()
        }
    }

    /// Returns another directory on the same server, in the same scope. A relative path is relative
    /// to this directory.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is empty or contains a NUL character, or if the path and this
    /// workspace's directory are both relative.
    pub fn directory(&self, path: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            directory: self.path(path.as_ref())?,
            ..self.clone()
        })
    }

    /// Returns the conversation whose scope this workspace acts in, if any.
    pub fn conversation(&self) -> Option<ConversationId> {
        self.scope.conversation()
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Returns the socket for commands. Only workspaces in the server's scope have one.
    pub(crate) fn hub(&self) -> Option<&Arc<Hub>> {
        match self.scope {
            Scope::Server => Some(&self.hub),
            _ => None,
        }
    }

    /// Returns the absolute path on the server.
    pub(crate) fn path(&self, path: &str) -> Result<String> {
        path::join(&self.directory, path)
    }
}

impl WorkspaceHandle for Workspace {
    fn client(&self) -> &Client {
        &self.client
    }

    fn working_dir(&self) -> &str {
        &self.directory
    }
}
