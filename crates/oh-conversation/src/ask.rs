//! Requests to a conversation: questions, its description, and condensing its history.

use oh_protocol::{
    calls::conversations::{self as calls, RuntimeInfo},
    state::ConversationInfo,
};

use crate::{Conversation, ErrorKind, Result};

impl Conversation {
    /// Asks the agent's model about the conversation, without adding to its log
    /// (`POST …/ask_agent`). This is one model call, which counts towards this conversation's cost.
    ///
    /// # Errors
    ///
    /// Returns an error if the model returns no answer, or the request fails.
    pub async fn ask_agent(&self, question: impl Into<String>) -> Result<String> {
        let call = calls::Ask::new(self.id(), question);
        self.call("ask the agent a question", &call).await
    }

    /// Returns the agent's last response on the visible branch, from `finish` or as text; empty
    /// before the first one (`GET …/agent_final_response`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub async fn final_response(&self) -> Result<String> {
        let call = calls::FinalResponse::new(self.id());
        self.call("read the final response", &call).await
    }

    /// Condenses the history now with the agent's condenser, which takes a model call
    /// (`POST …/condense`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the agent has no condenser;
    /// other kinds if the model or the request fails.
    pub async fn condense(&self) -> Result<()> {
        let call = calls::Condense::new(self.id());
        let condensed = self.call("condense", &call).await;
        // Older servers (1.43) return 500 where newer ones return a conflict.
        condensed.map_err(|error| match error.says("No condenser configured") {
            true => error.of_kind(|_| ErrorKind::Conflict),
            false => error,
        })
    }

    /// Requests the server's current description of the conversation
    /// (`GET /api/conversations/{conversation_id}`). During a run its state lags behind
    /// [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// Returns an error if the server no longer has the conversation, or the request fails.
    pub async fn info(&self) -> Result<ConversationInfo> {
        let call = calls::Get::new(self.id());
        self.call("read", &call).await
    }

    /// Returns the status of the conversation's runtime (`GET …/runtime`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without this
    /// endpoint.
    pub async fn runtime(&self) -> Result<RuntimeInfo> {
        let call = calls::GetRuntime::new(self.id());
        self.call_newer("read the runtime", &call).await
    }

    /// Creates the conversation's container again if it is gone (`POST …/runtime/reprovision`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without this
    /// endpoint.
    pub async fn reprovision(&self) -> Result<RuntimeInfo> {
        let call = calls::Reprovision::new(self.id());
        self.call_newer("reprovision the runtime", &call).await
    }
}
