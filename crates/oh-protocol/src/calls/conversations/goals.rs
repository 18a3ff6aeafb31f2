//! Goals: the server repeats runs of the agent until a judge considers the goal reached.

use serde::Serialize;

use super::super::call;
use crate::{ConversationId, Error, Request};

/// `POST …/goal`: starts a loop of runs towards an objective. Returns 409 if the conversation is
/// busy. Any user message ends the loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct StartGoal {
    #[serde(skip)]
    conversation: ConversationId,
    objective: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_iterations: Option<u32>,
}

impl StartGoal {
    /// Creates a call with this objective.
    pub fn new(conversation: ConversationId, objective: impl Into<String>) -> Self {
        Self {
            conversation,
            objective: objective.into(),
            max_iterations: None,
        }
    }

    /// Sets the maximum number of rounds, at least 1. Server default: 10.
    pub fn max_iterations(mut self, rounds: u32) -> Self {
        self.max_iterations = Some(rounds);
        self
    }
}

call!(StartGoal => (), POST "/api/conversations/{conversation_id}/goal", Never;
|this| {
    if this.objective.trim().is_empty() {
        return Err(Error::invalid("the objective of a goal must not be empty"));
    }
    if this.max_iterations == Some(0) {
        return Err(Error::invalid("the number of rounds of a goal must be at least 1"));
    }
    Request::new(http::Method::POST, format!("/api/conversations/{}/goal", this.conversation))
        .json(this)
};
|answer| answer.done("response"));

conversation_call! {
    /// `POST …/goal/stop`: ends the loop after the current step.
    StopGoal => (), POST "/api/conversations/{conversation_id}/goal/stop", Idempotent;
    |answer| answer.done("response")
}

conversation_call! {
    /// `POST …/goal/resume`: resumes the last goal. Returns 409 if the conversation is busy.
    ResumeGoal => (), POST "/api/conversations/{conversation_id}/goal/resume", Never;
    |answer| answer.done("response")
}
