//! Creates workspaces and commands from any handle of a server.

use oh_transport::{Client, WorkspaceHandle};

use crate::{Execute, Workspace};

/// Creates workspaces from any type that has a client, such as a local server.
pub trait WorkspaceExt: AsRef<Client> {
    /// Returns the workspace for `directory` on this server.
    fn workspace(&self, directory: impl AsRef<std::path::Path>) -> Workspace {
        Workspace::new(self.as_ref(), directory.as_ref().to_string_lossy())
    }

    /// Runs a command line in the directory of a handle, such as a local server: see
    /// [`Workspace::execute`]. For more than one command, create a [`Workspace`] once.
    fn execute(&self, line: impl Into<String>) -> Execute
    where
        Self: WorkspaceHandle + Sized,
    {
        Workspace::new(WorkspaceHandle::client(self), self.working_dir()).execute(line)
    }
}

impl<T: AsRef<Client>> WorkspaceExt for T {}
