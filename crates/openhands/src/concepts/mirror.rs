//! Mirror and cursor: the local copy of a conversation, and the position of a reader.
//!
//! The server's log is authoritative. A [`Conversation`](crate::Conversation) keeps a *mirror* of
//! it: the events and the state. One task updates the mirror over one socket, and all handles of a
//! conversation in a process share it. Reading the mirror is cheap and sends no request:
//!
//! - [`events()`](crate::Conversation::events) returns the events so far, as an immutable list.
//! - [`state()`](crate::Conversation::state) returns the state: status, agent, metrics.
//!
//! A *cursor* is a position in the log. Each stream of
//! [`subscribe`](crate::Conversation::subscribe) has its own, so a slow reader delays no other
//! reader and loses nothing. Begin with [`Cursor::Start`](crate::Cursor::Start) for the whole log,
//! with [`Cursor::Now`](crate::Cursor::Now) for new events, or with a stored position:
//!
//! ```no_run
//! # async fn follow(conversation: &openhands::Conversation, stored: u64)
//! # -> openhands::conversation::Result<()> {
//! use openhands::Cursor;
//!
//! let mut events = conversation.subscribe(Cursor::After(stored));
//! while let Some(event) = events.next().await {
//!     println!("{}", event?);
//!     if let Some(seq) = events.seq() {
//!         // Store `seq`, to continue here after a restart of the program.
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! The mirror keeps all events by default. For long conversations,
//! [`keep_last`](crate::conversation::Attach::keep_last) limits the memory, and
//! [`tail`](crate::conversation::Attach::tail) skips old events. Streams read missing events from
//! the server on demand.
