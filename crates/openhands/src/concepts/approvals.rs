//! Approvals: the program decides about the agent's actions before they are executed.
//!
//! A [`ConfirmationPolicy`](crate::protocol::config::ConfirmationPolicy) selects the actions that
//! need an approval: all, or those above a risk. When the agent proposes such an action,
//! [`run()`](crate::Conversation::run) returns
//! [`WaitingForConfirmation`](crate::RunStatus::WaitingForConfirmation), and nothing is executed.
//!
//! An answer names the actions that the program has seen. If another program has answered in the
//! meantime, and other actions wait now, the answer is not sent and returns an error. After an
//! approval the agent continues; `run()` joins this run.
//!
//! ```no_run
//! # async fn supervise(conversation: &openhands::Conversation)
//! # -> openhands::conversation::Result<()> {
//! use openhands::{RunStatus, protocol::config::ConfirmationPolicy};
//!
//! let approvals = conversation.approvals();
//! approvals.set_policy(ConfirmationPolicy::always()).await?;
//! conversation.send("Tidy the directory.").await?;
//! while conversation.run().await?.status() == RunStatus::WaitingForConfirmation {
//!     let actions = approvals.pending();
//!     match actions.iter().all(|action| action.tool_name() == "file_editor") {
//!         true => approvals.approve(&actions).await?,
//!         false => approvals.reject(&actions, "Only edit files.").await?,
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! The server loses a policy that was set at run time when it restarts, and does not apply it to
//! [children](crate::Conversation::children). The handle sets it again, and refuses to start such
//! children. A policy that is set at the creation needs neither.
//!
//! Only an answer approves an action. A message or another call of `run()` does not. For a user
//! interface, [`Approvals::events`](crate::conversation::Approvals::events) reports requests and
//! withdrawals as they happen. A [hook](crate::hooks) is an alternative that runs on the server: it
//! denies actions without this program.
