//! Test programs that drive coding agents: without Python, without a network, in milliseconds.
//!
//! - [`ScriptedModel`] is a language model that follows a script. It stands behind a real agent
//!   server, or behind anything that speaks OpenAI's interface.
//! - [`Proxy`] is a TCP proxy that cuts, stalls, drips and refuses, in front of any server.

mod chance;
mod error;
pub mod fake;
mod http;
pub mod model;
mod proxy;

pub use chance::Chance;
pub use error::{Error, ErrorKind, Result};
pub use fake::{FakeConversation, FakeServer, Fault};
pub use model::{Script, ScriptedModel, Step};
pub use proxy::{Link, Proxy};
