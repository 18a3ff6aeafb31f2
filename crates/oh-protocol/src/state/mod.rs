//! What the server says of a conversation as a whole.

use crate::open_enum::open_enum;

open_enum! {
    /// What a conversation is doing, in the server's own words (`execution_status`).
    ExecutionStatus {
        /// Ready for a message or a run.
        Idle = "idle",
        /// A run is under way.
        Running = "running",
        /// Paused by someone; a run continues it.
        Paused = "paused",
        /// An action awaits approval.
        WaitingForConfirmation = "waiting_for_confirmation",
        /// The agent declared itself done. A Stop hook may still turn this into `running`.
        Finished = "finished",
        /// A run failed; it can be run again.
        Error = "error",
        /// The stuck detector ended the run.
        Stuck = "stuck",
        /// The conversation is being deleted (webhooks only).
        Deleting = "deleting",
    }
}

impl ExecutionStatus {
    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}
