//! The data types of the OpenHands agent server protocol: events, state, configuration and calls.
//!
//! The crate contains no I/O and needs no runtime. It decodes bytes into [`Event`]s and
//! [`SessionFrame`]s without losing data, and encodes typed [`Call`]s as [`Request`]s that a
//! transport can send.
//!
//! # Raw JSON with typed access
//!
//! An [`Event`] keeps the exact JSON that it was decoded from. The header (kind, id, timestamp,
//! source, parent) is decoded at once, and the typed [`Payload`] on first access. Serializing an
//! event returns the original bytes. A server that is newer than this crate can therefore send
//! unknown kinds, fields and values without breaking the client or losing data.
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
//! Data that does not fit a type is represented on each level:
//!
//! | Data from the server | Representation |
//! |-|-|
//! | an unknown kind | [`Payload::Unknown`], [`Action::Unknown`], [`Observation::Unknown`] |
//! | a known kind with an invalid body | `Malformed`, with the reason; see [`Event::malformed`] |
//! | an unknown value of an enum | the `Other` variant, with the text |
//! | an unknown field | available in the event's JSON only |
//! | JSON of any shape (tool arguments, schemas) | [`Json`], decoded on demand |
//! | data that is not an event | an [`Error`]; see also [`Event::from_json_lossy`] |
//!
//! [`Action::Unknown`]: event::Action::Unknown
//! [`Observation::Unknown`]: event::Observation::Unknown
//!
//! If an entry of a page, a batch or a frame is not an event, a placeholder keeps its position.
//!
//! Strings are of type [`Text`], which dereferences to `&str` and shares the event's bytes. An
//! event needs little more memory than its JSON, even after its payload has been decoded.
//!
//! # The event stream
//!
//! [`SessionFrame`] decodes the messages of the session socket. The messages of the legacy socket
//! are plain events. [`ConversationState`] is the state of a conversation, built from snapshots and
//! single changes; [`Stats`] contains the cost and token usage.
//!
//! # Calls
//!
//! [`calls`] has a type for each operation of the server. The type defines the route, the body, how
//! the response is decoded, and whether the operation may be [repeated](Repeat). [`config`] and
//! [`hooks`] contain the options for starting a conversation. The server's rules are checked before
//! anything is sent. Secrets use the [`secrecy`] types, and the server's mask for a secret is
//! rejected where a real secret is expected.

pub mod call;
pub mod calls;
pub mod config;
mod error;
#[doc(hidden)]
pub mod errors;
pub mod event;
pub mod frame;
pub mod hooks;
pub mod id;
mod json;
mod printable;
pub mod reason;
pub mod redact;
pub mod state;
mod time;

// In signatures of this crate.
pub use call::{Answer, Call, Operation, Repeat, Request};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, Payload, Source};
pub use frame::SessionFrame;
pub use id::ConversationId;
pub use json::text::{Json, Text};
pub use printable::printable;
#[doc(no_inline)]
pub use secrecy;
pub use state::{ConversationState, ExecutionStatus, Stats};
