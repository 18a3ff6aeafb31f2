//! Requests to the agent: questions, its last response, and condensing its history.

use oh_protocol::calls::conversations as calls;

use crate::{Conversation, Error, ErrorKind, Request};

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
    /// The server executes a step of the agent for this, and any step begins with the execution of
    /// all actions without an answer. The request is therefore sent once, and only if nothing waits
    /// for approval and no run is in progress, as of the server's newest event.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::PendingConfirmation`] while an action waits for approval.
    /// - [`ErrorKind::Conflict`] while a run is in progress, or if the agent has no condenser.
    /// - [`ErrorKind::Ambiguous`] if the connection failed, or a gateway gave up waiting for the
    ///   server, and the log does not show the condensation.
    /// - [`ErrorKind::Timeout`] if the standing of the conversation cannot be determined in time.
    /// - Other kinds if the model or the request fails.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the request may or may not have been sent.
    pub fn condense(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let conversation = &this.conversation;
            let turn = conversation.turn_to_step("condensing").await?;
            let held = conversation.mirror().read().log.end();
            let call = calls::Condense::new(conversation.id());
            let mut sent = turn.send(conversation.client(), call);
            match conversation.answer(&mut sent).await {
                Ok(()) => Ok(()),
                Err(error) if error.is_unclear() => {
                    let condensed = || {
                        let log = conversation.mirror().read().log.clone();
                        let mut new = log.range(held..log.end());
                        new.any(|event| event.kind() == "Condensation")
                    };
                    match conversation.shows_effect(condensed).await {
                        true => Ok(()),
                        false => Err(Error::ambiguous(
                            conversation.id(),
                            "condensed the history",
                            error,
                        )),
                    }
                }
                Err(error) => {
                    let error = Error::transport(conversation.id(), "condense", error);
                    // Older servers (1.43) return 500 where newer ones return a conflict.
                    Err(match error.says("No condenser configured") {
                        true => error.of_kind(|_| ErrorKind::Conflict),
                        false => error,
                    })
                }
            }
        })
    }
}
