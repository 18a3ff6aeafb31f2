//! Run outcomes: when [`run()`](crate::Conversation::run) returns, and with which result.
//!
//! A run is over when the server has released the run, not when the log first contains `finished`:
//! a Stop hook or a late message can send the agent back to work. `run()` waits for the real end,
//! and for every event before it. Dropping the future, or a timeout, ends the wait and not the run;
//! the next `run()` joins the run in progress.
//!
//! [`RunOutcome::status`](crate::RunOutcome::status) returns how the run ended. Treat each status
//! that you do not handle as an error:
//!
//! ```no_run
//! # async fn work(conversation: &openhands::Conversation)
//! # -> openhands::conversation::Result<()> {
//! use openhands::RunStatus;
//! use std::time::Duration;
//!
//! let run = conversation.run().max_cost(0.50).timeout(Duration::from_secs(600)).await?;
//! match run.status() {
//!     RunStatus::Finished => println!("done, {} events", run.events()),
//!     RunStatus::WaitingForConfirmation => println!("see `approvals`"),
//!     RunStatus::BudgetReached => println!("stopped at 50 cents"),
//!     RunStatus::StillRunning => conversation.interrupt().await?,
//!     other => println!("{other:?}: {run}"),
//! }
//! # Ok(()) }
//! ```
//!
//! If only a finished agent counts, `ensure_finished` turns every other outcome into an error:
//!
//! ```no_run
//! # async fn work(conversation: &openhands::Conversation)
//! # -> openhands::conversation::Result<()> {
//! let run = conversation.run().await?.ensure_finished()?;
//! println!("cost: {:?}", run.cost());
//! # Ok(()) }
//! ```
//!
//! [`Run`](crate::conversation::Run) also has an idle timeout and a token limit.
//! [`pause`](crate::Conversation::pause) stops after the current step,
//! [`interrupt`](crate::Conversation::interrupt) at once. Both leave the conversation usable:
//! another `run()` continues.
