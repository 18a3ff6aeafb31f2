//! A conversation with an agent: live events, mirrored state, and a run that ends when it ends.
//!
//! The server's log is the truth. A [`Conversation`] keeps a mirror of it, fed by one task over
//! one socket; whatever fails in between costs a reconnect from the last event held, never an
//! event. Readers have positions of their own, so a slow one delays nobody.
//!
//! ```no_run
//! # async fn run(workspace: &impl oh_transport::WorkspaceHandle) -> Result<(), oh_conversation::Error> {
//! use oh_conversation::{Conversation, RunOutcome};
//! use oh_protocol::config::{Agent, Llm};
//!
//! let agent = Agent::default_preset(Llm::new("openai/gpt-5").api_key("sk-…")).cli_mode(true);
//! let conversation = Conversation::builder(workspace, agent)
//!     .on_event(|event| println!("{event}"))
//!     .start()
//!     .await?;
//! conversation.send("Say hello.").await?;
//! if let RunOutcome::Finished(run) = conversation.run().await? {
//!     println!("cost ${}", run.cost());
//! }
//! conversation.close().await?;
//! # Ok(()) }
//! ```

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
mod goals;
mod latest;
mod list;
mod log;
mod mirror;
mod pager;
mod pending;
mod run;
mod search;
mod secrets;
mod send;
mod settings;
mod stream;
mod title;
mod tokens;
mod trajectory;
mod usage;
mod watcher;

pub use attach::Attach;
pub use branches::ForkConversation;
pub use builder::{ConversationBuilder, Difference, Origin};
pub use bulk::{Bulk, BulkRun, Done};
pub use callback::Subscription;
pub use children::{Child, StartChild};
pub use client_tools::{ClientTool, ClientToolCall, ToolResult};
pub use completions::completion_log;
pub use conversation::Conversation;
pub use error::{Error, ErrorKind, Result};
pub use events::{Events, IntoIter, Iter};
pub use goals::{Goal, GoalProgress, StartGoal};
pub use latest::Latest;
pub use list::Conversations;
pub use mirror::Link;
pub use pending::{Pending, PendingAction, PendingStream};
pub use run::{Run, RunOutcome, RunReport};
pub use search::EventSearch;
pub use secrets::Secret;
pub use send::SendMessage;
pub use stream::{Cursor, EventStream};
pub use title::GenerateTitle;
pub use tokens::{Token, TokenStream};
pub use usage::{Usage, UsageStream};
