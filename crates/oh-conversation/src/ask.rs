//! What a conversation can be asked for: answers, a description, a shorter history. Knows no runs
//! and no settings.

use oh_protocol::{
    calls::conversations::{self as calls, RuntimeInfo},
    state::ConversationInfo,
};

use crate::{Conversation, ErrorKind, Result};

impl Conversation {
    /// Asks the agent's model about the conversation, without leaving a trace in it
    /// (`POST …/ask_agent`). It is one model call, which this conversation pays for.
    ///
    /// # Errors
    ///
    /// When the model gives no answer, or the server cannot be asked.
    pub async fn ask_agent(&self, question: impl Into<String>) -> Result<String> {
        let call = calls::Ask::new(self.id(), question);
        self.call("ask the agent", &call).await
    }

    /// What the agent said last on the visible branch, with `finish` or as text; empty while it
    /// has said nothing (`GET …/agent_final_response`).
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn final_response(&self) -> Result<String> {
        let call = calls::FinalResponse::new(self.id());
        self.call("read the final response", &call).await
    }

    /// Lets the agent's condenser shorten the history now, with a model call (`POST …/condense`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when the agent has no condenser;
    /// others when the model fails, or the server cannot be asked.
    pub async fn condense(&self) -> Result<()> {
        let call = calls::Condense::new(self.id());
        let condensed = self.call("condense", &call).await;
        // Older servers (1.43) answer 500 for what newer ones call a conflict.
        condensed.map_err(|error| match error.says("No condenser configured") {
            true => error.of_kind(|_| ErrorKind::Conflict),
            false => error,
        })
    }

    /// The server's description of it, fresh (`GET /api/conversations/{conversation_id}`). What
    /// it says of the state lags behind [`state`](Self::state) while a run is under way.
    ///
    /// # Errors
    ///
    /// When the server does not have it any more, or cannot be asked.
    pub async fn info(&self) -> Result<ConversationInfo> {
        let call = calls::Get::new(self.id());
        self.call("read", &call).await
    }

    /// Whether what it runs in is there (`GET …/runtime`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers that do not tell.
    pub async fn runtime(&self) -> Result<RuntimeInfo> {
        let call = calls::GetRuntime::new(self.id());
        self.call_newer("read the runtime", &call).await
    }

    /// Makes again what it runs in, where that is a container which is gone
    /// (`POST …/runtime/reprovision`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers that cannot.
    pub async fn reprovision(&self) -> Result<RuntimeInfo> {
        let call = calls::Reprovision::new(self.id());
        self.call_newer("make the runtime again", &call).await
    }
}
