//! Provision, start, watch and stop a local OpenHands agent server.
//!
//! A [`LocalServer`] is a guard and an endpoint: as long as it lives the server does, and nothing
//! of the server outlives it, however this process ends. A [`Provisioner`] finds or makes the
//! Python environment the server runs in.
//! This crate knows how a server is run, and nothing of what is done with it.
//!
//! # How nothing is left behind
//!
//! The server runs under a *keeper*, a small Python process that holds one end of a socket whose
//! other end is ours, and that exists before the first directory is made. When ours closes, be it
//! by `kill -9`, the keeper lets a server whose state is kept end by itself for a while, then kills
//! it and, being the subreaper of all that the server ever started, every terminal and daemon too;
//! then it removes a temporary state directory. The lock of a state directory is held until that is
//! done. On Linux this is complete and tested. On macOS there are no subreapers: what left the
//! server's process tree survives, and that our own process listens cannot be checked; this is
//! unverified. On other systems starting fails with [`ErrorKind::Unsupported`].

mod activation;
mod attach;
mod builder;
mod cache;
mod children;
mod download;
mod environment;
mod error;
mod index;
mod install;
mod interpreter;
#[cfg(unix)]
mod keeper;
#[cfg(not(unix))]
#[path = "keeper_unsupported.rs"]
mod keeper;
mod listener;
mod lock;
mod logs;
mod plan;
mod pool;
mod probe;
mod progress;
mod provision;
mod requirements;
mod search;
mod server;
mod settings;
mod shared;
mod shell;
mod startup;
mod state;
mod status;
mod supervise;
#[cfg(unix)]
mod sweep;
mod template;
mod uv;
mod variables;

pub use attach::{Attach, AttachedServer};
pub use builder::LocalServerBuilder;
pub use environment::{Environment, Origin};
pub use error::{Error, ErrorKind, Result};
pub use interpreter::Candidate;
pub use logs::{LogLevel, LogLine, Logs};
pub use pool::{Acquire, WarmPool};
pub use progress::Progress;
pub use provision::{Provisioner, SERVER_VERSION};
pub use server::LocalServer;
pub use settings::Webhook;
pub use startup::Startup;
pub use status::{ExitReport, RestartPolicy, Status, StatusWatch};
pub use template::{TemplateServer, TemplateServerBuilder, TemplateStatistics};
