//! Answers to the actions that wait for approval.

use openhands::{
    Conversation,
    conversation::{ErrorKind, PendingAction},
};

use super::input::Answer;
use crate::exit::Failure;

/// Answers exactly these actions. Returns a message if other actions wait by now: another program
/// was faster, and its answer counts.
pub(crate) async fn answer(
    conversation: &Conversation,
    actions: &[PendingAction],
    answer: Answer,
) -> Result<Option<String>, Failure> {
    let approvals = conversation.approvals();
    let answered = match answer.approve {
        true => approvals.approve(actions).await,
        false => {
            let reason = answer
                .reason
                .unwrap_or_else(|| "The user rejected this.".to_owned());
            approvals.reject(actions, reason).await
        }
    };
    match answered {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Returns the ids that an answer must name.
pub(crate) fn ids(actions: &[PendingAction]) -> Vec<String> {
    let ids = actions.iter().map(PendingAction::id);
    ids.map(str::to_owned).collect()
}
