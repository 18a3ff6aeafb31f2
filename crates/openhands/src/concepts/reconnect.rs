//! Reconnect: what happens when the connection or the server fails.
//!
//! A lost connection is repaired without help from the program. The client reconnects with growing
//! delays and continues after the last event it has. Readers only notice a pause.
//! [`link()`](crate::Conversation::link) shows the state of the connection:
//!
//! | Link | Meaning |
//! |-|-|
//! | [`Connecting`](crate::conversation::Link::Connecting) | no connection; the client keeps trying |
//! | [`Replaying`](crate::conversation::Link::Replaying) | connected; history is still arriving |
//! | [`Live`](crate::conversation::Link::Live) | the mirror has all events of the server |
//! | [`Polling`](crate::conversation::Link::Polling) | sockets are refused; events arrive by REST |
//! | [`Ended`](crate::conversation::Link::Ended) | closed, or failed for a reason that a reconnect cannot fix |
//!
//! A link ends only for a reason that a reconnect cannot fix: the conversation was closed, deleted
//! or replaced by another one with its id, the session key is rejected, another server holds the
//! lease, or the server has ended permanently. Streams then yield the error and end:
//!
//! ```no_run
//! # async fn show(conversation: &openhands::Conversation) {
//! use openhands::conversation::Link;
//!
//! let mut links = conversation.links();
//! while let Some(link) = links.next().await {
//!     match (link, conversation.last_error()) {
//!         (Link::Live, _) => println!("connected"),
//!         (Link::Ended, Some(error)) => println!("ended: {error}"),
//!         (link, Some(error)) => println!("{link:?}: {error}"),
//!         (link, None) => println!("{link:?}"),
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
