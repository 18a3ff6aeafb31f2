//! A directory on a server, in the scope of the whole server or of one conversation.

use std::sync::Arc;

use oh_protocol::{ConversationId, calls::Scope};
use oh_transport::{Client, WorkspaceHandle};

use crate::{Execute, Result, command::Hub, path};

/// A directory on a server. Cheap to clone; making one asks nothing of the server.
///
/// Paths are the server's: no rule of the local system is applied to them. A relative one is
/// below the directory.
#[derive(Debug, Clone)]
pub struct Workspace {
    client: Client,
    directory: String,
    scope: Scope,
    hub: Arc<Hub>,
}

impl Workspace {
    /// The directory `directory`, an absolute path, on the server of `client`.
    ///
    /// Its commands share a socket with those of its clones and of all workspaces made from it,
    /// so clone one rather than make many: the server has room for fifty sockets.
    pub fn new(client: &Client, directory: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            directory: directory.into(),
            scope: Scope::Server,
            hub: Hub::new(client),
        }
    }

    /// The same directory as the workspace of a conversation: its commands have a history of
    /// their own, and paths outside the conversation's workspace are refused. The server has no
    /// socket for such commands, so their end is found by polling: at most a fifth of their
    /// duration late, and at most 2 s.
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

    /// Another directory of the same server and scope; a relative path is below this one.
    ///
    /// # Errors
    ///
    /// When the path is empty, or relative to a directory that is.
    pub fn directory(&self, path: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            directory: self.path(path.as_ref())?,
            ..self.clone()
        })
    }

    /// Runs a command line with `/bin/sh -c` in the directory and waits for its end.
    ///
    /// Dropping the future before that stops the command.
    pub fn execute(&self, line: impl Into<String>) -> Execute<'_> {
        Execute::new(self, line.into())
    }

    /// The conversation in whose scope it acts, if it does.
    pub fn conversation(&self) -> Option<ConversationId> {
        self.scope.conversation()
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// The socket for its commands. Only those of the whole server have one.
    pub(crate) fn hub(&self) -> Option<&Arc<Hub>> {
        match self.scope {
            Scope::Server => Some(&self.hub),
            _ => None,
        }
    }

    /// An absolute path of the server.
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

/// Workspaces of whatever has a client, such as a local server.
pub trait WorkspaceExt: AsRef<Client> {
    /// The directory `directory` on this server.
    fn workspace(&self, directory: impl AsRef<std::path::Path>) -> Workspace {
        Workspace::new(self.as_ref(), directory.as_ref().to_string_lossy())
    }
}

impl<T: AsRef<Client>> WorkspaceExt for T {}
