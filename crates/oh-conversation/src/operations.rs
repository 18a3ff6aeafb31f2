//! What else a conversation can be asked for: other histories, goals, answers. Knows no settings.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::{Future, IntoFuture},
    pin::Pin,
};

use oh_protocol::{
    ConversationId, Event, Json, Payload,
    calls::conversations::{self as calls, Child, Fork, StartChild, StartGoal},
    config::Llm,
};

use crate::{Conversation, Result, attach::Following};

impl Conversation {
    /// A copy of it under another id; await it.
    pub fn fork(&self) -> ForkConversation<'_> {
        ForkConversation {
            conversation: self,
            call: Fork::new(self.id()),
            llm: None,
        }
    }

    /// Goes on from another event: the next one follows it, and what came after stays in the log
    /// but not in the visible [`branch`](Self::branch).
    ///
    /// # Errors
    ///
    /// When the log does not have the event, or the server cannot be asked.
    pub async fn navigate(&self, event_id: impl Into<String>) -> Result<()> {
        let call = calls::Navigate::to(self.id(), event_id);
        self.call("navigate", &call).await.map(drop)
    }

    /// Goes on from before the first event.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn navigate_to_start(&self) -> Result<()> {
        let call = calls::Navigate::to_start(self.id());
        self.call("navigate", &call).await.map(drop)
    }

    /// Starts a conversation under this one, with the same agent, on a task. Not repeated when
    /// its answer is lost: look among the children in [`info`](Self::info), then.
    ///
    /// # Errors
    ///
    /// When the server refuses (a worktree needs a repository with a commit), or cannot be asked.
    pub async fn start_child(
        &self,
        task: impl Into<String>,
        change: impl FnOnce(StartChild) -> StartChild,
    ) -> Result<Child> {
        let call = change(StartChild::new(self.id(), task));
        self.call("start a child", &call).await
    }

    /// Runs the agent again and again until a judge on the server says that the objective is
    /// reached. Any message of a user ends it.
    ///
    /// # Errors
    ///
    /// When the conversation is busy, the objective is empty, or the server cannot be asked.
    pub async fn start_goal(
        &self,
        objective: impl Into<String>,
        change: impl FnOnce(StartGoal) -> StartGoal,
    ) -> Result<()> {
        let call = change(StartGoal::new(self.id(), objective));
        self.call("start a goal", &call).await
    }

    /// Ends the goal after the current step.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn stop_goal(&self) -> Result<()> {
        let call = calls::StopGoal::new(self.id());
        self.call("stop the goal", &call).await
    }

    /// Takes the last goal up again.
    ///
    /// # Errors
    ///
    /// When there is none, the conversation is busy, or the server cannot be asked.
    pub async fn resume_goal(&self) -> Result<()> {
        let call = calls::ResumeGoal::new(self.id());
        self.call("resume the goal", &call).await
    }

    /// Lets the agent's condenser shorten the history now, with a model call.
    ///
    /// # Errors
    ///
    /// When the agent has no condenser, the model fails, or the server cannot be asked.
    pub async fn condense(&self) -> Result<()> {
        let call = calls::Condense::new(self.id());
        self.call("condense", &call).await
    }

    /// What the agent said last, with `finish` or as text; empty while it has said nothing.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn final_response(&self) -> Result<String> {
        let call = calls::FinalResponse::new(self.id());
        self.call("read the final response", &call).await
    }

    /// The actions that no observation, refusal or error has answered yet, in order: what
    /// [`confirm`](Self::confirm) and [`reject`](Self::reject) decide on while approval is
    /// awaited.
    pub fn pending_actions(&self) -> Vec<Event> {
        let events = self.events();
        let (mut answered, mut pending) = (HashSet::new(), Vec::new());
        for event in events.iter().rev() {
            match event.payload() {
                Payload::Observation(body) => _ = answered.insert(body.action_id.as_str()),
                Payload::UserReject(body) => _ = answered.insert(body.action_id.as_str()),
                Payload::AgentError(body) => _ = answered.insert(body.tool_call_id.as_str()),
                Payload::Action(body)
                    if body.action.is_some()
                        && !answered.contains(event.id())
                        && !answered.contains(body.tool_call_id.as_str()) =>
                {
                    pending.push(event.clone());
                }
                _ => {}
            }
        }
        pending.reverse();
        pending
    }

    /// The visible branch: the events from the first to the head, by their parents. What was
    /// left by [`navigate`](Self::navigate) is not among them; [`events`](Self::events) has it.
    /// State changes and the like, which have no place in a branch, are left out, too.
    pub fn branch(&self) -> Vec<Event> {
        let events = self.events();
        let by_id: HashMap<&str, &Event> = events.iter().map(|event| (event.id(), event)).collect();
        let state = self.state();
        let head = state.get("leaf_event_id").and_then(Json::as_text);
        let mut branch = Vec::new();
        let mut next = head.as_deref().and_then(|id| by_id.get(id));
        while let Some(event) = next
            && branch.len() < events.len()
        {
            branch.push((*event).clone());
            next = event.parent_id().and_then(|id| by_id.get(id));
        }
        branch.reverse();
        branch
    }
}

/// Copies a conversation. The copy has the same events under the same ids, but not the secrets
/// set at run time nor keys given with the agent: the server leaves them out. A confirmation
/// policy that was set by [`Conversation::set_confirmation_policy`] is set again.
#[derive(Debug)]
#[must_use = "nothing is copied until it is awaited"]
pub struct ForkConversation<'a> {
    conversation: &'a Conversation,
    call: Fork,
    llm: Option<Box<Llm>>,
}

impl ForkConversation<'_> {
    /// The id of the copy. Default: a random one.
    pub fn id(mut self, id: ConversationId) -> Self {
        self.call = self.call.id(id);
        self
    }

    /// Its title, 1 to 200 characters.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.call = self.call.title(title);
        self
    }

    /// Its tags, instead of the original's.
    pub fn tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.call = self.call.tags(tags);
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

impl<'a> IntoFuture for ForkConversation<'a> {
    type Output = Result<Conversation>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let original = self.conversation;
            let info = original.call("fork", &self.call).await?;
            let copy =
                Conversation::follow(original.client().clone(), info, Following::default()).await?;
            if let Some(policy) = original.mirror().policy() {
                copy.set_confirmation_policy(policy).await?;
            }
            if let Some(llm) = self.llm {
                copy.switch_llm(*llm).await?;
            }
            Ok(copy)
        })
    }
}
