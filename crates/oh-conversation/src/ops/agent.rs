//! Requests to the agent: questions, its last response, and condensing its history.

use oh_protocol::calls::conversations as calls;

use crate::{Conversation, ErrorKind, Request};

/// Requests to the agent of a conversation: see [`Conversation::agent`].
#[derive(Debug, Clone)]
pub struct AgentRequests {
    pub(crate) conversation: Conversation,
}

impl Conversation {
    /// Returns the requests to the agent: questions, its last response, and condensing its history.
    pub fn agent(&self) -> AgentRequests {
        AgentRequests {
            conversation: self.clone(),
        }
    }
}

impl AgentRequests {
    /// Asks the agent's model about the conversation, without adding to its log
    /// (`POST …/ask_agent`). This is one model call, which counts towards this conversation's cost.
    ///
    /// # Errors
    ///
    /// Returns an error if the model returns no answer, or the request fails.
    pub fn ask(&self, question: impl Into<String>) -> Request<String> {
        let question = question.into();
        let this = self.clone();
        Request::new(async move {
            let call = calls::Ask::new(this.conversation.id(), question);
            this.conversation
                .call("ask the agent a question", &call)
                .await
        })
    }

    /// Returns the agent's last response on the visible branch, from `finish` or as text; empty
    /// before the first one (`GET …/agent_final_response`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn final_response(&self) -> Request<String> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::FinalResponse::new(this.conversation.id());
            this.conversation
                .call("read the final response", &call)
                .await
        })
    }

    /// Condenses the history now with the agent's condenser, which takes a model call
    /// (`POST …/condense`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the agent has no condenser;
    /// other kinds if the model or the request fails.
    pub fn condense(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::Condense::new(this.conversation.id());
            let condensed = this.conversation.call("condense", &call).await;
            // Older servers (1.43) return 500 where newer ones return a conflict.
            condensed.map_err(|error| match error.says("No condenser configured") {
                true => error.of_kind(|_| ErrorKind::Conflict),
                false => error,
            })
        })
    }
}
