//! The runtime of a conversation: the container in which its agent works, if the server uses one.

use http::StatusCode;
use oh_protocol::{
    Call,
    calls::conversations::{self as calls, RuntimeInfo},
};
use secrecy::SecretString;

use crate::{Conversation, ErrorKind, Request, Result};

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
    /// Returns [`ErrorKind::Unsupported`] on servers without this endpoint.
    pub fn info(&self) -> Request<RuntimeInfo> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::GetRuntime::new(this.conversation.id());
            this.conversation
                .call_newer("read the runtime", &call)
                .await
        })
    }

    /// Creates the conversation's container again if it is gone (`POST …/runtime/reprovision`), and
    /// waits until it is ready.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`] on servers without this endpoint.
    pub fn reprovision(&self) -> Request<RuntimeInfo> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::Reprovision::new(this.conversation.id());
            this.conversation
                .call_newer("reprovision the runtime", &call)
                .await
        })
    }

    /// Stops and removes the conversation's container (`DELETE …/runtime`). The events and the
    /// files in the workspace are kept, and the events can still be read. Any other request for the
    /// conversation creates a new container, as [`reprovision`](Self::reprovision) does. So does a
    /// link that connects again: close the conversation's handles first.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`] if the conversation does not run in a container.
    pub fn release(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::Release::new(this.conversation.id());
            this.in_container("release the runtime", &call).await
        })
    }

    /// Returns the session key of the server in the conversation's container
    /// (`POST …/runtime/credentials`), for a client that connects to the container directly. The
    /// key stays the same when the container is created again.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`] if the conversation does not run in a container.
    pub fn session_api_key(&self) -> Request<SecretString> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::GetCredentials::new(this.conversation.id());
            this.in_container("read the runtime's session key", &call)
                .await
        })
    }

    /// Sends a request to an endpoint that exists only for conversations in containers.
    async fn in_container<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let sent = self.conversation.call_newer(what, call).await;
        sent.map_err(|error| match (error.kind(), error.status()) {
            (ErrorKind::Unsupported, _) | (_, Some(StatusCode::METHOD_NOT_ALLOWED)) => {
                error.of_kind(|_| ErrorKind::Unsupported).advise(
                    "the conversation does not run in a container: start it with the runtime \
                     `docker`, on a server that runs conversations in containers",
                )
            }
            _ => error,
        })
    }
}
