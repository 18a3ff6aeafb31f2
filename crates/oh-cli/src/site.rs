//! The directory on a server that a command works in.

use std::{env, path::Path};

use openhands::{Workspace, protocol::calls::conversations::Get};

use crate::{
    exit::{Exit, Failure},
    server::{At, Server},
    target::Target,
};

/// A directory on a server.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) workspace: Workspace,
}

impl Site {
    /// Finds the directory of a run, on its server.
    pub(crate) async fn of_run(id: &str, at: &At) -> Result<Self, Failure> {
        let target = Target::find(id, at).await?;
        let directory = match &target.record {
            Some(record) => {
                let workspace = target.server.workspace_of(record);
                let server = target.server;
                return Ok(Self { server, workspace });
            }
            None => {
                let info = target.server.client().call(&Get::new(target.id)).await?;
                let state = info.state();
                let directory = state.get("workspace").and_then(|workspace| {
                    let directory = workspace.get("working_dir")?.as_text()?;
                    Some(directory.to_string())
                });
                let unknown = "the server does not report the directory of the conversation";
                directory.ok_or_else(|| Exit::Internal.because(unknown))?
            }
        };
        let server = target.server;
        let workspace = server.workspace(&directory);
        Ok(Self { server, workspace })
    }

    /// Finds the current directory on a server of this machine, and otherwise the home of the
    /// server's user.
    pub(crate) async fn of_server(at: &At) -> Result<Self, Failure> {
        let server = Server::any(at).await?;
        let directory = match server.is_local() {
            true => current()?,
            false => server.workspace("/").home().await?.home,
        };
        let workspace = server.workspace(&directory);
        Ok(Self { server, workspace })
    }

    /// Changes to a directory, which is relative to the present one.
    pub(crate) fn enter(&mut self, directory: &str) -> Result<(), Failure> {
        self.workspace = self.workspace.directory(directory)?;
        Ok(())
    }
}

fn current() -> Result<String, Failure> {
    let failed = |error| Exit::Configuration.because(format!("no current directory: {error}"));
    let directory = env::current_dir().map_err(failed)?;
    let text = Path::to_str(&directory).map(str::to_owned);
    text.ok_or_else(|| Exit::Configuration.because("the current directory is not UTF-8"))
}
