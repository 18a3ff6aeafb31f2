//! Actions that await approval: which there are, as a list and as a stream, and the answer to
//! them. Knows no policies.

use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::{
    Event, ExecutionStatus, Payload, calls,
    event::{Action, ActionEvent, SecurityRisk},
};
use tokio::time::timeout;

use crate::{Conversation, Link, Result, conversation::FIRST_SNAPSHOT};

/// An action that awaits approval.
#[derive(Debug, Clone)]
pub struct PendingAction {
    event: Event,
}

impl PendingAction {
    /// Its event, an `ActionEvent`.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event's id, which the answer to it will name.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// The tool that is to act.
    pub fn tool_name(&self) -> &str {
        self.body().map_or("", |body| body.tool_name.as_str())
    }

    /// What it is to do.
    pub fn action(&self) -> Option<&Action> {
        self.body()?.action.as_ref()
    }

    /// How risky it was judged: by the model itself, where the agent asks it to, or by the
    /// conversation's analyzer.
    pub fn risk(&self) -> SecurityRisk {
        self.body()
            .map_or(SecurityRisk::Unknown, |body| body.security_risk.clone())
    }

    /// What it is for in a few words, where the model says so.
    pub fn summary(&self) -> Option<&str> {
        self.body()?.summary.as_deref()
    }

    fn body(&self) -> Option<&ActionEvent> {
        match self.event.payload() {
            Payload::Action(body) => Some(body),
            _ => None,
        }
    }
}

impl fmt::Display for PendingAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)
    }
}

/// Actions that await one answer: the server approves or rejects all of them at once.
#[derive(Debug, Clone)]
#[must_use = "the agent waits for an answer"]
pub struct Pending {
    conversation: Conversation,
    actions: Vec<PendingAction>,
}

impl Pending {
    /// The actions, in order.
    pub fn actions(&self) -> &[PendingAction] {
        &self.actions
    }

    /// Approves them: see [`Conversation::confirm`].
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn confirm(self) -> Result<()> {
        self.conversation.confirm().await
    }

    /// Rejects them: see [`Conversation::reject`].
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn reject(self, reason: impl Into<String>) -> Result<()> {
        self.conversation.reject(reason).await
    }
}

impl Conversation {
    /// The actions that no observation, refusal or error has answered yet, in order: what
    /// [`confirm`](Self::confirm) and [`reject`](Self::reject) decide on while approval is
    /// awaited.
    pub fn pending_actions(&self) -> Vec<PendingAction> {
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
                    let event = event.clone();
                    pending.push(PendingAction { event });
                }
                _ => {}
            }
        }
        pending.reverse();
        pending
    }

    /// Every time that actions come to await approval, those actions; first those that do now.
    /// Ends with the conversation's link.
    ///
    /// Whoever runs the conversation goes on after the answer with another
    /// [`run`](Self::run):
    ///
    /// ```no_run
    /// # use futures_util::StreamExt;
    /// # async fn watch(conversation: oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// let mut pending = conversation.pending();
    /// while let Some(pending) = pending.next().await {
    ///     for action in pending.actions() {
    ///         println!("{} ({}): {action}", action.tool_name(), action.risk());
    ///     }
    ///     match pending.actions().iter().any(|action| action.tool_name() == "terminal") {
    ///         true => pending.reject("Not on this machine.").await?,
    ///         false => pending.confirm().await?,
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn pending(&self) -> PendingStream {
        // Not the handle itself: a stream must not keep the link alive.
        let weak = self.downgrade();
        let reading = Some((weak, self.changes(), Vec::<String>::new()));
        PendingStream(Box::pin(futures_util::stream::unfold(
            reading,
            |reading| async move {
                let (weak, mut changes, last) = reading?;
                loop {
                    changes.borrow_and_update();
                    let conversation = weak.upgrade()?;
                    let (waits, ended) = {
                        let held = conversation.mirror().read();
                        let status = held.state.execution_status();
                        let waits = status == ExecutionStatus::WaitingForConfirmation;
                        (waits, held.ended.is_some())
                    };
                    if ended {
                        return None;
                    }
                    if waits {
                        let actions = conversation.pending_actions();
                        let ids: Vec<_> = actions.iter().map(|it| it.id().to_owned()).collect();
                        if !ids.is_empty() && ids != last {
                            let pending = Pending {
                                conversation,
                                actions,
                            };
                            return Some((pending, Some((weak, changes, ids))));
                        }
                    }
                    drop(conversation);
                    changes.changed().await.ok()?;
                }
            },
        )))
    }

    /// Approves all pending actions: the run goes on (`POST …/events/respond_to_confirmation`).
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn confirm(&self) -> Result<()> {
        let call = calls::events::Respond::accept(self.id());
        self.call("approve", &call).await?;
        self.decided(&[]).await;
        Ok(())
    }

    /// Rejects all pending actions (`POST …/events/respond_to_confirmation`). The agent learns
    /// why at the next run.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked.
    pub async fn reject(&self, reason: impl Into<String>) -> Result<()> {
        let rejected = self.pending_actions();
        let call = calls::events::Respond::reject(self.id(), reason);
        self.call("reject", &call).await?;
        self.decided(&rejected).await;
        Ok(())
    }

    /// Waits until the link tells too that no action awaits approval any more, and has brought
    /// the answers to these: what comes next must not be refused for one.
    async fn decided(&self, rejected: &[PendingAction]) {
        let mut changes = self.changes();
        let decided = changes.wait_for(|_| {
            let (ended, decided) = {
                let held = self.mirror().read();
                let status = held.state.execution_status();
                let waits = status == ExecutionStatus::WaitingForConfirmation;
                (held.ended.is_some(), held.link == Link::Live && !waits)
            };
            let is_open = |action: &PendingAction| rejected.iter().any(|it| it.id() == action.id());
            let answered = || !self.pending_actions().iter().any(is_open);
            ended || (decided && (rejected.is_empty() || answered()))
        });
        let _ = timeout(FIRST_SNAPSHOT, decided).await;
    }
}

/// [`Pending`] actions as they come: see [`Conversation::pending`].
pub struct PendingStream(Pin<Box<dyn Stream<Item = Pending> + Send>>);

impl Stream for PendingStream {
    type Item = Pending;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pending>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for PendingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingStream")
    }
}
