//! Commands in a directory of an agent server.
//!
//! ```no_run
//! # async fn run(client: &oh_transport::Client) -> Result<(), oh_workspace::Error> {
//! use std::time::Duration;
//! use oh_workspace::Workspace;
//!
//! let workspace = Workspace::new(client, "/path/to/project");
//! let output = workspace.execute("ls -l").timeout(Duration::from_secs(10)).await?;
//! println!("{:?}: {}", output.exit_code(), output.stdout());
//! # Ok(()) }
//! ```

mod automation;
mod command;
mod error;
mod files;
mod git;
mod path;
mod repositories;
mod server;
mod settings;
mod workspace;

pub use automation::{CompletionCallback, automation_tags};
pub use command::{Command, CommandEnd, CommandOutput, Execute, History, Output, OutputChunk};
pub use error::{Error, ErrorKind, Result};
pub use files::{Archive, ByteStream, Download, Downloaded, Progress, Subdirectories, Upload};
pub use git::Git;
pub use repositories::{
    CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone, GitProvider, Repository,
};
pub use workspace::{Workspace, WorkspaceExt};
