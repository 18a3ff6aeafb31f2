//! Sending messages, without accidentally approving actions that wait for approval.

use std::{fmt, mem};

use oh_protocol::{
    Event, Payload,
    calls::{self, events::UserContent},
    event::{Content, Message},
};
use tokio::time::timeout;

use crate::{
    Conversation, Error, ErrorKind, Result,
    gate::Standing,
    request::{Polled, operation},
    run::{Started, ran_since},
};

/// A message that has not been sent. Await it; the server has then saved the message.
///
/// Messages of one process are sent one after another. A message approves nothing, so it does not
/// wait for a run or an approval without a response. A message is never sent twice. After a lost
/// response, the log is searched for a new user message with the same parts.
///
/// # Errors
///
/// - [`ErrorKind::PendingConfirmation`] while an action waits for approval. Nothing was sent.
/// - [`ErrorKind::InvalidInput`] for an empty message. Nothing was sent.
/// - [`ErrorKind::NoVision`] for an image that the model does not support. Nothing was sent.
/// - [`ErrorKind::Ambiguous`] if the connection failed, or a gateway gave up waiting for the
///   server, and the log does not show the message.
/// - [`ErrorKind::Timeout`] if an earlier message of this process has no response yet, or the state
///   of the conversation cannot be determined, within the [limit](crate::Attach::ambiguous_after)
///   (15 s by default). Nothing was sent.
/// - [`ErrorKind::RateLimited`] with [`and_run`](Self::and_run) if the server accepts no more runs;
///   the message is saved in that case.
///
/// # Cancel safety
///
/// If the future is dropped before it completes, the message may or may not have been sent.
#[must_use = "a message is not sent until it is awaited"]
pub struct SendMessage {
    conversation: Conversation,
    content: Vec<UserContent>,
    run: bool,
    sender: Option<String>,
    anyway: bool,
    blind: bool,
    /// Whether the log is searched first, because an earlier request may have sent the message.
    again: bool,
    polled: Polled<()>,
}

impl Conversation {
    /// Sends a user message (`POST …/events`). Await the result. The next [`run`](Self::run)
    /// answers the message.
    ///
    /// ```no_run
    /// # async fn ask(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_conversation::RunStatus;
    ///
    /// conversation.send("What is this?").image("https://example.org/a.png").await?;
    /// let run = conversation.run().await?;
    /// match run.status() {
    ///     RunStatus::Finished => println!("{} events, ${:?}", run.events(), run.cost()),
    ///     RunStatus::WaitingForConfirmation => {
    ///         println!("{:?}", conversation.approvals().pending());
    ///     }
    ///     _ => println!("{run}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn send(&self, content: impl Into<UserContent>) -> SendMessage {
        self.send_parts(vec![content.into()])
    }

    pub(crate) fn send_parts(&self, content: Vec<UserContent>) -> SendMessage {
        SendMessage::new(self, content)
    }
}

impl SendMessage {
    pub(crate) fn new(conversation: &Conversation, content: Vec<UserContent>) -> Self {
        Self {
            conversation: conversation.clone(),
            content,
            run: false,
            sender: None,
            anyway: false,
            blind: false,
            again: false,
            polled: Polled::default(),
        }
    }

    /// Adds a part.
    pub fn and(mut self, content: impl Into<UserContent>) -> Self {
        self.content.push(content.into());
        self
    }

    /// Adds an image, by its URL or as a `data:` URL such as `data:image/png;base64,…`.
    ///
    /// If the agent's model is configured without vision (`disable_vision`), the message is
    /// rejected. Otherwise only the server can determine what a model supports. If the model
    /// does not support images, the agent replies so and finishes; see
    /// [`RunReport::image_unseen`](crate::RunReport::image_unseen).
    pub fn image(self, url: impl Into<String>) -> Self {
        self.and(UserContent::image(url))
    }

    /// Sends images even to a model that is configured without vision: for agents whose tools
    /// process images.
    pub fn even_if_blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Sets the name of the sender, for conversations with several users. Servers up to 1.58 ignore
    /// it.
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.sender = Some(sender.into());
        self
    }

    /// Also starts a run, without waiting for its end. A run in progress picks up the message
    /// itself. Before server 1.45, a message that arrives while the model writes its last answer
    /// stays unread until the next message.
    ///
    /// The message is saved first. The run is then started under the conditions of
    /// [`Conversation::run`], so it approves nothing.
    pub fn and_run(mut self) -> Self {
        self.run = true;
        self
    }

    /// Saves the message even while an action waits for approval. The action keeps waiting. This
    /// does not affect [`and_run`](Self::and_run), which starts no run in that case and fails with
    /// [`ErrorKind::PendingConfirmation`].
    pub fn even_if_pending(mut self) -> Self {
        self.anyway = true;
        self
    }

    /// Sends nothing that the log already has.
    pub(crate) fn unless_sent(mut self, again: bool) -> Self {
        self.again = again;
        self
    }

    /// Moves the message out, because its content may be large.
    fn take(&mut self) -> Self {
        Self {
            conversation: self.conversation.clone(),
            content: mem::take(&mut self.content),
            run: self.run,
            sender: self.sender.take(),
            anyway: self.anyway,
            blind: self.blind,
            again: self.again,
            polled: Polled::default(),
        }
    }

    async fn deliver(self) -> Result<()> {
        let conversation = &self.conversation;
        let id = conversation.id();
        let empty = self
            .content
            .iter()
            .all(|part| matches!(part, UserContent::Text { text } if text.trim().is_empty()));
        if empty {
            let what = "the message must not be empty";
            return Err(Error::new(ErrorKind::InvalidInput, id, what));
        }
        let pictured = |part: &UserContent| matches!(part, UserContent::Image { .. });
        if !self.blind && self.content.iter().any(pictured) && is_blind(conversation) {
            let what = "the agent's model does not support images";
            let error = Error::new(ErrorKind::NoVision, id, what);
            return Err(error.advise("switch the model, or send with `even_if_blind`"));
        }
        let supersedes = {
            // An ACP agent aborts its current work for a message with `run`.
            let acp = conversation.state().agent_kind().as_deref() == Some("ACPAgent");
            let turn = conversation.turn_to_message(acp && self.run).await?;
            let standing = conversation.standing_soon().await?;
            if self.again && logged(conversation, 0, &self.content) {
                drop(turn);
                return self.run_again().await;
            }
            if matches!(standing, Standing::Waiting(_)) && !self.anyway {
                let what = "an action is waiting for approval, and the next run would execute it";
                let error = Error::new(ErrorKind::PendingConfirmation, id, what);
                let advice = "approve or reject it first, or send with `even_if_pending`";
                return Err(error.advise(advice));
            }
            let supersedes = acp && self.run && matches!(standing, Standing::Running);
            let held = conversation.mirror().read().log.end();
            let mut call =
                calls::events::SendMessage::new(id, self.content.clone()).run(supersedes);
            if let Some(sender) = &self.sender {
                call = call.sender(sender);
            }
            let mut sent = turn.send(conversation.client(), call);
            match conversation.answer(&mut sent).await {
                Ok(()) => {}
                Err(error) if error.is_unclear() => {
                    // The server has no idempotency key for messages, so the log shows whether it
                    // accepted this one.
                    let logged = || logged(conversation, held, &self.content);
                    if !conversation.shows_effect(logged).await {
                        return Err(Error::ambiguous(id, "accepted the message", error));
                    }
                }
                Err(error) => return Err(Error::transport(id, "send a message", error)),
            }
            supersedes
        };
        // The message requires another run than one that an approval has started.
        conversation.mirror().answered.wait();
        if !self.run || supersedes {
            return Ok(());
        }
        self.start().await
    }

    /// Starts the run of a message that the log already has, unless the log shows a run.
    async fn run_again(self) -> Result<()> {
        let log = self.conversation.mirror().read().log.clone();
        match self.run && !ran_since(&log, 0) {
            true => self.start().await,
            false => Ok(()),
        }
    }

    /// Starts the run of a message that the server has saved.
    async fn start(self) -> Result<()> {
        let conversation = &self.conversation;
        let id = conversation.id();
        if let Some(tools) = conversation.client_tools() {
            tools.start_runs();
        }
        let limit = conversation.limits().wedged;
        match timeout(limit, conversation.start_run(|| ())).await {
            Ok(Ok(Started::Begun | Started::Joined | Started::Before(_))) => Ok(()),
            Ok(Ok(Started::Waiting)) => {
                let what = "the message was saved, but no run was started: an action is waiting \
                            for approval, and a run would execute it";
                let error = Error::new(ErrorKind::PendingConfirmation, id, what);
                Err(error.advise("approve or reject it first"))
            }
            Ok(Err(error)) => {
                Err(error.in_context("the message was saved, but starting the run failed"))
            }
            Ok(Ok(Started::Wedged)) | Err(_) => {
                let what = "the message was saved, but the server did not start a run";
                Err(Error::new(ErrorKind::Conflict, id, what).advise("call `run` later"))
            }
        }
    }
}

operation!(SendMessage, (), SendMessage::take, SendMessage::deliver);

/// Returns whether the agent's model is configured without vision.
fn is_blind(conversation: &Conversation) -> bool {
    let agent = conversation.state().get("agent").cloned();
    let blind = agent.and_then(|agent| agent.get("llm")?.get("disable_vision"));
    blind.is_some_and(|blind| blind.as_str() == "true")
}

/// Returns whether a user message with these parts follows the first `held` events.
fn logged(conversation: &Conversation, held: usize, content: &[UserContent]) -> bool {
    let log = conversation.mirror().read().log.clone();
    let mut new = log.range(held..log.end());
    new.any(|event| is_message(event, content))
}

/// Returns whether an event is a user message with these parts, in this order.
fn is_message(event: &Event, content: &[UserContent]) -> bool {
    if event.kind() != "MessageEvent" || event.source().as_str() != "user" {
        return false;
    }
    match event.decode() {
        Payload::Message(message) => same_parts(&message.llm_message, content),
        _ => false,
    }
}

fn same_parts(message: &Message, content: &[UserContent]) -> bool {
    let same = |part: &Content, wanted: &UserContent| match wanted {
        UserContent::Text { text } => part.text.as_deref() == Some(text.as_str()),
        UserContent::Image { image_urls } => {
            let urls = part.image_urls.iter().map(|url| &**url);
            urls.eq(image_urls.iter().map(String::as_str))
        }
        _ => false,
    };
    let parts = &message.content;
    parts.len() == content.len() && parts.iter().zip(content).all(|(part, it)| same(part, it))
}

impl fmt::Debug for SendMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendMessage")
            .field("parts", &self.content.len())
            .finish_non_exhaustive()
    }
}
