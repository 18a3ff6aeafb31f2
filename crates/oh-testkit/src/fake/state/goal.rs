//! The goal of a conversation.

use tokio_util::sync::CancellationToken;

/// An active or ended goal.
#[derive(Clone)]
pub(crate) struct Goal {
    pub(crate) objective: String,
    pub(crate) most: u64,
    pub(crate) rounds: u64,
    /// `running`, `complete`, `capped` or `interrupted`.
    pub(crate) status: &'static str,
    pub(crate) stop: CancellationToken,
}

impl Goal {
    pub(crate) fn is_active(&self) -> bool {
        self.status == "running"
    }
}
