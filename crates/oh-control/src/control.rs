//! The handle that sends all requests of this crate.

use oh_protocol::{
    Call, ConversationId,
    calls::{
        conversations::{Create, Created, Delete, FinalResponse, Get, Interrupt, Pause},
        events::{Search, SendMessage, UserContent},
    },
    config::StartConversation,
    state::ConversationInfo,
};
use oh_transport::Client;

use crate::{Error, ErrorKind, Request, Result, RunStart, start};

/// How many of the newest events are searched for a message whose response was lost.
const NEWEST: u32 = 20;

/// Control of the conversations of one server. Cheap to clone. Creating a handle sends nothing.
///
/// # Cancel safety
///
/// A dropped operation may or may not have reached the server. [`create`](Self::create),
/// [`info`](Self::info), [`answer`](Self::answer), [`pause`](Self::pause),
/// [`interrupt`](Self::interrupt) and [`delete`](Self::delete) can be repeated.
#[derive(Debug, Clone)]
pub struct Control {
    client: Client,
}

impl Control {
    /// Returns the control of a client's server.
    pub fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
        }
    }

    /// Creates a conversation, or finds the one with the same id (`POST /api/conversations`).
    ///
    /// The request always has an id, so it can be repeated until it succeeds: there will be one
    /// conversation, and one initial message. A conversation with an initial message starts its
    /// run itself; do not call [`run`](Self::run) for it. If
    /// [`Created::is_new`] is false, the server has ignored everything but the id.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`] if a value is invalid. Nothing was sent.
    /// - [`ErrorKind::Validation`] if the server rejects the request.
    /// - [`ErrorKind::RateLimited`] while the server accepts no more runs.
    /// - [`ErrorKind::AgentMismatch`] if the server has a conversation with this id and another
    ///   kind of agent.
    pub fn create(&self, start: StartConversation) -> Request<Created> {
        let client = self.client.clone();
        Request::new(async move {
            let id = start.id();
            let wanted = start.agent_kind().map(str::to_owned);
            let created = client.call(&Create::new(start)).await;
            let created =
                created.map_err(|error| Error::transport(id, "create the conversation", error))?;
            match (created.info.state().agent_kind(), wanted) {
                (Some(kind), Some(wanted)) if !created.is_new && *kind != *wanted => {
                    let what = format!(
                        "the conversation already exists with an agent of kind `{kind}`, not \
                         `{wanted}`"
                    );
                    let error = Error::new(ErrorKind::AgentMismatch, id, what);
                    Err(error.advise("use another id"))
                }
                _ => Ok(created),
            }
        })
    }

    /// Adds a user message to the log without starting a run (`POST …/events`).
    ///
    /// The message is never sent twice. After a lost response, the newest 20 events are searched
    /// for a new user message with the same text.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`] for an empty message. Nothing was sent.
    /// - [`ErrorKind::Ambiguous`] if the response was lost and the log does not show the message.
    /// - [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn send(&self, id: ConversationId, text: impl Into<String>) -> Request<()> {
        let (client, text) = (self.client.clone(), text.into());
        Request::new(async move {
            if text.trim().is_empty() {
                let what = "the message must not be empty";
                return Err(Error::new(ErrorKind::InvalidInput, id, what));
            }
            let newest = newest(&client, id, 1).await?.pop().map(|(id, _)| id);
            let content = vec![UserContent::text(text.as_str())];
            let Err(error) = client.call(&SendMessage::new(id, content)).await else {
                return Ok(());
            };
            if !error.is_unclear() {
                return Err(Error::transport(id, "send a message", error));
            }
            let events = self::newest(&client, id, NEWEST).await.unwrap_or_default();
            let mut new = events
                .iter()
                .take_while(|(id, _)| Some(id) != newest.as_ref());
            match new.any(|(_, said)| said.as_deref() == Some(&text)) {
                true => Ok(()),
                false => Err(Error::ambiguous(id, "accepted the message", error)),
            }
        })
    }

    /// Starts a run, unless one is in progress (`POST …/run`). Does not wait for its end.
    ///
    /// A run executes the actions that wait for approval. For that reason the request is sent only
    /// if the server never asks, or if the conversation is idle and has no action yet.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::PendingConfirmation`] if an action waits for approval, or may wait for it.
    ///   Nothing was sent.
    /// - [`ErrorKind::Ambiguous`] if the response was lost and no run is in progress: a short run
    ///   may have ended.
    /// - [`ErrorKind::RateLimited`] if the server accepts no more runs.
    /// - [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn run(&self, id: ConversationId) -> Request<RunStart> {
        Request::new(start::run(self.client.clone(), id))
    }

    /// Returns the conversation's state: status, cost, title, tags (`GET …/{conversation_id}`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn info(&self, id: ConversationId) -> Request<ConversationInfo> {
        self.request(id, "read the conversation", Get::new(id))
    }

    /// Returns the agent's last answer, or an empty text before the first
    /// (`GET …/agent_final_response`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn answer(&self, id: ConversationId) -> Request<String> {
        self.request(id, "read the answer", FinalResponse::new(id))
    }

    /// Pauses the run after its current step (`POST …/pause`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn pause(&self, id: ConversationId) -> Request<()> {
        self.request(id, "pause the conversation", Pause::new(id))
    }

    /// Cancels the current model or tool call, and pauses the run (`POST …/interrupt`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] if the server does not have the conversation.
    pub fn interrupt(&self, id: ConversationId) -> Request<()> {
        self.request(id, "interrupt the conversation", Interrupt::new(id))
    }

    /// Deletes the conversation's history, but not its workspace (`DELETE …/{conversation_id}`).
    /// Returns whether the server had the conversation.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn delete(&self, id: ConversationId) -> Request<bool> {
        let deleted = self.request(id, "delete the conversation", Delete::new(id));
        Request::new(async move {
            match deleted.await {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::Gone => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn request<C: Call + 'static>(
        &self,
        id: ConversationId,
        what: &'static str,
        call: C,
    ) -> Request<C::Output> {
        let client = self.client.clone();
        Request::new(async move {
            let sent = client.call(&call).await;
            sent.map_err(|error| Error::transport(id, what, error))
        })
    }
}

/// Returns the ids of the newest events, and the text of those that are user messages of one text.
async fn newest(
    client: &Client,
    id: ConversationId,
    limit: u32,
) -> Result<Vec<(String, Option<String>)>> {
    let page = client
        .call(&Search::new(id).descending().limit(limit))
        .await;
    let page = page.map_err(|error| Error::transport(id, "read the newest events", error))?;
    // Read as plain JSON: typed events would be most of a small program.
    let said = |event: &oh_protocol::Event| {
        let body: serde_json::Value = serde_json::from_str(event.as_json()).ok()?;
        let user = event.kind() == "MessageEvent" && event.source().as_str() == "user";
        let content = body["llm_message"]["content"].as_array()?;
        match content.as_slice() {
            [only] if user => only["text"].as_str().map(str::to_owned),
            _ => None,
        }
    };
    let events = page.items.iter();
    Ok(events
        .map(|event| (event.id().to_owned(), said(event)))
        .collect())
}
