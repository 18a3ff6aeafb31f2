//! Conversations as a whole: create, read, run, pause, change, delete.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::call;
use crate::{
    ConversationId, Error, Request, Result, config::StartConversation, open_enum::open_enum,
    state::ConversationInfo,
};

/// Declares a call that says no more than which conversation it is for.
macro_rules! conversation_call {
    (
        $(#[$meta:meta])* $name:ident => $output:ty, $method:ident $route:literal, $repeat:ident;
        |$answer:ident| $decode:expr
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(ConversationId);

        impl $name {
            /// For this conversation.
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
mod settings;

pub use branches::{Child, Fork, Isolation, Navigate, StartChild};
pub use goals::{ResumeGoal, StartGoal, StopGoal};
pub use listing::{BatchGet, Count, Order, Page, Search};
pub use settings::{
    LoadPlugin, SetConfirmationPolicy, SetSecrets, SetSecurityAnalyzer, SwitchAcpModel, SwitchLlm,
    SwitchProfile,
};

/// `POST /api/conversations`: creates a conversation, or finds the one with its id.
///
/// The request always carries an id, so sending it again finds what the first one made.
#[derive(Debug, Clone)]
pub struct Create(StartConversation);

/// What a create did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Created {
    /// The conversation as the server has it.
    pub info: ConversationInfo,
    /// Whether it is new. If not, everything in the request but the id was ignored.
    pub is_new: bool,
}

impl Create {
    /// Creates this.
    pub fn new(start: StartConversation) -> Self {
        Self(start)
    }
}

call!(Create => Created, POST "/api/conversations", Idempotent;
|this| {
    this.0.check()?;
    if this.0.id().as_uuid().is_nil() {
        // Without one, a repeated create would make a second conversation.
        return Err(Error::invalid("conversation_id: a create needs a UUID"));
    }
    Request::new(http::Method::POST, "/api/conversations").json(&this.0)
};
|answer| Ok(Created {
    info: ConversationInfo::from_json(&answer.body)?,
    is_new: answer.status == http::StatusCode::CREATED,
}));

conversation_call! {
    /// `GET /api/conversations/{conversation_id}`. Lags up to a step behind the sockets.
    Get => ConversationInfo, GET "/api/conversations/{conversation_id}", Idempotent;
    |answer| ConversationInfo::from_json(&answer.body)
}
conversation_call! {
    /// `POST …/run`: starts a run. 409 while one is under way.
    Run => (), POST "/api/conversations/{conversation_id}/run", Never;
    |_answer| Ok(())
}
conversation_call! {
    /// `POST …/pause`: pauses after the current step.
    Pause => (), POST "/api/conversations/{conversation_id}/pause", Idempotent;
    |_answer| Ok(())
}
conversation_call! {
    /// `POST …/interrupt`: cancels the model or tool call under way.
    Interrupt => (), POST "/api/conversations/{conversation_id}/interrupt", Idempotent;
    |_answer| Ok(())
}
conversation_call! {
    /// `DELETE /api/conversations/{conversation_id}`: removes the history, keeps the workspace.
    /// A second one is answered 404.
    Delete => (), DELETE "/api/conversations/{conversation_id}", Idempotent;
    |_answer| Ok(())
}

/// `PATCH /api/conversations/{conversation_id}`: sets the title or the tags.
#[derive(Debug, Clone, Serialize)]
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
    /// Sets the title, 1 to 200 characters.
    pub fn title(conversation: ConversationId, title: impl Into<String>) -> Self {
        Self {
            conversation: Some(conversation),
            title: Some(title.into()),
            tags: None,
        }
    }

    /// Replaces all tags: keys of `a-z` and `0-9`, values of at most 256 characters.
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
    |_answer| Ok(()));

/// `POST …/ask_agent`: a question to the agent's model about the conversation, without an event.
#[derive(Debug, Clone)]
pub struct Ask(ConversationId, String);

impl Ask {
    /// Asks this.
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
    /// `GET …/agent_final_response`: what the agent said last: of `finish`, or as text. Empty
    /// while it has said nothing.
    FinalResponse => String, GET "/api/conversations/{conversation_id}/agent_final_response", Idempotent;
    |answer| {
        #[derive(serde::Deserialize)]
        struct Wire { response: String }
        answer.json::<Wire>("final response").map(|wire| wire.response)
    }
}

conversation_call! {
    /// `POST …/condense`: lets the agent's condenser shorten the history, with a model call. 409
    /// where the agent has none. Not repeated: it costs.
    Condense => (), POST "/api/conversations/{conversation_id}/condense", Never;
    |_answer| Ok(())
}

conversation_call! {
    /// `GET …/runtime`: whether what the conversation runs in is there.
    GetRuntime => RuntimeInfo, GET "/api/conversations/{conversation_id}/runtime", Idempotent;
    |answer| answer.json("runtime of a conversation")
}

conversation_call! {
    /// `POST …/runtime/reprovision`: makes again what the conversation runs in, where that is a
    /// container which is gone.
    Reprovision => RuntimeInfo, POST "/api/conversations/{conversation_id}/runtime/reprovision", Never;
    |answer| answer.json("runtime of a conversation")
}

open_enum! {
    /// Whether what a conversation runs in is there.
    RuntimeStatus {
        /// It is.
        Available = "available",
        /// It is being started.
        Starting = "starting",
        /// It is gone.
        Missing = "missing",
        /// Another server has it.
        OwnershipLost = "ownership_lost",
        /// It failed.
        Error = "error",
    }
}

/// What a conversation runs in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct RuntimeInfo {
    /// Whether it is there.
    pub runtime_status: RuntimeStatus,
    /// Whether the conversation can go on.
    pub can_resume: bool,
    /// Why not.
    #[serde(default)]
    pub runtime_error: Option<RuntimeError>,
}

/// Why what a conversation runs in is not there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct RuntimeError {
    /// A word for it.
    pub code: String,
    /// The explanation.
    pub message: String,
}

/// The server's rule for titles.
pub(super) fn check_title(title: &str) -> Result<()> {
    match title.chars().count() {
        _ if title.trim().is_empty() => Err(Error::invalid(
            "a title has at least one character that is no blank",
        )),
        201.. => Err(Error::invalid("a title has at most 200 characters")),
        _ => Ok(()),
    }
}

/// The server's rules for tags.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in tags {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if key.is_empty() || !key.chars().all(fits) {
            return Err(Error::invalid(format!(
                "tag `{key}`: a key is made of a-z and 0-9"
            )));
        }
        if value.chars().count() > 256 {
            return Err(Error::invalid(format!(
                "tag `{key}`: a value has at most 256 characters"
            )));
        }
    }
    Ok(())
}
