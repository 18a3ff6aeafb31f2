//! A directory on a server.

use oh_transport::{Client, WorkspaceHandle};

use crate::Execute;

/// A directory on a server. Cheap to clone; making one asks nothing of the server.
///
/// The path is the server's: no rule of the local system is applied to it.
#[derive(Debug, Clone)]
pub struct Workspace {
    client: Client,
    directory: String,
}

impl Workspace {
    /// The directory `directory` on the server of `client`.
    pub fn new(client: &Client, directory: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            directory: directory.into(),
        }
    }

    /// Runs a command line with `/bin/sh -c` in the directory and waits for its end.
    ///
    /// Dropping the future before that stops the command.
    pub fn execute(&self, line: impl Into<String>) -> Execute<'_> {
        Execute::new(self, line.into())
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
