//! A conversation with an agent: live events, mirrored state, and runs that return only when they
//! are really over.
//!
//! The server's log is authoritative. A [`Conversation`] keeps a mirror of the log, which one task
//! updates over one socket. A failure costs a reconnect from the last event held, never an event.
//! Each reader has its own position, so a slow reader delays no other.
//!
//! ```no_run
//! # async fn run(workspace: &impl oh_transport::WorkspaceHandle) -> Result<(), oh_conversation::Error> {
//! use oh_conversation::Conversation;
//! use oh_protocol::config::{Agent, Llm};
//!
//! let agent = Agent::default_preset(Llm::new("openai/gpt-5").api_key("sk-…")).cli_mode(true);
//! let conversation = Conversation::builder(workspace, agent)
//!     .on_event(|event| println!("{event}"))
//!     .start()
//!     .await?;
//! conversation.send("Say hello.").await?;
//! let run = conversation.run().max_cost(0.5).await?.ensure_finished()?;
//! println!("{} events, cost ${:?}", run.events(), run.cost());
//! conversation.close().await?;
//! # Ok(()) }
//! ```
//!
//! # Overview
//!
//! | To | see |
//! |-|-|
//! | start a conversation, or find it by its id | [`Conversation::builder`], [`ConversationBuilder`], [`Origin`] |
//! | attach to a conversation by its id | [`Conversation::attach`], [`Attach`] |
//! | read and follow the log | [`Conversation::events`], [`subscribe`](Conversation::subscribe), [`log`](Conversation::log) |
//! | send messages and run the agent | [`send`](Conversation::send), [`run`](Conversation::run), [`join`](Conversation::join), [`pause`](Conversation::pause), [`interrupt`](Conversation::interrupt) |
//! | stream the model's output | [`tokens`](Conversation::tokens) |
//! | approve actions | [`approvals`](Conversation::approvals), [`Approvals`] |
//! | provide tools that this program implements | [`ClientTool`] |
//! | set secrets, switch the model, generate a title | [`secrets`](Conversation::secrets), [`settings`](Conversation::settings), [`title`](Conversation::title) |
//! | go back in the history, or fork | [`branches`](Conversation::branches) |
//! | pursue a goal, or delegate work | [`goals`](Conversation::goals), [`children`](Conversation::children) |
//! | ask the agent a question, read its last response | [`agent`](Conversation::agent) |
//! | track cost and tokens | [`usage`](Conversation::usage), [`RunReport::usage`] |
//! | watch the connection to the server | [`link`](Conversation::link) |
//! | run many conversations | [`Bulk`], [`Conversations`] |
//! | export a conversation | [`trajectory`](EventLog::trajectory), [`completion_log`] |
//!
//! A [`Conversation`] has what every program needs. The rest is grouped in small handles, such as
//! [`approvals`](Conversation::approvals) and [`branches`](Conversation::branches): each is cheap
//! to create and to clone.
//!
//! Settings that the server loses when it restarts (the confirmation policy, the security analyzer)
//! are set again automatically. Values that the server would accept but fail on later are rejected
//! before anything is sent. Requests that the server rejects return an [`Error`] with a
//! [`kind`](Error::kind).

// rustdoc lists the methods of a type in the order of the modules: the main ones come first.
mod start;

mod run;

mod ops;

mod conversation;

mod bulk;
mod client_tools;
mod error;
mod gate;
mod limits;
mod link;
mod lock;
mod mirror;
mod read;
mod request;

// In signatures of this crate.
pub use bulk::{
    Bulk, BulkCancel, BulkHandle, BulkProgress, BulkResult, BulkRun, BulkStage, InFlight, TaskEnd,
    TaskRecord, TaskState, TaskWorkspace,
};
#[cfg(feature = "schemars")]
pub use client_tools::ToolHandler;
pub use client_tools::{ClientTool, ClientToolCall, ToolError, ToolResult};
pub use conversation::origin::{Difference, Origin};
pub use conversation::{Conversation, WeakConversation};
pub use error::{Error, ErrorKind, Result};
pub use gate::pending::PendingAction;
pub use link::tokens::{Token, TokenStream};
pub use mirror::events::{Events, IntoIter, Iter};
pub use mirror::held::LinkStatus;
pub use ops::agent::AgentRequests;
pub use ops::approvals::{ApprovalEvent, ApprovalEvents, Approvals};
pub use ops::branches::Branches;
pub use ops::goals::{Goal, GoalProgress, Goals, StartGoal};
pub use ops::link::LinkHandle;
pub use ops::list::{ConversationList, Conversations};
pub use ops::mcp::McpStatus;
pub use ops::runtime::Runtime;
pub use ops::search::{EventLog, EventSearch};
pub use ops::secrets::{Secret, Secrets};
pub use ops::send::SendMessage;
pub use ops::settings::Settings;
pub use ops::title::{GenerateTitle, Title};
pub use read::callback::Subscription;
pub use read::completions::completion_log;
pub use read::cursor::Cursor;
pub use read::latest::Watch;
pub use read::stream::{EventStream, NumberedEvents};
pub use request::Request;
pub use run::usage::{Usage, UsageHandle};
pub use run::{Run, RunOutcome, RunReport, RunStatus};
#[cfg(feature = "schemars")]
#[doc(no_inline)]
pub use schemars;
#[doc(no_inline)]
pub use secrecy;
pub use start::attach::Attach;
pub use start::builder::ConversationBuilder;
pub use start::children::{Child, Children, StartChild};
pub use start::fork::ForkConversation;
