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

mod attach;
mod builder;
mod callback;
mod conversation;
mod endings;
mod error;
mod events;
mod list;
mod log;
mod mirror;
mod operations;
mod pager;
mod run;
mod send;
mod settings;
mod stream;
mod title;
mod tokens;
mod watcher;

pub use attach::Attach;
pub use builder::ConversationBuilder;
pub use callback::Subscription;
pub use conversation::Conversation;
pub use error::{Error, ErrorKind, Result};
pub use events::{Events, IntoIter, Iter};
pub use list::Conversations;
pub use mirror::Link;
pub use operations::ForkConversation;
pub use run::{Run, RunOutcome, RunReport};
pub use send::SendMessage;
pub use stream::{Cursor, EventStream};
pub use title::GenerateTitle;
pub use tokens::{Token, TokenStream};
