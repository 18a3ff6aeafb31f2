//! The conditions of requests, apart from a run and an approval, that make the server execute a
//! step of the agent: a goal, and condensing.

use super::turn::Turn;
use crate::{Conversation, Error, ErrorKind, Result, gate::Standing};

impl Conversation {
    /// Waits for the turn to send a request that makes the server execute a step of the agent. Any
    /// step begins with the execution of all actions without an answer, whether they were approved
    /// or not. So this fails if an action waits for approval as of the server's newest event, or if
    /// a run may propose one before the request arrives. `what` is requested, for errors.
    ///
    /// Settings that the server has lost are sent again first, because the step may propose
    /// actions.
    pub(crate) async fn turn_to_step(&self, what: &str) -> Result<Turn> {
        let turn = self.turn_soon().await?;
        self.restore_soon().await?;
        self.check_before_step(what).await?;
        if !self.is_vacant().await {
            return Err(self.is_busy(what));
        }
        self.check_before_step(what).await?;
        Ok(turn)
    }

    async fn check_before_step(&self, what: &str) -> Result<()> {
        match self.standing_soon().await? {
            Standing::Clear => Ok(()),
            Standing::Running => Err(self.is_busy(what)),
            Standing::Waiting(_) => {
                let reason =
                    format!("an action is waiting for approval, and {what} would execute it");
                let error = Error::new(ErrorKind::PendingConfirmation, self.id(), reason);
                Err(error.advise("approve or reject it first"))
            }
        }
    }

    fn is_busy(&self, what: &str) -> Error {
        let reason = format!("a run is in progress, and {what} could execute its next action");
        let error = Error::new(ErrorKind::Conflict, self.id(), reason);
        error.advise("nothing was sent; wait for the end of the run with `join`")
    }
}
