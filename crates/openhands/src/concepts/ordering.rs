//! Ordering: every event once, in the order of the server's log.
//!
//! The server numbers the events of a conversation. Every reader gets each persisted event exactly
//! once and in this order: each stream, each callback, and each of several programs. The timestamps
//! are not used for the order, because two events can have the same one.
//!
//! Events that arrive early wait until the gap before them is filled. The client reads the missing
//! events from the log. An event of an unknown kind, or one that cannot be decoded, keeps its
//! place and its exact bytes: see [`Payload::Unknown`](crate::Payload::Unknown) and
//! [`Payload::Malformed`](crate::Payload::Malformed).
//!
//! ```
//! use openhands::{Event, Payload};
//!
//! let json = r#"{"kind":"NewEvent","id":"1","timestamp":"2026-01-02T03:04:05","source":"agent"}"#;
//! let event = Event::from_json(json)?;
//! assert!(matches!(event.payload(), Payload::Unknown));
//! assert_eq!(event.as_json(), json);
//! # Ok::<(), openhands::protocol::Error>(())
//! ```
//!
//! Two kinds of data are outside of this order:
//!
//! - [`tokens()`](crate::Conversation::tokens) streams the model's text while it is written. Tokens
//!   are not stored. The finished text arrives as an event.
//! - [`states()`](crate::Conversation::states) yields the newest state. It skips states that were
//!   replaced before they were read.
