//! The vocabulary of an OpenHands agent server: events, state, configuration and calls.
//!
//! This crate does no I/O and knows no runtime. It turns bytes into [`Event`]s and
//! [`SessionFrame`]s without losing a byte of what came, and typed
//! [`Call`]s into [`Request`]s that some transport can carry.
//!
//! # Kept as it came, typed on top
//!
//! An [`Event`] holds the exact JSON it was made from. Its header (kind, id, timestamp, source,
//! parent) is read at once, its typed [`Payload`] when it is first asked for. Serializing an event
//! gives the bytes it came as. So a server newer than this crate can send kinds, fields and values
//! nobody knew: nothing breaks and nothing is lost.
//!
//! ```
//! use oh_protocol::{Event, Payload, event::Action};
//!
//! let json = r#"{"id":"7a9a","timestamp":"2026-01-02T03:04:05","source":"agent",
//!     "tool_name":"terminal","tool_call_id":"call_1","brand_new_field":[1],
//!     "action":{"command":"ls","kind":"TerminalAction"},"kind":"ActionEvent"}"#;
//! let event = Event::from_json(json)?;
//! assert_eq!(event.kind(), "ActionEvent");
//! if let Payload::Action(call) = event.payload()
//!     && let Some(Action::Terminal(action)) = &call.action
//! {
//!     assert_eq!(&*action.command, "ls");
//! }
//! assert_eq!(event.as_json(), json);
//! # Ok::<(), oh_protocol::Error>(())
//! ```
//!
//! What does not fit a type has a place of its own, on each level:
//!
//! | what came | what it is here |
//! |-|-|
//! | a kind nobody knew | [`Payload::Unknown`], [`Action::Unknown`](event::Action::Unknown), [`Observation::Unknown`](event::Observation::Unknown) |
//! | a known kind whose body does not read | `Malformed`, with what was expected and where; see [`Event::malformed`] |
//! | a value an enum does not have | its `Other`, with the text |
//! | a field nobody knew | in the event's JSON only |
//! | JSON of any shape (tool arguments, schemas) | [`Json`], decoded when asked |
//! | something that is not an event | an [`Error`]; in a page, a batch or a frame an event that keeps its place: [`Event::from_json_lossy`] |
//!
//! Texts are [`Text`]: a `&str` to read, which shares the event's bytes. A held event costs little
//! more than its JSON, before its body is asked for and after.
//!
//! # The stream
//!
//! [`SessionFrame`] reads the messages of the session socket; the legacy socket's messages are
//! bare events. [`ConversationState`] is the state of a conversation as snapshots and single
//! changes build it up, [`Stats`] its cost and tokens.
//!
//! # Asking the server
//!
//! [`calls`] has a type for each operation, which knows its route, its body, how its answer reads,
//! and whether it may be [repeated](Repeat). [`config`] and [`hooks`] say what a conversation is
//! started with. Rules of the server are checked before anything travels, secrets are
//! [`secrecy`] types, and what the server shows in their place is refused where one is expected.

pub mod call;
pub mod calls;
pub mod config;
mod error;
pub mod event;
pub mod frame;
pub mod hooks;
pub mod id;
mod open_enum;
mod printable;
pub mod redact;
mod scan;
pub mod state;
mod text;
mod whole;
mod wire;

pub use call::{Answer, Call, Operation, Repeat, Request};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, Payload, Source};
pub use frame::SessionFrame;
pub use id::ConversationId;
pub use printable::printable;
pub use state::{ConversationState, ExecutionStatus, Stats};
pub use text::{Json, Text};
