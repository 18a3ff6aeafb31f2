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
//! Nothing else approves an action: neither a message nor another call of `run()`. For a user
//! interface, [`Approvals::events`](crate::conversation::Approvals::events) reports requests and
//! withdrawals as they happen. The crate [`hooks`](crate::hooks) offers the alternative that needs
//! no program at run time: a hook denies an action on the server.
