//! Operations on a whole conversation: create, get, run, pause, update, delete.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call;
use crate::{
    ConversationId, Error, Request, Result, config::StartConversation, state::ConversationInfo,
};

/// Declares a call whose only parameter is a conversation id.
macro_rules! conversation_call {
    (
        $(#[$meta:meta])* $name:ident => $output:ty, $method:ident $route:literal, $repeat:ident;
        |$answer:ident| $decode:expr
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name(ConversationId);

        impl $name {
            /// Creates a call for this conversation.
            pub fn new(conversation: ConversationId) -> Self {
                Self(conversation)
            }
        }

        call!($name => $output, $method $route, $repeat;
            |this| Ok(Request::new(
                http::Method::$method,
                $route.replace("{conversation_id}", &this.0.to_string()),
            ));
            |$answer| $decode);
    };
}

mod branches;
mod goals;
mod listing;
mod runtime;
mod settings;

pub use branches::{Child, Fork, Isolation, Navigate, StartChild};
pub use goals::{ResumeGoal, StartGoal, StopGoal};
pub use listing::{BatchGet, Count, Order, Page, Search};
pub use runtime::{
    BindCredential, GetCredentials, GetRuntime, PreparePause, Release, Reprovision, RuntimeError,
    RuntimeInfo, RuntimeStatus,
};
pub use settings::{
    LoadPlugin, SetConfirmationPolicy, SetSecrets, SetSecurityAnalyzer, SwitchAcpModel, SwitchLlm,
    SwitchProfile,
};

/// `POST /api/conversations`: creates a conversation, or returns the existing one with the same id.
///
/// The request always contains an id, so a repeated request returns the conversation that the first
/// one created.
#[derive(Debug, Clone, PartialEq)]
pub struct Create(StartConversation);

/// The result of a create request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Created {
    /// The conversation on the server.
    pub info: ConversationInfo,
    /// Whether the conversation was created by this request. If false, the server ignored all
    /// options except the id.
    pub is_new: bool,
}

impl Create {
    /// Creates a call with these options.
    pub fn new(start: StartConversation) -> Self {
        Self(start)
    }
}

call!(Create => Created, POST "/api/conversations", Idempotent;
|this| {
    this.0.check()?;
    if this.0.id().as_uuid().is_nil() {
        // Without an id, a repeated create would create a second conversation.
        return Err(Error::invalid("conversation_id: must be a UUID"));
    }
    Request::new(http::Method::POST, "/api/conversations").json(&this.0)
};
|answer| Ok(Created {
    info: ConversationInfo::from_json(&answer.body)?,
    is_new: answer.status == http::StatusCode::CREATED,
}));

conversation_call! {
    /// `GET /api/conversations/{conversation_id}`: returns a conversation. The response may be one
    /// step behind the sockets.
    Get => ConversationInfo, GET "/api/conversations/{conversation_id}", Idempotent;
    |answer| ConversationInfo::from_json(&answer.body)
}
conversation_call! {
    /// `POST …/run`: starts a run. Returns 409 if a run is in progress.
    Run => (), POST "/api/conversations/{conversation_id}/run", Never;
    |answer| answer.done("response")
}
conversation_call! {
    /// `POST …/pause`: pauses after the current step.
    Pause => (), POST "/api/conversations/{conversation_id}/pause", Idempotent;
    |answer| answer.done("response")
}
conversation_call! {
    /// `POST …/interrupt`: cancels the current model or tool call.
    Interrupt => (), POST "/api/conversations/{conversation_id}/interrupt", Idempotent;
    |answer| answer.done("response")
}
conversation_call! {
    /// `DELETE /api/conversations/{conversation_id}`: deletes the history but not the workspace. A
    /// repeated request returns 404.
    Delete => (), DELETE "/api/conversations/{conversation_id}", Idempotent;
    |answer| answer.done("response")
}

/// `PATCH /api/conversations/{conversation_id}`: updates the title or the tags.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct Update {
    #[serde(skip)]
    conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<String, String>>,
}

impl Update {
    /// Creates a call that sets the title, 1 to 200 characters.
    pub fn title(conversation: ConversationId, title: impl Into<String>) -> Self {
        Self {
            conversation: Some(conversation),
            title: Some(title.into()),
            tags: None,
        }
    }

    /// Creates a call that replaces all tags. Keys consist of `a-z` and `0-9`, and values have at
    /// most 256 characters.
    pub fn tags(conversation: ConversationId, tags: BTreeMap<String, String>) -> Self {
        Self {
            conversation: Some(conversation),
            title: None,
            tags: Some(tags),
        }
    }
}

call!(Update => (), PATCH "/api/conversations/{conversation_id}", Idempotent;
    |this| {
        let id = this.conversation.ok_or_else(|| Error::invalid("no conversation to update"))?;
        if let Some(title) = &this.title {
            check_title(title)?;
        }
        if let Some(tags) = &this.tags {
            check_tags(tags)?;
        }
        Request::new(http::Method::PATCH, format!("/api/conversations/{id}")).json(this)
    };
    |answer| answer.done("response"));

/// `POST …/ask_agent`: asks the agent's model a question about the conversation. No event is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask(ConversationId, String);

impl Ask {
    /// Creates a call with this question.
    pub fn new(conversation: ConversationId, question: impl Into<String>) -> Self {
        Self(conversation, question.into())
    }
}

call!(Ask => String, POST "/api/conversations/{conversation_id}/ask_agent", Never;
|this| Request::new(http::Method::POST, format!("/api/conversations/{}/ask_agent", this.0))
    .json(&json!({ "question": this.1 }));
|answer| {
    #[derive(serde::Deserialize)]
    struct Wire { response: String }
    answer.json::<Wire>("answer of the agent").map(|wire| wire.response)
});

conversation_call! {
    /// `GET …/agent_final_response`: returns the agent's last message, from the finish action or as
    /// text. Returns an empty text before the first message.
    FinalResponse => String, GET "/api/conversations/{conversation_id}/agent_final_response",
    Idempotent;
    |answer| {
        #[derive(serde::Deserialize)]
        struct Wire { response: String }
        answer.json::<Wire>("final response").map(|wire| wire.response)
    }
}

conversation_call! {
    /// `POST …/condense`: shortens the history with the agent's condenser, which needs a model
    /// call. Returns 409 if the agent has no condenser. Not retried because of the cost.
    Condense => (), POST "/api/conversations/{conversation_id}/condense", Never;
    |answer| answer.done("response")
}

/// Checks the server's rule for titles.
pub(super) fn check_title(title: &str) -> Result<()> {
    match title.chars().count() {
        _ if title.trim().is_empty() => Err(Error::invalid("the title must not be blank")),
        201.. => Err(Error::invalid("the title must have at most 200 characters")),
        _ => Ok(()),
    }
}

/// Checks the server's rules for tags.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in tags {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if key.is_empty() || !key.chars().all(fits) {
            return Err(Error::invalid(format!(
                "tag `{key}`: the key must consist of a-z and 0-9"
            )));
        }
        if value.chars().count() > 256 {
            return Err(Error::invalid(format!(
                "tag `{key}`: the value must have at most 256 characters"
            )));
        }
    }
    Ok(())
}
