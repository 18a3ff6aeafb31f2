//! A conversation with an agent: live events, mirrored state, and a run that ends when it ends.
//!
//! The server's log is the truth. A [`Conversation`] keeps a mirror of it, fed by one task over
//! one socket; whatever fails in between costs a reconnect from the last event held, never an
//! event. Readers have positions of their own, so a slow one delays nobody.
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
//! # What there is
//!
//! | To | see |
//! |-|-|
//! | start one, or find it by its id | [`Conversation::builder`], [`ConversationBuilder`], [`Origin`] |
//! | attach to one by its id | [`Conversation::attach`], [`Attach`] |
//! | read its log, and go on reading | [`Conversation::events`], [`subscribe`](Conversation::subscribe), [`search_events`](Conversation::search_events) |
//! | talk to the agent, and run it | [`send`](Conversation::send), [`run`](Conversation::run), [`join`](Conversation::join), [`pause`](Conversation::pause), [`interrupt`](Conversation::interrupt) |
//! | see it write | [`tokens`](Conversation::tokens) |
//! | approve what it does | [`approvals`](Conversation::approvals), [`Approvals`] |
//! | give it tools of this program | [`ClientTool`] |
//! | give it secrets, another model, a title | [`set_secrets`](Conversation::set_secrets), [`switch_llm`](Conversation::switch_llm), [`generate_title`](Conversation::generate_title) |
//! | go back, or try twice | [`branch`](Conversation::branch), [`navigate`](Conversation::navigate), [`fork`](Conversation::fork) |
//! | let it reach a goal, or split work | [`start_goal`](Conversation::start_goal), [`start_child`](Conversation::start_child) |
//! | know what it costs | [`usage`](Conversation::usage), [`RunReport::usage`] |
//! | run many | [`Bulk`], [`Conversation::list`] |
//! | take it away | [`trajectory`](Conversation::trajectory), [`completion_log`] |
//!
//! What a program sets and the server forgets when it restarts (the confirmation policy, the
//! security analyzer) is told to it again. What the server would take and choke on later is
//! refused before anything is sent; what it refuses is an [`Error`] with a [`kind`](Error::kind).

mod answered;
mod approvals;
mod ask;
mod attach;
mod branches;
mod builder;
mod bulk;
mod callback;
mod children;
mod client_tools;
mod completions;
mod conversation;
mod endings;
mod error;
mod events;
mod gate;
mod goals;
mod latest;
mod lineage;
mod list;
mod log;
mod mcp;
mod mirror;
mod pager;
mod run;
mod search;
mod secrets;
mod send;
mod settings;
mod shared;
mod stream;
mod title;
mod tokens;
mod trajectory;
mod usage;
mod view;
mod watcher;

pub use approvals::{ApprovalEvent, ApprovalEvents, Approvals, PendingAction};
pub use attach::Attach;
pub use branches::ForkConversation;
pub use builder::{ConversationBuilder, Difference, Origin};
pub use bulk::{
    Bulk, BulkCancel, BulkHandle, BulkProgress, BulkResult, BulkRun, BulkStage, InFlight,
};
pub use callback::Subscription;
pub use children::{Child, StartChild};
pub use client_tools::{ClientTool, ClientToolCall, ToolResult};
pub use completions::completion_log;
pub use conversation::{Conversation, WeakConversation};
pub use error::{Error, ErrorKind, Result};
pub use events::{Events, IntoIter, Iter};
pub use goals::{Goal, GoalProgress, StartGoal};
pub use latest::Latest;
pub use list::Conversations;
pub use mcp::McpStatus;
pub use mirror::Link;
pub use run::{Run, RunOutcome, RunReport, RunStatus};
pub use search::EventSearch;
pub use secrets::Secret;
pub use send::SendMessage;
pub use stream::{Cursor, EventStream};
pub use title::GenerateTitle;
pub use tokens::{Token, TokenStream};
pub use usage::{Usage, UsageStream};
