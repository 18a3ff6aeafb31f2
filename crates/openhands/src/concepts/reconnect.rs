//! Reconnect: what happens when the connection or the server fails.
//!
//! A lost connection is repaired without help from the program. The client reconnects with growing
//! delays and continues after the last event it has. Readers only notice a pause.
//! [`link().status()`](crate::conversation::LinkHandle::status) is the state of the connection:
//!
//! | Status | Meaning |
//! |-|-|
//! | [`Connecting`](crate::conversation::LinkStatus::Connecting) | no connection; the client keeps trying |
//! | [`Replaying`](crate::conversation::LinkStatus::Replaying) | connected; history is still arriving |
//! | [`Live`](crate::conversation::LinkStatus::Live) | the mirror has all events of the server |
//! | [`Polling`](crate::conversation::LinkStatus::Polling) | sockets are refused; events arrive by REST |
//! | [`Ended`](crate::conversation::LinkStatus::Ended) | closed, or failed for a reason that a reconnect cannot fix |
//!
//! A link ends only for a reason that a reconnect cannot fix: the conversation was closed, deleted
//! or replaced by another one with its id, the session key is rejected, another server holds the
//! lease, or the server has ended permanently. Streams then yield the error and end:
//!
//! ```no_run
//! # async fn show(conversation: &openhands::Conversation) {
//! use openhands::conversation::LinkStatus;
//!
//! let link = conversation.link();
//! let mut changes = link.changes();
//! while let Some(status) = changes.next().await {
//!     match (status, link.last_error()) {
//!         (LinkStatus::Live, _) => println!("connected"),
//!         (LinkStatus::Ended, Some(error)) => println!("ended: {error}"),
//!         (status, Some(error)) => println!("{status:?}: {error}"),
//!         (status, None) => println!("{status:?}"),
//!     }
//! }
//! # }
//! ```
//!
//! Requests follow one rule: a request that is not safe to repeat is sent once. If the response to
//! a message or to a run is lost, the client looks in the log for its effect. If the log does not
//! show it, the error has the kind
//! [`Ambiguous`](crate::conversation::ErrorKind::Ambiguous), and the program decides.
//!
//! A [`LocalServer`](crate::process) that has crashed can be restarted automatically. Conversations
//! of this server then reconnect, and settings that the server has lost are set again.
