//! Actions that wait for approval: which there are, and the answer to them.
//!
//! To the server, a run *is* an approval: whatever waits then is executed. So an answer names the
//! actions that were shown, and is sent only while exactly those are waiting, as of the newest
//! event that the server has.

use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::StreamExt;
use oh_protocol::{
    Event, ExecutionStatus, Payload, calls,
    config::ConfirmationPolicy,
    event::{Action, ActionEvent, SecurityRisk},
};
use oh_transport::ErrorKind as Wire;
use tokio::time::timeout;

use crate::{
    Conversation, Error, ErrorKind, Result,
    answered::{self, Rejecting},
    gate::Standing,
    run::ran_since,
};

/// An action that waits for approval.
#[derive(Debug, Clone)]
pub struct PendingAction {
    event: Event,
}

impl PendingAction {
    pub(crate) fn new(event: Event) -> Self {
        Self { event }
    }

    /// The action's event, an `ActionEvent`.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event's id, which names the action.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// The name of the tool that would act.
    pub fn tool_name(&self) -> &str {
        self.body().map_or("", |body| body.tool_name.as_str())
    }

    /// The action itself, typed by its tool. `None` if this version has no type for it.
    pub fn action(&self) -> Option<&Action> {
        self.body()?.action.as_ref()
    }

    /// The risk of the action, as the agent's model or the conversation's security analyzer judged
    /// it.
    pub fn risk(&self) -> SecurityRisk {
        self.body()
            .map_or(SecurityRisk::Unknown, |body| body.security_risk.clone())
    }

    /// A short summary of the action by the model, if it gave one.
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

/// Two are equal if they name the same action.
impl PartialEq for PendingAction {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for PendingAction {}

/// Tool, risk and the model's summary or the action's first line.
impl fmt::Display for PendingAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.summary() {
            Some(summary) => write!(f, "{} ({}): {summary}", self.tool_name(), self.risk()),
            None => write!(f, "{} ({}): {}", self.tool_name(), self.risk(), self.event),
        }
    }
}

/// The approvals of a conversation: [`Conversation::approvals`].
///
/// ```no_run
/// # async fn watch(conversation: oh_conversation::Conversation) -> oh_conversation::Result<()> {
/// use oh_conversation::ApprovalEvent;
///
/// let approvals = conversation.approvals();
/// let mut events = approvals.events();
/// while let Some(event) = events.next().await {
///     match event {
///         ApprovalEvent::Requested(actions) => {
///             for action in &actions {
///                 println!("{action}");
///             }
///             match actions.iter().any(|action| action.tool_name() == "terminal") {
///                 true => approvals.reject(&actions, "Not on this machine.").await?,
///                 false => approvals.approve(&actions).await?,
///             }
///         }
///         ApprovalEvent::Withdrawn(actions) => println!("{} answered elsewhere", actions.len()),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Approvals {
    conversation: Conversation,
}

/// A change of what waits for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApprovalEvent {
    /// Actions that wait for one answer: the server approves or rejects all of them at once.
    Requested(Vec<PendingAction>),
    /// Actions, requested before, that have been answered: by this program, or by somebody else.
    Withdrawn(Vec<PendingAction>),
}

impl Conversation {
    /// Approvals: the actions that wait for one, the answers, and the policy that asks.
    pub fn approvals(&self) -> Approvals {
        Approvals {
            conversation: self.clone(),
        }
    }
}

impl Approvals {
    /// The actions that wait for approval now, in order, as far as the mirror has been told. Empty
    /// while the agent runs, and when nothing waits. Actions that this process is rejecting are
    /// left out. After a [`navigate`](Conversation::navigate), only actions of the active branch
    /// wait.
    pub fn pending(&self) -> Vec<PendingAction> {
        self.conversation.waiting_actions()
    }

    /// A stream of what waits for approval: first what waits now, then every change. Ends with the
    /// conversation's link.
    ///
    /// The stream does not keep the link alive.
    pub fn events(&self) -> ApprovalEvents {
        let weak = self.conversation.downgrade();
        let changes = self.conversation.changes();
        let reading = (weak, changes, Vec::<PendingAction>::new());
        ApprovalEvents(Box::pin(futures_util::stream::unfold(
            Some(reading),
            |reading| async move {
                let (weak, mut changes, shown) = reading?;
                loop {
                    changes.borrow_and_update();
                    let conversation = weak.upgrade()?;
                    if conversation.ended().is_some() {
                        return None;
                    }
                    let waiting = conversation.waiting_actions();
                    drop(conversation);
                    if waiting != shown {
                        // What was shown and waits no more is withdrawn first.
                        if !shown.is_empty() {
                            let next = Some((weak, changes, Vec::new()));
                            return Some((ApprovalEvent::Withdrawn(shown), next));
                        }
                        let event = ApprovalEvent::Requested(waiting.clone());
                        return Some((event, Some((weak, changes, waiting))));
                    }
                    changes.changed().await.ok()?;
                }
            },
        )))
    }

    /// Approves these actions, and lets the agent execute them
    /// (`POST …/events/respond_to_confirmation`). Use [`Conversation::join`] to wait for the run.
    ///
    /// The actions must be exactly those that wait, in any order, as of the newest event that the
    /// server has. The answer is sent once and never repeated. The server itself approves whatever
    /// waits when the answer arrives: if another program answers in the milliseconds between the
    /// look and the answer, and the agent proposes its next action within that time, the answer
    /// counts for that one. Handles of one process wait for each other and are safe from this.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when other actions wait than these, or these were answered already;
    /// [`ErrorKind::NothingPending`] when the list is empty and nothing waits;
    /// [`ErrorKind::Ambiguous`] when the connection failed and the log does not show whether the
    /// server took the answer; [`ErrorKind::RateLimited`] when the server takes no more runs. In
    /// every case but `Ambiguous`, nothing was approved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes leaves open whether the answer was sent.
    pub async fn approve(&self, actions: &[PendingAction]) -> Result<()> {
        let conversation = &self.conversation;
        let answered = &conversation.mirror().answered;
        let turn = answered.turn().await;
        self.check(actions).await?;
        let from = conversation.mirror().read().log.end();
        let call = calls::events::Respond::accept(conversation.id());
        let ids: HashSet<Box<str>> = actions.iter().map(|action| action.id().into()).collect();
        let (noted, approved) = (answered.clone(), ids.clone());
        let note = move || noted.approve(approved);
        let mut sent = turn.send_then(conversation.client(), call, note);
        match answered::answer(&mut sent).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), Wire::Interrupted | Wire::Timeout) => {
                // Only a run takes these actions out of their wait.
                let ran = || ran_since(&conversation.mirror().read().log, from);
                if !self.shown(ran).await {
                    let id = conversation.id();
                    return Err(Error::ambiguous(id, "take the approval", error));
                }
                answered.approve(ids);
            }
            Err(error) => {
                return Err(Error::transport(conversation.id(), "approve", error));
            }
        }
        // Wakes the streams: these actions wait no more.
        conversation.mirror().wake();
        Ok(())
    }

    /// Rejects these actions (`POST …/events/respond_to_confirmation`). The agent learns the
    /// reason at the next run. The conditions are those of [`approve`](Self::approve).
    ///
    /// Returns when the log shows the rejection of every action, or after 5 s without it.
    ///
    /// # Errors
    ///
    /// As [`approve`](Self::approve).
    pub async fn reject(&self, actions: &[PendingAction], reason: impl Into<String>) -> Result<()> {
        let conversation = &self.conversation;
        let turn = conversation.mirror().answered.turn().await;
        self.check(actions).await?;
        let ids = actions.iter().map(|action| action.id().into()).collect();
        let rejecting = Arc::new(Rejecting::new(conversation.shared_mirror(), ids));
        let call = calls::events::Respond::reject(conversation.id(), reason);
        // The request itself keeps them rejected, too: the caller may not wait for its answer.
        let held = rejecting.clone();
        let mut sent = turn.send_then(conversation.client(), call, move || drop(held));
        let sent = answered::answer(&mut sent).await;
        match sent {
            Ok(()) => {
                self.shown_within(DECIDED, || self.are_answered(actions))
                    .await;
                Ok(())
            }
            Err(error) if matches!(error.kind(), Wire::Interrupted | Wire::Timeout) => {
                match self.shown(|| self.are_answered(actions)).await {
                    true => Ok(()),
                    false => Err(Error::ambiguous(
                        conversation.id(),
                        "take the rejection",
                        error,
                    )),
                }
            }
            Err(error) => Err(Error::transport(conversation.id(), "reject", error)),
        }
    }

    /// The policy in effect, as the server last told; `None` while it has told of none.
    pub fn policy(&self) -> Option<ConfirmationPolicy> {
        let state = self.conversation.state();
        let policy = state.get("confirmation_policy")?;
        let kind = policy.get("kind")?.as_text()?.to_string();
        let mut read = ConfirmationPolicy::custom(kind);
        if let serde_json::Value::Object(fields) = policy.to_value() {
            for (name, value) in fields {
                if name != "kind" {
                    read = read.set(name, value);
                }
            }
        }
        Some(read)
    }

    /// Sets when the agent must ask (`POST …/confirmation_policy`). The server forgets it when it
    /// restarts or has evicted the conversation, and falls back on the policy that the
    /// conversation was created with. This handle, and those of this process that share its link,
    /// set it again after every reconnection and before every run that it could have to stop, and
    /// in forks made with this handle. Of several settings the newest wins, also while one is
    /// being set again. A handle of another process does not know of it.
    ///
    /// Waits on the server until a running tool has ended.
    ///
    /// ```no_run
    /// # async fn careful(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::{
    ///     config::{ConfirmationPolicy, SecurityAnalyzer},
    ///     event::SecurityRisk,
    /// };
    ///
    /// conversation.set_security_analyzer(Some(SecurityAnalyzer::llm())).await?;
    /// conversation.approvals().set_policy(ConfirmationPolicy::risky(SecurityRisk::Medium)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be asked. After a refusal, the policy set before stays.
    pub async fn set_policy(&self, policy: ConfirmationPolicy) -> Result<()> {
        self.conversation.set_policy(policy).await
    }

    /// Fails unless exactly these actions wait, as of the server's newest event.
    async fn check(&self, actions: &[PendingAction]) -> Result<()> {
        let conversation = &self.conversation;
        let waiting = match conversation.standing_soon().await? {
            Standing::Waiting(waiting) => waiting,
            Standing::Clear | Standing::Running => Vec::new(),
        };
        let named: HashSet<&str> = actions.iter().map(PendingAction::id).collect();
        let waits: HashSet<&str> = waiting.iter().map(PendingAction::id).collect();
        if named.is_empty() && waits.is_empty() {
            let what = "no action waits for approval: nothing was sent";
            return Err(Error::new(
                ErrorKind::NothingPending,
                conversation.id(),
                what,
            ));
        }
        if named != waits {
            let what = "other actions wait for approval than those that were answered, or they \
                        were answered already: nothing was sent; look at `approvals().pending()`";
            return Err(Error::new(ErrorKind::Conflict, conversation.id(), what));
        }
        Ok(())
    }

    /// Whether the log shows an answer to each of these actions, and that nothing waits for one.
    fn are_answered(&self, actions: &[PendingAction]) -> bool {
        let (open, _) = self.conversation.open_actions();
        let held = self.conversation.mirror().read();
        let waits = held.status() == WAITING
            || (held.logged.as_ref()).is_some_and(|(status, _)| *status == WAITING);
        !waits && !open.iter().any(|action| actions.contains(action))
    }

    async fn shown(&self, shows: impl Fn() -> bool) -> bool {
        let limit = self.conversation.limits().answer;
        self.shown_within(limit, shows).await
    }

    /// Whether the log comes to show something within a time limit.
    async fn shown_within(&self, limit: Duration, shows: impl Fn() -> bool) -> bool {
        let conversation = &self.conversation;
        let looking = async {
            let mut changes = conversation.changes();
            loop {
                changes.borrow_and_update();
                if shows() {
                    return true;
                }
                if conversation.ended().is_some() || changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        timeout(limit, looking).await.unwrap_or(false)
    }
}

const WAITING: ExecutionStatus = ExecutionStatus::WaitingForConfirmation;
/// How long to wait until the log shows a rejection that the server has taken.
const DECIDED: Duration = Duration::from_secs(5);

/// [`ApprovalEvent`]s as they come: see [`Approvals::events`].
#[must_use = "a stream does nothing until it is read"]
pub struct ApprovalEvents(Pin<Box<dyn Stream<Item = ApprovalEvent> + Send>>);

impl ApprovalEvents {
    /// Waits for the next change; `None` once the conversation's link has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<ApprovalEvent> {
        self.0.next().await
    }
}

impl Stream for ApprovalEvents {
    type Item = ApprovalEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ApprovalEvent>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ApprovalEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApprovalEvents")
    }
}
