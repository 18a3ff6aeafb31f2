//! The runtime of a conversation: the container in which its agent works, if the server runs each
//! conversation in a separate container.
//!
//! [`PreparePause`], [`BindCredential`], [`Release`] and [`GetCredentials`] are not in the server's
//! OpenAPI document. The last two exist only for conversations that run in a container.

use std::{collections::BTreeMap, fmt};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{call, named, same_request};
use crate::{ConversationId, Error, Request, Result, json::open_enum::open_enum};

conversation_call! {
    /// `GET …/runtime`: returns the state of the conversation's runtime.
    GetRuntime => RuntimeInfo, GET "/api/conversations/{conversation_id}/runtime", Idempotent;
    |answer| answer.json("runtime of a conversation")
}

conversation_call! {
    /// `POST …/runtime/reprovision`: creates the conversation's runtime again, if it is a container
    /// that no longer exists.
    Reprovision => RuntimeInfo, POST "/api/conversations/{conversation_id}/runtime/reprovision",
    Never;
    |answer| answer.json("runtime of a conversation")
}

conversation_call! {
    /// `DELETE …/runtime`: stops and removes the container of a conversation. The conversation and
    /// the files in its workspace are kept. The next request that needs the container, or
    /// [`Reprovision`], creates a new one. A repeated request has no effect.
    ///
    /// Returns 404 or 405 if the conversation does not run in a container.
    Release => (), DELETE "/api/conversations/{conversation_id}/runtime", Idempotent;
    |answer| answer.done("response")
}

conversation_call! {
    /// `POST …/runtime/credentials`: returns the session key of the server in a conversation's
    /// container. The key stays the same for the life of the conversation.
    ///
    /// Returns 404 if the conversation does not run in a container.
    GetCredentials => SecretString,
    POST "/api/conversations/{conversation_id}/runtime/credentials", Idempotent;
    |answer| {
        #[derive(serde::Deserialize)]
        struct Wire { session_api_key: SecretString }
        answer.json::<Wire>("credentials of a runtime").map(|wire| wire.session_api_key)
    }
}

/// `POST /api/conversations/prepare-for-sandbox-pause`: closes all conversations of the server, so
/// that nothing is lost if the sandbox around the server is paused or stopped. Running agents are
/// paused, states are saved, leases and bound credentials are released. The next request for a
/// conversation loads it again.
///
/// Conversations in containers are not closed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct PreparePause;

call!(PreparePause => (), POST "/api/conversations/prepare-for-sandbox-pause", Idempotent;
    |_this| {
        let target = "/api/conversations/prepare-for-sandbox-pause";
        Ok(Request::new(http::Method::POST, target))
    };
    |answer| answer.done("response"));

/// `PUT …/credential-bindings/{secret_name}`: binds the file with an ACP agent's login to a URL,
/// from which the server reads it and to which it writes each renewed version.
///
/// Server 1.58.2 supports one name, [`CODEX`](Self::CODEX). It reads the URL before it responds.
/// A repeated request with the same URL replaces the headers.
///
/// Returns 404 for another name, and 409 if the agent has already read its file or is no ACP agent.
/// Returns 403 if the URL rejects the headers or the agent's profile excludes the secret. Returns
/// 422 if the content of the URL is invalid, and 502 if it cannot be read.
#[derive(Clone)]
#[must_use]
pub struct BindCredential {
    conversation: ConversationId,
    name: String,
    url: SecretString,
    headers: BTreeMap<String, SecretString>,
}

same_request!(BindCredential);

/// The largest number of headers of a binding.
const HEADERS: usize = 16;

impl BindCredential {
    /// The name of the secret with the login of Codex (`auth.json`).
    pub const CODEX: &str = "CODEX_AUTH_JSON";

    /// Creates a call that binds this secret to a URL. The URL may contain credentials.
    pub fn new(
        conversation: ConversationId,
        name: impl Into<String>,
        url: impl Into<SecretString>,
    ) -> Self {
        Self {
            conversation,
            name: name.into(),
            url: url.into(),
            headers: BTreeMap::new(),
        }
    }

    /// Adds a header to each request to the URL. At most 16.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    fn check(&self) -> Result<()> {
        let length = |text: &str, most: usize| (1..=most).contains(&text.chars().count());
        if !length(self.url.expose_secret(), 4096) {
            return Err(Error::invalid("url: must have 1 to 4096 characters"));
        }
        if self.headers.len() > HEADERS {
            return Err(Error::invalid("headers: must be at most 16"));
        }
        for (name, value) in &self.headers {
            if !length(name, 256) || !length(value.expose_secret(), 8192) {
                return Err(Error::invalid(format!(
                    "header `{name:.256}`: the name must have 1 to 256 characters, the value 1 to \
                     8192"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for BindCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindCredential")
            .field("conversation", &self.conversation)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

call!(BindCredential => (),
    PUT "/api/conversations/{conversation_id}/credential-bindings/{secret_name}", Idempotent;
|this| {
    this.check()?;
    let route = format!("/api/conversations/{}/credential-bindings", this.conversation);
    let target = named(&route, "the secret name", &this.name, "")?;
    let headers = this.headers.iter();
    let headers: BTreeMap<_, Value> =
        headers.map(|(name, value)| (name, value.expose_secret().into())).collect();
    Request::new(http::Method::PUT, target)
        .json(&json!({"url": this.url.expose_secret(), "headers": headers}))
};
|answer| answer.done("response"));

open_enum! {
    /// The state of a conversation's runtime.
    RuntimeStatus {
        /// The runtime is available.
        Available = "available",
        /// The runtime is starting.
        Starting = "starting",
        /// The runtime no longer exists.
        Missing = "missing",
        /// Another server owns the runtime.
        OwnershipLost = "ownership_lost",
        /// The runtime failed.
        Error = "error",
    }
}

/// The runtime of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, Serialize)]
#[non_exhaustive]
pub struct RuntimeInfo {
    /// The state of the runtime.
    pub runtime_status: RuntimeStatus,
    /// Whether the conversation can be resumed.
    pub can_resume: bool,
    /// The reason why the runtime is not available.
    #[serde(default)]
    pub runtime_error: Option<RuntimeError>,
}

/// The reason why a runtime is not available.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, Serialize)]
#[non_exhaustive]
pub struct RuntimeError {
    /// The error code.
    pub code: String,
    /// The explanation.
    pub message: String,
}
