//! The vocabulary of an OpenHands agent server: events, state, configuration and calls.
//!
//! This crate does no I/O and knows no runtime. It turns bytes into [`Event`]s and
//! [`SessionFrame`]s without losing a byte of what came, and typed
//! [`Call`]s into [`Request`]s that some transport can carry.
//!
//! # Kept as it came, typed on top
//!
//! An [`Event`] holds the exact JSON it was made from. Its header (kind, id, timestamp,
//! source) is read at once, its typed body only when asked for. So a server newer than this
//! crate can send kinds, fields and values nobody knew: nothing breaks and nothing is lost.

pub mod call;
pub mod calls;
pub mod config;
mod error;
mod escape;
pub mod event;
pub mod frame;
pub mod hooks;
pub mod id;
mod open_enum;
mod scan;
pub mod state;
mod text;
mod wire;

pub use call::{Answer, Call, Operation, Repeat, Request};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, Payload, Source};
pub use frame::SessionFrame;
pub use id::ConversationId;
pub use state::{ConversationState, ExecutionStatus, Stats};
pub use text::{Json, Text};
