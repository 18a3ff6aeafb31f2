//! Commands, files and git in a directory of an agent server.
//!
//! ```no_run
//! # async fn run(client: &oh_transport::Client) -> Result<(), oh_workspace::Error> {
//! use std::time::Duration;
//! use oh_workspace::Workspace;
//!
//! let workspace = Workspace::new(client, "/path/to/project");
//!
//! let output = workspace.execute("cargo test").timeout(Duration::from_secs(600)).await?;
//! println!("{:?} after {:?}", output.exit_code(), output.duration());
//!
//! workspace.upload("data/input.csv").from_path("input.csv").await?;
//! workspace.download("target/report.html").to_path("report.html").await?;
//!
//! for change in workspace.git().changes_against("HEAD").await? {
//!     println!("{} {}", change.status, change.path);
//! }
//! # Ok(()) }
//! ```
//!
//! - **Commands** are followed over one socket, and by polling where it fails. A failure of the
//!   connection is an error that names the command, never an exit code; a timeout is reported as
//!   one. [`Workspace::execute`] waits and stops what nobody waits for any more, and so does
//!   [`Execute::stream`]; [`Execute::start`] gives a handle, [`Workspace::command`] finds one
//!   again.
//! - **Files** stream both ways in bounded memory, whole or not at all. There is no limit to how
//!   long that takes, only to how long nothing moves.
//! - **Paths** are the server's. A relative one is below the workspace's directory.
//! - [`Workspace::in_conversation`] is the same in the scope of one conversation.
//!
//! Two modules serve programs that run agents on the server: `settings` reads stored models, MCP
//! servers, secrets and skills as configuration for an agent, and `automation` reports to whoever
//! started the program. The crate does not run conversations.

mod automation;
mod command;
mod error;
mod files;
mod git;
mod path;
mod place;
mod repositories;
mod server;
mod settings;
mod shell;
mod workspace;

pub use automation::{CompletionCallback, automation_tags};
pub use command::{
    Command, CommandBytes, CommandEnd, CommandOutput, Execute, History, Output, OutputChunk,
};
pub use error::{Error, ErrorKind, Result};
pub use files::{Archive, ByteStream, Download, Downloaded, Progress, Subdirectories, Upload};
pub use git::{Git, Patch};
pub use repositories::{
    CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone, GitProvider, Repository,
};
pub use workspace::{Workspace, WorkspaceExt};
