//! Limits for the costs and tokens of a run. Contains no I/O.

use oh_protocol::ConversationId;

use crate::{Error, ErrorKind, Result, Usage};

/// Limits for the costs and tokens of a run. By default there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Budget {
    pub(crate) max_cost: Option<f64>,
    pub(crate) max_total_cost: Option<f64>,
    pub(crate) max_tokens: Option<u64>,
}

impl Budget {
    /// Returns an error if a limit is negative or not a number: such a limit would never end a run,
    /// or always.
    pub(crate) fn check(&self, id: ConversationId) -> Result<()> {
        for (name, limit) in [
            ("max_cost", self.max_cost),
            ("max_total_cost", self.max_total_cost),
        ] {
            if limit.is_some_and(|limit| limit.is_nan() || limit < 0.0) {
                let what = format!("{name}: must be at least 0");
                return Err(Error::new(ErrorKind::InvalidInput, id, what));
            }
        }
        Ok(())
    }

    /// Returns whether a run with this usage has reached a limit. Without usage none is reached.
    pub(super) fn is_used_up(&self, used: &Usage) -> bool {
        let tokens = used
            .prompt_tokens()
            .saturating_add(used.completion_tokens());
        is_reached(self.max_cost, used)
            || self
                .max_tokens
                .is_some_and(|limit| tokens >= limit && tokens > 0)
    }

    /// Returns whether a conversation with this usage has reached the limit of its total cost.
    pub(super) fn is_total_used_up(&self, total: &Usage) -> bool {
        is_reached(self.max_total_cost, total)
    }
}

fn is_reached(limit: Option<f64>, usage: &Usage) -> bool {
    let cost = usage.total().accumulated_cost;
    limit.is_some_and(|limit| cost >= limit && cost > 0.0)
}
