//! A local OpenHands agent server that can be trusted: provisioned, started, proven, watched and
//! gone when its owner is.
//!
//! [`Provisioner`] finds or makes a Python environment with the pinned server packages.
//! [`LocalServer`] runs a server in it: on a port of its own, with state directories and a
//! session key of its own. However the owner ends, even by `kill -9`, the server and everything
//! it started end too.
//!
//! ```no_run
//! # async fn run() -> Result<(), oh_process::Error> {
//! use std::time::Duration;
//! use oh_process::LocalServer;
//!
//! let server = LocalServer::builder().start().await?;
//! println!("{} runs at {}", server.info().version, server.url());
//! let exit = server.shutdown(Duration::from_secs(5)).await?;
//! println!("{exit}");
//! # Ok(()) }
//! ```
//!
//! Linux is verified. macOS shares the code but is not; Windows is not supported.

mod error;
mod provision;
mod server;

pub use error::{Error, ErrorKind, Result};
pub use provision::{Candidate, Environment, Progress, Provisioner, SERVER_VERSION};
pub use server::{ExitReport, LocalServer, LocalServerBuilder, LogLine};
