//! Test programs that drive coding agents: without Python, without a network, in milliseconds.
//!
//! - [`ScriptedModel`] is a language model that follows a script. It stands behind a real agent
//!   server, or behind anything that speaks OpenAI's interface.

mod error;
mod http;
pub mod model;

pub use error::{Error, ErrorKind, Result};
pub use model::{Script, ScriptedModel, Step};
