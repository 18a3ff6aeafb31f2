//! The title of a conversation: setting it, and generating it with the agent's model or another
//! one.

use std::fmt;

use oh_protocol::{
    ConversationId, Event, Payload, calls,
    config::{Agent, Llm, StartConversation},
};
use oh_transport::Client;

use crate::{
    Conversation, Error, ErrorKind, Request, Result,
    request::{Polled, operation},
};

/// The title of a conversation: see [`Conversation::title`].
#[derive(Debug, Clone)]
pub struct Title {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the title, to set or generate it. [`state`](Self::state) has its text.
    pub fn title(&self) -> Title {
        Title {
            conversation: self.clone(),
        }
    }
}

impl Title {
    /// Generates a title from the first message. Await the result. The title is not applied: use
    /// [`set`](Self::set).
    ///
    /// ```no_run
    /// # async fn name(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::config::Llm;
    ///
    /// let cheap = Llm::new("openai/gpt-5-nano").api_key("sk-…");
    /// let title = conversation.title().generate().llm(cheap).max_length(60).await?;
    /// conversation.title().set(&title).await?;
    /// # Ok(()) }
    /// ```
    pub fn generate(&self) -> GenerateTitle {
        GenerateTitle::new(&self.conversation)
    }

    /// Sets the title, 1 to 200 characters and not blank
    /// (`PATCH /api/conversations/{conversation_id}`). No event reports the change: use
    /// [`info`](Conversation::info) to see it.
    ///
    /// # Errors
    ///
    /// Returns an error if the title is invalid, or the request fails.
    pub fn set(&self, title: impl Into<String>) -> Request<()> {
        let title = title.into();
        let this = self.clone();
        Request::new(async move {
            let call = calls::conversations::Update::title(this.conversation.id(), title);
            this.conversation.call("set the title", &call).await
        })
    }
}

/// A request for a title. Await it for the text.
///
/// With a separate model ([`llm`](Self::llm)), the question goes to a temporary conversation, which
/// is deleted afterwards. The server uses that model exactly like an agent's, and stores its key
/// encrypted in the temporary conversation's state until the deletion. This costs one short model
/// call, which does not count towards this conversation. Without a separate model, the agent's
/// model is asked, and the call counts towards this conversation.
#[derive(Clone)]
#[must_use = "no title is generated until it is awaited"]
pub struct GenerateTitle {
    conversation: Conversation,
    llm: Option<Llm>,
    max_length: usize,
    polled: Polled<String>,
}

impl GenerateTitle {
    fn new(conversation: &Conversation) -> Self {
        Self {
            conversation: conversation.clone(),
            llm: None,
            max_length: 50,
            polled: Polled::default(),
        }
    }

    /// Uses this model instead of the agent's.
    pub fn llm(mut self, llm: Llm) -> Self {
        self.llm = Some(llm);
        self
    }

    /// Sets the maximum length in characters. Default 50.
    pub fn max_length(mut self, characters: usize) -> Self {
        self.max_length = characters;
        self
    }

    async fn make(self) -> Result<String> {
        let id = self.conversation.id();
        if self.max_length == 0 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                id,
                "max_length must be at least 1",
            ));
        }
        let message = first_message(&self.conversation).await?;
        let message = message
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    id,
                    "cannot generate a title: the conversation has no user message yet",
                )
            })?;
        let excerpt: String = message.chars().take(2000).collect();
        let question = format!(
            "Write a title for a conversation that begins with the message below. Answer with \
             the title alone, in at most {} characters, without quotes.\n\n{excerpt}",
            self.max_length
        );
        let answer = match self.llm {
            None => self.conversation.agent().ask(question).await?,
            Some(llm) => ask_other(&self.conversation, llm, question).await?,
        };
        let title = tidy(&answer, self.max_length);
        if title.is_empty() {
            return Err(Error::new(
                ErrorKind::NoAnswer,
                id,
                "the model returned an empty title",
            ));
        }
        Ok(title)
    }
}

/// Returns the text of the first user message. Requests it from the server if events before those
/// held may have it.
async fn first_message(conversation: &Conversation) -> Result<Option<String>> {
    if conversation.mirror().read().log.start() == 0 {
        return Ok(conversation.events().iter().find_map(user_message));
    }
    let mut said = conversation.log().search().source("user").page_size(10);
    while let Some(event) = said.next().await {
        if let Some(text) = user_message(&event?) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn user_message(event: &Event) -> Option<String> {
    match event.payload() {
        Payload::Message(message) if event.source().as_str() == "user" => {
            Some(message.llm_message.text())
        }
        _ => None,
    }
}

/// Asks a model through a temporary conversation.
async fn ask_other(conversation: &Conversation, llm: Llm, question: String) -> Result<String> {
    // Without tools, because a model with tools may call one instead of answering.
    let agent = Agent::new(llm)
        .set("system_prompt", "You write short titles.")
        .set("include_default_tools", Vec::<String>::new());
    let start = StartConversation::new(agent, conversation.working_dir());
    let helper = Helper {
        client: conversation.client().clone(),
        id: start.id(),
        deleted: false,
    };
    let create = calls::conversations::Create::new(start);
    conversation.call("generate a title", &create).await?;
    let ask = calls::conversations::Ask::new(helper.id, question);
    let answer = conversation.call("generate a title", &ask).await;
    helper.delete().await;
    answer
}

/// A temporary conversation, deleted at the latest when this value is dropped.
struct Helper {
    client: Client,
    id: ConversationId,
    deleted: bool,
}

impl Helper {
    async fn delete(mut self) {
        let deleted = self
            .client
            .call(&calls::conversations::Delete::new(self.id))
            .await;
        self.deleted = deleted.is_ok();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.deleted, tokio::runtime::Handle::try_current()) {
            let (client, id) = (self.client.clone(), self.id);
            runtime.spawn(async move {
                let _ = client.call(&calls::conversations::Delete::new(id)).await;
            });
        }
    }
}

/// Returns the first line that is not empty, without quotes and shortened to the maximum length.
fn tidy(answer: &str, max_length: usize) -> String {
    let line = answer
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = line.trim_matches(['"', '\'', '`', '*', '#', ' ']);
    if line.chars().count() <= max_length {
        return line.to_owned();
    }
    let cut: String = line.chars().take(max_length.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

operation!(
    GenerateTitle,
    String,
    |title: &mut GenerateTitle| title.clone(),
    GenerateTitle::make
);

impl fmt::Debug for GenerateTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerateTitle")
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn a_title_is_one_line_without_quotes_and_never_too_long() {
        assert_eq!(
            tidy("\n  \"Mend the build\"\nBecause …", 60),
            "Mend the build"
        );
        let long = tidy(&"ä".repeat(100), 10);
        assert_eq!(long.chars().count(), 10);
        assert!(long.ends_with('…'));
        assert_eq!(tidy("\n\n", 10), "");
    }
}
