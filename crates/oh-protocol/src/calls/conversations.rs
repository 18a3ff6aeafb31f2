//! Conversations as a whole: create, read, run, pause, change, delete.

use serde::Serialize;
use serde_json::json;

use super::call;
use crate::{
    ConversationId, Error, Request,
    config::{Llm, StartConversation},
    state::ConversationInfo,
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
    Request::new(http::Method::POST, "/api/conversations").json(&this.0)
};
|answer| Ok(Created {
    info: ConversationInfo::from_json(&answer.body)?,
    is_new: answer.status == http::StatusCode::CREATED,
}));

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
}

impl Update {
    /// Sets the title.
    pub fn title(conversation: ConversationId, title: impl Into<String>) -> Self {
        Self {
            conversation: Some(conversation),
            title: Some(title.into()),
        }
    }
}

call!(Update => (), PATCH "/api/conversations/{conversation_id}", Idempotent;
    |this| {
        let id = this.conversation.ok_or_else(|| Error::invalid("no conversation to update"))?;
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

/// `POST …/switch_llm`: the agent uses another model from now on, even within a run.
#[derive(Debug, Clone)]
pub struct SwitchLlm(ConversationId, Llm);

impl SwitchLlm {
    /// Switches to this.
    pub fn new(conversation: ConversationId, llm: Llm) -> Self {
        Self(conversation, llm)
    }
}

call!(SwitchLlm => (), POST "/api/conversations/{conversation_id}/switch_llm", Idempotent;
    |this| {
        // First: `json!` would panic on a value that does not serialize.
        this.1.check()?;
        Request::new(http::Method::POST, format!("/api/conversations/{}/switch_llm", this.0))
            .json(&json!({ "llm": this.1 }))
    };
    |_answer| Ok(()));

/// `GET /api/conversations/count`: how many conversations the server has.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Count;

call!(Count => u64, GET "/api/conversations/count", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, "/api/conversations/count"));
    |answer| answer.json("count of conversations"));
