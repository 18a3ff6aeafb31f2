//! The runtime of a conversation: the container in which its agent works, if the server uses one.

use oh_protocol::calls::conversations::{self as calls, RuntimeInfo};

use crate::{Conversation, Request};

/// The runtime of a conversation: see [`Conversation::runtime`].
#[derive(Debug, Clone)]
pub struct Runtime {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the runtime: the container in which the agent works, if the server uses one.
    pub fn runtime(&self) -> Runtime {
        Runtime {
            conversation: self.clone(),
        }
    }
}

impl Runtime {
    /// Returns the status of the conversation's runtime (`GET …/runtime`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without this
    /// endpoint.
    pub fn info(&self) -> Request<RuntimeInfo> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::GetRuntime::new(this.conversation.id());
            this.conversation
                .call_newer("read the runtime", &call)
                .await
        })
    }

    /// Creates the conversation's container again if it is gone (`POST …/runtime/reprovision`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on servers without this
    /// endpoint.
    pub fn reprovision(&self) -> Request<RuntimeInfo> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::Reprovision::new(this.conversation.id());
            this.conversation
                .call_newer("reprovision the runtime", &call)
                .await
        })
    }
}
