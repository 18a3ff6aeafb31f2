//! Provisions, starts, supervises and stops a local OpenHands agent server.
//!
//! A [`LocalServer`] owns a running server: dropping it stops the server, and no process or
//! temporary file of the server outlives it, however this process ends. A [`Provisioner`] finds or
//! creates the Python environment that the server runs in. This crate only runs the server. It
//! contains nothing about conversations or other uses of it.
//!
//! # How cleanup works
//!
//! The server runs under a *keeper*, a small Python process that starts before any directory is
//! created. The keeper and this process are connected by a socket. The socket closes when this
//! process ends, even by `kill -9`. The keeper then gives a server with a persistent state
//! directory some time to shut down, and kills it. The keeper is the subreaper of every process
//! that the server ever started, so it also kills every terminal and daemon. Last, it removes a
//! temporary state directory. The lock of a state directory is held until all of this is done.
//!
//! On Linux this is complete and tested. macOS has no subreapers: processes that left the server's
//! process tree survive, and this crate cannot check that the listening process is the server it
//! started. Behaviour on macOS is unverified. On other systems starting fails with
//! [`ErrorKind::Unsupported`].

#![cfg_attr(
    not(unix),
    allow(
        dead_code,
        reason = "nothing is started there, so that much has no use"
    )
)]

// rustdoc lists the methods of a type in the order of the modules: the main ones come first.
mod start;

mod server;

mod attach;
mod children;
mod error;
mod failure;
mod hash;
#[doc(hidden)]
pub mod internal;
mod lock;
mod pool;
mod progress;
mod provision;
mod request;
mod supervise;
mod template;

// In signatures of this crate.
pub use attach::{Attach, AttachedServer};
pub use error::{Error, ErrorKind, Result};
pub use pool::{Acquire, PoolSource, Pooled, WarmPool};
pub use progress::Progress;
pub use provision::environment::{Environment, Origin};
pub use provision::interpreter::Candidate;
pub use provision::{Provisioner, SERVER_VERSION};
pub use request::Request;
#[doc(no_inline)]
pub use secrecy;
pub use server::LocalServer;
pub use start::builder::LocalServerBuilder;
pub use start::containers::ConversationContainers;
pub use start::settings::Webhook;
pub use start::startup::Startup;
pub use supervise::logs::{LogLevel, LogLine, Logs};
pub use supervise::status::{ExitReport, RestartPolicy, Status, StatusWatch};
pub use template::{TemplateServer, TemplateServerBuilder, TemplateStatistics};
