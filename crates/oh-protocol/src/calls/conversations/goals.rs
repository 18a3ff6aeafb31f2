//! Goals: the server runs the agent again and again until a judge says that it is done.

use serde::Serialize;

use super::super::call;
use crate::{ConversationId, Error, Request};

/// `POST …/goal`: starts a loop of runs towards an objective. 409 while the conversation is busy.
/// Any message of a user ends it.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct StartGoal {
    #[serde(skip)]
    conversation: ConversationId,
    objective: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_iterations: Option<u32>,
}

impl StartGoal {
    /// Towards this.
    pub fn new(conversation: ConversationId, objective: impl Into<String>) -> Self {
        Self {
            conversation,
            objective: objective.into(),
            max_iterations: None,
        }
    }

    /// After how many rounds it ends in any case, at least 1. Server's default: 10.
    pub fn max_iterations(mut self, rounds: u32) -> Self {
        self.max_iterations = Some(rounds);
        self
    }
}

call!(StartGoal => (), POST "/api/conversations/{conversation_id}/goal", Never;
|this| {
    if this.objective.trim().is_empty() {
        return Err(Error::invalid("a goal needs an objective"));
    }
    if this.max_iterations == Some(0) {
        return Err(Error::invalid("a goal needs at least one round"));
    }
    Request::new(http::Method::POST, format!("/api/conversations/{}/goal", this.conversation))
        .json(this)
};
|_answer| Ok(()));

conversation_call! {
    /// `POST …/goal/stop`: ends the loop after the current step.
    StopGoal => (), POST "/api/conversations/{conversation_id}/goal/stop", Idempotent;
    |_answer| Ok(())
}

conversation_call! {
    /// `POST …/goal/resume`: takes the last goal up again. 409 while the conversation is busy.
    ResumeGoal => (), POST "/api/conversations/{conversation_id}/goal/resume", Never;
    |_answer| Ok(())
}
