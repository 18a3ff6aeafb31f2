//! Other histories: places in the log to go on from, the branch that is visible, copies. Knows no
//! runs.

use std::{
    collections::HashMap,
    future::{Future, IntoFuture},
    pin::Pin,
};

use oh_protocol::{
    ConversationId, Event, Json,
    calls::conversations::{Fork, Get, Navigate},
    config::{ConfirmationPolicy, Llm},
    state::ConversationInfo,
};
use oh_transport::ErrorKind as Wire;

use crate::{Conversation, Error, Origin, Result, attach::Following, mirror::Held};

/// The parent of an event that begins anew, in a log that had events before.
const ROOT: &str = "__root__";
/// Changes of the state stand in the log, but in no branch.
const STATE_UPDATE: &str = "ConversationStateUpdateEvent";

/// Where this handle has gone in the log.
#[derive(Debug, Clone)]
pub(crate) struct Navigated {
    /// How many events there were then.
    events: usize,
    head: Option<String>,
}

impl Conversation {
    /// A copy of it under another id (`POST …/fork`); await it.
    ///
    /// ```no_run
    /// # async fn retry(conversation: &oh_conversation::Conversation, llm: oh_protocol::config::Llm) -> oh_conversation::Result<()> {
    /// let branch = conversation.branch();
    /// if let Some(event) = branch.iter().rev().find(|event| event.kind() == "MessageEvent") {
    ///     let copy = conversation.fork().from_event(event.id()).llm(llm).title("Again").await?;
    ///     copy.run().await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn fork(&self) -> ForkConversation<'_> {
        ForkConversation {
            conversation: self,
            call: Fork::new(self.id()),
            fresh: true,
            llm: None,
        }
    }

    /// Goes on from another event: the next one follows it, and what came after stays in the log
    /// but not in the visible [`branch`](Self::branch) (`POST …/navigate`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when the log does not have the event.
    pub async fn navigate(&self, event_id: impl Into<String>) -> Result<()> {
        let event_id = event_id.into();
        let call = Navigate::to(self.id(), event_id.clone());
        self.call_naming("navigate", &call).await?;
        self.navigated(Some(event_id));
        Ok(())
    }

    /// Goes on from before the first event (`POST …/navigate`).
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn navigate_to_start(&self) -> Result<()> {
        let call = Navigate::to_start(self.id());
        self.call("navigate", &call).await?;
        self.navigated(None);
        Ok(())
    }

    /// The policy that a fork must have, if it is another than the one it was made with: what this
    /// program has set, or what the server says of the original.
    fn policy_of_fork(&self) -> Option<ConfirmationPolicy> {
        let set = self.mirror().restored.policy();
        set.or_else(|| self.approvals().policy())
    }

    fn navigated(&self, head: Option<String>) {
        let events = self.mirror().read().log.end();
        self.set_navigated(Navigated { events, head });
    }

    /// The id of the event that the next one follows; none before the first.
    ///
    /// Where somebody else navigates it is known when the server tells all of the state again,
    /// at the end of the next run at the latest.
    pub fn head(&self) -> Option<String> {
        let navigated = self.last_navigated();
        head(&self.mirror().read(), navigated)
    }

    /// The visible branch: the events from the first to the [`head`](Self::head), by their
    /// parents. What was left by [`navigate`](Self::navigate) is not among them;
    /// [`events`](Self::events) has it. State changes, which have no place in a branch, are left
    /// out, too. Goes as far back as events are held.
    pub fn branch(&self) -> Vec<Event> {
        let events = self.events();
        let places: HashMap<&str, usize> = (0..)
            .zip(events.iter())
            .map(|(place, event)| (event.id(), place))
            .collect();
        let head = self.head();
        let mut branch = Vec::new();
        let mut next = head.as_deref().and_then(|id| places.get(id).copied());
        // A log whose parents go in a circle must end, too.
        let mut left = events.len();
        while let Some(place) = next
            && let Some(event) = events.get(place)
            && left > 0
        {
            left -= 1;
            if event.kind() != STATE_UPDATE {
                branch.push(event.clone());
            }
            next = match event.parent_id() {
                Some(ROOT) => None,
                Some(parent) => places.get(parent).copied(),
                // Old logs have no parents: each event follows the one before it.
                None => place.checked_sub(1),
            };
        }
        branch.reverse();
        branch
    }
}

/// The server moves its head with every event but changes of the state, and where it is told to.
fn head(held: &Held, navigated: Option<Navigated>) -> Option<String> {
    let told = held.snapshot.as_ref().and_then(|snapshot| {
        let empty = held.state.get("head_is_empty");
        let empty = empty.is_some_and(|empty| empty.as_str() == "true");
        let leaf = held.state.get("leaf_event_id").and_then(Json::as_text);
        // Servers that know no branches name no leaf: the last event is the head.
        (empty || leaf.is_some()).then(|| Navigated {
            events: snapshot.events,
            head: leaf.filter(|_| !empty).map(|leaf| leaf.to_string()),
        })
    });
    let known = match (told, navigated) {
        (Some(told), Some(navigated)) if navigated.events >= told.events => Some(navigated),
        (Some(told), _) => Some(told),
        (None, navigated) => navigated,
    };
    let from = known.as_ref().map_or(0, |known| known.events);
    let mut since = held.log.range(from..held.log.end()).rev();
    match since.find(|event| event.kind() != STATE_UPDATE) {
        Some(event) => Some(event.id().to_owned()),
        None => known?.head,
    }
}

/// A copy of a conversation to be made; await it.
///
/// The copy has the same events under the same ids, but neither secrets set at run time nor keys
/// given with the agent: the server leaves them out. The confirmation policy in effect and an
/// analyzer that this handle has set are set again, client tools are carried out for the copy, too,
/// and the copy's link has the options of the original's. An action that waits for approval in the
/// original waits in the copy.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when the log does not have the event to
/// copy up to, [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) when the id is taken,
/// [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous) when the answer was lost and the server
/// does not show whether the copy was made. In this case, and if the copy was made and a later
/// step fails, the error's [`conversation_id`](crate::Error::conversation_id) is the copy's.
#[derive(Debug)]
#[must_use = "nothing is copied until it is awaited"]
pub struct ForkConversation<'a> {
    conversation: &'a Conversation,
    call: Fork,
    /// Whether the copy's id was made for it.
    fresh: bool,
    llm: Option<Box<Llm>>,
}

impl ForkConversation<'_> {
    /// The id of the copy. Default: a random one.
    pub fn id(mut self, id: ConversationId) -> Self {
        self.call = self.call.id(id);
        self.fresh = false;
        self
    }

    /// Its title, 1 to 200 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.call = self.call.title(title);
        self
    }

    /// Its tags, instead of the original's.
    pub fn tags<K: Into<String>, V: Into<String>>(
        mut self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let tags = tags.into_iter();
        let tags = tags.map(|(key, value)| (key.into(), value.into()));
        self.call = self.call.tags(tags.collect());
        self
    }

    /// Whether its cost begins at zero. Default: yes.
    pub fn reset_metrics(mut self, reset: bool) -> Self {
        self.call = self.call.reset_metrics(reset);
        self
    }

    /// The model it uses, with its key. Without it the copy can only run where the original's key
    /// is one that the server has by itself.
    pub fn llm(mut self, llm: Llm) -> Self {
        self.llm = Some(Box::new(llm));
        self
    }

    /// Copies up to this event only.
    pub fn from_event(mut self, event_id: impl Into<String>) -> Self {
        self.call = self.call.from_event(event_id);
        self
    }
}

impl ForkConversation<'_> {
    /// Has the copy made. Where the answer is lost, the server is asked for the id that the copy
    /// would have.
    async fn copy(&self) -> Result<ConversationInfo> {
        let original = self.conversation;
        let error = match original.client().call(&self.call).await {
            Ok(info) => return Ok(info),
            Err(error) => error,
        };
        if !matches!(error.kind(), Wire::Interrupted | Wire::Timeout) || error.never_sent() {
            return Err(Error::naming(original.id(), "fork", error));
        }
        let id = self.call.copy_id();
        match original.client().call(&Get::new(id)).await {
            // Nobody else has an id that was made for this.
            Ok(info) if self.fresh => Ok(info),
            _ => Err(Error::ambiguous(id, "make this copy", error)),
        }
    }
}

impl<'a> IntoFuture for ForkConversation<'a> {
    type Output = Result<Conversation>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let original = self.conversation;
            let info = self.copy().await?;
            let copy_id = info.id();
            let following = Following {
                tools: original
                    .client_tools()
                    .map(|dispatch| dispatch.tools().to_vec())
                    .unwrap_or_default(),
                delete_on_close: original.deletes_on_close(),
                ..original.following().clone()
            };
            let policy = original.policy_of_fork();
            let client = original.client().clone();
            let copy = Conversation::follow(client, info, following, Origin::Forked).await;
            let named = |error: Error| {
                error.in_context(&format!("the fork {copy_id} was made, but not set up"))
            };
            let copy = copy.map_err(named)?;
            let set_up = async {
                if let Some(policy) = policy {
                    copy.set_policy(policy).await?;
                }
                if let Some(analyzer) = original.mirror().restored.analyzer() {
                    copy.set_security_analyzer(analyzer).await?;
                }
                if let Some(llm) = self.llm {
                    copy.switch_llm(*llm).await?;
                }
                Ok(())
            };
            set_up
                .await
                .map_err(|error: Error| named(error).of_conversation(copy_id))?;
            Ok(copy)
        })
    }
}
