//! Commands, files and git in a directory on an agent server.
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
//! - **Commands** are followed over one socket, or by polling when the socket fails. A connection
//!   failure is an error that names the command, never an exit code. A timeout is reported as a
//!   timeout. [`Workspace::execute`] waits for the command, and stops it when the future is
//!   dropped; [`Execute::stream`] does the same. [`Execute::start`] returns a handle, and
//!   [`Workspace::command`] finds a command by its id.
//! - **Files** are streamed in both directions with bounded memory, and arrive completely or not at
//!   all. The total duration is unlimited; only the time without progress is limited.
//! - **Paths** are paths on the server. A relative path is relative to the workspace's directory.
//! - [`Workspace::in_conversation`] provides the same operations in the scope of one conversation.
//!
//! Two modules serve programs that run agents on the server: `settings` returns stored models, MCP
//! servers, secrets and skills as agent configuration, and `automation` reports the result to the
//! system that started the program. The crate `oh-conversation` runs conversations.

// rustdoc lists the methods of a type in the order of the modules: the main ones come first.
mod workspace;

mod automation;
mod command;
mod completion;
mod error;
mod ext;
mod files;
mod git;
mod helper;
mod path;
mod phase;
mod place;
mod post;
mod repositories;
mod request;
mod scope;
mod server;
mod settings;
mod shell;

// In signatures of this crate.
pub use automation::{CompletionCallback, automation_tags};
pub use command::{
    Command, CommandBytes, CommandEnd, CommandOutput, Execute, History, HistoryStream, LiveChunk,
    LiveOutput, Output, OutputChunk,
};
pub use completion::CompletionReport;
pub use error::{Error, ErrorKind, Result};
pub use ext::WorkspaceExt;
pub use files::{Archive, ByteStream, Download, Downloaded, Progress, Subdirectories, Upload};
pub use git::{Git, Patch};
pub use phase::AutomationPhases;
pub use repositories::{
    CloneRepositories, ClonedRepositories, ClonedRepository, FailedClone, GitProvider, Repository,
};
pub use request::Request;
pub use scope::Automation;
#[doc(no_inline)]
pub use secrecy;
pub use workspace::Workspace;
