//! Control of conversations without following them: create, send, run, look, leave.
//!
//! ```no_run
//! # use oh_protocol::{ConversationId, config::Agent};
//! # async fn job(client: &oh_transport::Client, agent: Agent, job: ConversationId)
//! # -> oh_control::Result<()> {
//! use oh_control::Control;
//! use oh_protocol::config::StartConversation;
//!
//! let control = Control::of(client);
//!
//! // The first message is part of the request, and the id comes from the queue. However often a
//! // worker takes the same job, there is one conversation, one message and one run.
//! let start = StartConversation::new(agent, "/workspace")
//!     .conversation_id(job)
//!     .initial_message("Fix the build.");
//! let created = control.create(start).await?;
//! if !created.is_new {
//!     println!("{job} was started before: {}", created.info.execution_status());
//! }
//! # Ok(()) }
//! ```
//!
//! Opens no socket, starts no task and reads no events, so a worker can hand thousands of jobs to a
//! server and exit. To follow a conversation, answer approvals or call client tools, use
//! `oh-conversation`: both can work on the same conversation.
//!
//! **What is never done.** No request is repeated if the server may have executed it and would
//! execute it again. No run is started that could execute an action which waits for approval: see
//! [`Control::run`].

mod control;
mod error;
mod start;

pub use control::Control;
pub use error::{Error, ErrorKind, Result};
pub use start::RunStart;

/// An operation that has not started: see [`RequestFuture`](oh_transport::RequestFuture).
pub type Request<T> = oh_transport::RequestFuture<T, Error>;
