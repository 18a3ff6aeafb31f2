//! Actions that wait for approval, and the answers to them.
//!
//! On the server, starting a run *is* an approval: it executes all waiting actions. Therefore an
//! answer names the actions that were shown, and is sent only while exactly those are waiting, as
//! of the server's newest event.

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
use oh_protocol::{ExecutionStatus, calls, config::ConfirmationPolicy};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Conversation, Error, ErrorKind, LinkStatus, PendingAction, Request, Result,
    gate::{self, Standing},
    mirror::{Mirror, restored::asks_by},
    run::ran_since,
};

/// The approvals of a conversation: see [`Conversation::approvals`].
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

/// A change in the set of actions that wait for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApprovalEvent {
    /// Actions that wait for one answer: the server approves or rejects all of them together.
    Requested(Vec<PendingAction>),
    /// Actions, requested earlier, that have been answered by this program or another one.
    Withdrawn(Vec<PendingAction>),
}

impl Conversation {
    /// Returns the approvals: the waiting actions, their answers, and the confirmation policy.
    pub fn approvals(&self) -> Approvals {
        Approvals {
            conversation: self.clone(),
        }
    }
}

impl Approvals {
    /// Returns the actions that wait for approval now, in order, as far as the mirror has received
    /// them. Empty while the agent runs, and when nothing waits. Actions that this process is
    /// rejecting are omitted. After a [`navigate`](crate::Branches::navigate), only actions of the
    /// active branch are included.
    pub fn pending(&self) -> Vec<PendingAction> {
        self.conversation.waiting_actions()
    }

    /// Returns a stream of the waiting actions: first the actions that wait now, then every change.
    /// The stream ends with the conversation's link.
    ///
    /// The stream does not keep the link open.
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
                    let again = {
                        let mirror = conversation.mirror();
                        mirror.answered.check_again(gate::shown(&mirror.read()))
                    };
                    drop(conversation);
                    if waiting != shown {
                        // Actions that were shown and no longer wait are withdrawn first.
                        if !shown.is_empty() {
                            let next = Some((weak, changes, Vec::new()));
                            return Some((ApprovalEvent::Withdrawn(shown), next));
                        }
                        let event = ApprovalEvent::Requested(waiting.clone());
                        return Some((event, Some((weak, changes, waiting))));
                    }
                    tokio::select! {
                        changed = changes.changed() => changed.ok()?,
                        () = until(again) => {}
                    }
                }
            },
        )))
    }

    /// Approves these actions, and lets the agent execute them
    /// (`POST …/events/respond_to_confirmation`). Use [`Conversation::join`] to wait for the run.
    /// [`Conversation::run`] does the same, as long as that run goes on or has finished, and no
    /// message, rejection or pause follows the approval.
    ///
    /// The actions must be exactly the waiting ones, in any order, as of the server's newest event.
    /// The answer is sent once and never repeated. Settings that the server may have lost, such as
    /// the [policy](Self::set_policy), are sent again first; if that fails, nothing is approved.
    /// The server approves all actions that wait when the answer arrives. If another program
    /// answers in the milliseconds between the check and the answer, and the agent proposes its
    /// next action within that time, the answer applies to that action. Handles in one process wait
    /// for each other, so they are safe from this.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Conflict`] if other actions are waiting, or these were answered already.
    /// - [`ErrorKind::NothingPending`] if the list is empty and nothing waits.
    /// - [`ErrorKind::Ambiguous`] if the connection failed, or a gateway gave up waiting for the
    ///   server, and the log does not show whether the server accepted the answer.
    /// - [`ErrorKind::Timeout`] if the state of the conversation cannot be determined in time, or
    ///   an earlier request of this process that could approve has no response yet.
    /// - [`ErrorKind::RateLimited`] if the server accepts no more runs.
    ///
    /// In every case but `Ambiguous`, nothing was approved.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the answer may or may not have been sent.
    pub fn approve(&self, actions: &[PendingAction]) -> Request<()> {
        let actions = actions.to_vec();
        let this = self.clone();
        Request::new(async move {
            let conversation = &this.conversation;
            let answered = &conversation.mirror().answered;
            let turn = conversation.turn_soon().await?;
            this.run_ended().await;
            // The run that follows may propose actions that a lost policy would not stop.
            conversation.restore_soon().await?;
            this.check(&actions).await?;
            let from = conversation.mirror().read().log.end();
            let call = calls::events::Respond::accept(conversation.id());
            let ids: HashSet<Box<str>> = actions.iter().map(|action| action.id().into()).collect();
            let (noted, approved) = (answered.clone(), ids.clone());
            let note = async move { noted.approve(approved, from) };
            let mut sent = turn.send_then(conversation.client(), call, note);
            match conversation.answer(&mut sent).await {
                Ok(()) => {}
                Err(error) if error.is_unclear() => {
                    // Only a run can end the wait of these actions.
                    let ran = || ran_since(&conversation.mirror().read().log, from);
                    if !this.shown(ran).await {
                        let id = conversation.id();
                        return Err(Error::ambiguous(id, "accepted the approval", error));
                    }
                    answered.approve(ids, from);
                }
                Err(error) => {
                    return Err(Error::transport(conversation.id(), "approve", error));
                }
            }
            // Wakes the streams: these actions no longer wait.
            conversation.mirror().wake();
            Ok(())
        })
    }

    /// Rejects these actions (`POST …/events/respond_to_confirmation`). The agent receives the
    /// reason in its next run. The conditions are those of [`approve`](Self::approve).
    ///
    /// Returns when the log shows the rejection of every action, or after the [time limit for
    /// unclear answers](crate::Attach::ambiguous_after) without it (15 s by default).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`approve`](Self::approve).
    pub fn reject(&self, actions: &[PendingAction], reason: impl Into<String>) -> Request<()> {
        let reason = reason.into();
        let actions = actions.to_vec();
        let this = self.clone();
        Request::new(async move {
            let conversation = &this.conversation;
            let turn = conversation.turn_soon().await?;
            this.check(&actions).await?;
            let ids = actions.iter().map(|action| action.id().into()).collect();
            let rejecting = Arc::new(Rejecting::new(conversation.shared_mirror(), ids));
            let call = calls::events::Respond::reject(conversation.id(), reason);
            // The request keeps them rejected too, in case the caller drops this future.
            let held = rejecting.clone();
            let mut sent = turn.send_then(conversation.client(), call, async move { drop(held) });
            let sent = conversation.answer(&mut sent).await;
            match sent {
                Ok(()) => {
                    // Until then the actions are still listed as pending.
                    let answered = || this.are_answered(&actions);
                    let _shown = conversation.shows_effect(answered).await;
                    Ok(())
                }
                Err(error) if error.is_unclear() => {
                    match this.shown(|| this.are_answered(&actions)).await {
                        true => Ok(()),
                        false => Err(Error::ambiguous(
                            conversation.id(),
                            "accepted the rejection",
                            error,
                        )),
                    }
                }
                Err(error) => Err(Error::transport(conversation.id(), "reject", error)),
            }
        })
    }

    /// Returns the policy in effect, as last reported by the server; `None` before the first
    /// report.
    pub fn policy(&self) -> Option<ConfirmationPolicy> {
        let policy = {
            let held = self.conversation.mirror().read();
            // Without a snapshot, the state is the one that the server had before the replay.
            let newer = held.snapshot.as_ref().and_then(|_| held.newer_policy());
            newer
                .or_else(|| held.state.get("confirmation_policy"))?
                .clone()
        };
        // Decoded after the lock is released: the value has any size.
        policy.decode().ok()
    }

    /// Sets when the agent must ask for approval (`POST …/confirmation_policy`).
    ///
    /// The server loses the policy when it restarts or has evicted the conversation, and reverts to
    /// the policy that the conversation was created with. The handles of this process therefore set
    /// the policy again until the last of them is dropped: after every reconnect, before every run
    /// that the policy could have to stop, before every approval, and in forks. A policy of a
    /// deleted conversation is not set for a later one with its id.
    ///
    /// The newest setting wins, even while an older one is being set again: if another program sets
    /// another policy that may ask, that policy is set again instead. A policy of another program
    /// that never asks does not replace one that does. Handles in other processes set the policy
    /// again only if they have set one.
    ///
    /// The server responds only after a running tool has ended. A policy that may ask is set only
    /// after the log shows that no goal is in progress. A handle that holds only the newest events
    /// searches the log for this, newest event first.
    ///
    /// ```no_run
    /// # async fn careful(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_protocol::{
    ///     config::{ConfirmationPolicy, SecurityAnalyzer},
    ///     event::SecurityRisk,
    /// };
    ///
    /// conversation.settings().set_security_analyzer(Some(SecurityAnalyzer::llm())).await?;
    /// conversation.approvals().set_policy(ConfirmationPolicy::risky(SecurityRisk::Medium)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Conflict`] for a policy that may ask while a [goal](crate::Goals) is in
    ///   progress: the server would execute the actions in the goal's next round, without approval.
    ///   Nothing was sent.
    /// - [`ErrorKind::Timeout`] if the log cannot be searched for a goal in time. Nothing was sent.
    /// - [`ErrorKind::Validation`] or [`ErrorKind::Unauthorized`] if the server rejects the
    ///   request. The previous policy stays.
    /// - Other kinds if the request fails. The new policy is set again before the next run. A
    ///   policy that may ask is not set again while a goal is in progress: a run or an approval
    ///   then fails with [`ErrorKind::Conflict`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the policy may be set. Later settings are sent
    /// after the response to this one.
    pub fn set_policy(&self, policy: ConfirmationPolicy) -> Request<()> {
        let conversation = self.conversation.clone();
        Request::new(async move {
            // Until the response, no goal of this process starts. A run without a response does not
            // delay the policy.
            let no_goal = match asks_by(&policy) {
                true => {
                    let lock = async { Ok(conversation.mirror().answered.lock_goal().await) };
                    Some(conversation.unless_ended(lock).await?)
                }
                false => None,
            };
            if no_goal.is_some() && conversation.pursues_goal().await? {
                let what = "a goal is in progress, and would execute actions without the approval \
                            that this policy asks for";
                let error = Error::new(ErrorKind::Conflict, conversation.id(), what);
                return Err(error.advise("stop the goal first"));
            }
            conversation.set_policy_in(no_goal, policy).await
        })
    }

    /// Waits until the run that asks for approval has ended: until then the server accepts an
    /// approval without an effect. The status is logged before that, and a snapshot follows.
    async fn run_ended(&self) {
        let mirror = self.conversation.mirror();
        let ended = || {
            let held = mirror.read();
            held.link != LinkStatus::Live || !held.wraps_up() || held.status().is_running()
        };
        _ = timeout(ENDED, self.conversation.shows(ended)).await;
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
            let what = "no action is waiting for approval, so nothing was sent";
            return Err(Error::new(
                ErrorKind::NothingPending,
                conversation.id(),
                what,
            ));
        }
        if named != waits {
            let what = "the answered actions are not the ones waiting for approval, or they were \
                        already answered";
            let error = Error::new(ErrorKind::Conflict, conversation.id(), what);
            return Err(error.advise("nothing was sent; check `approvals().pending()`"));
        }
        Ok(())
    }

    /// Returns whether the log shows an answer to each of these actions, and no action waits.
    fn are_answered(&self, actions: &[PendingAction]) -> bool {
        let open = self.conversation.open_actions().actions;
        let held = self.conversation.mirror().read();
        let waits = held.status() == WAITING
            || (held.logged.as_ref()).is_some_and(|(status, _)| *status == WAITING);
        !waits && !open.iter().any(|action| actions.contains(action))
    }

    /// Returns whether the log shows the effect of an answer within the limit for unclear answers.
    async fn shown(&self, shows: impl Fn() -> bool) -> bool {
        let limit = self.conversation.limits().answer;
        let looking = self.conversation.shows(shows);
        timeout(limit, looking).await.unwrap_or(false)
    }
}

/// Actions that are being rejected, until this value is dropped.
struct Rejecting {
    mirror: Arc<Mirror>,
    ids: Vec<Box<str>>,
}

impl Rejecting {
    fn new(mirror: Arc<Mirror>, ids: Vec<Box<str>>) -> Self {
        mirror.answered.reject(&ids);
        Self { mirror, ids }
    }
}

impl Drop for Rejecting {
    fn drop(&mut self) {
        self.mirror.answered.end_rejecting(&self.ids);
        // Wakes readers that have omitted these actions.
        self.mirror.wake();
    }
}

const WAITING: ExecutionStatus = ExecutionStatus::WaitingForConfirmation;
/// How long to wait for the snapshot that follows the end of a run.
const ENDED: Duration = Duration::from_secs(1);

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A stream of [`ApprovalEvent`]s: see [`Approvals::events`].
#[must_use = "a stream does nothing until it is read"]
pub struct ApprovalEvents(Pin<Box<dyn Stream<Item = ApprovalEvent> + Send>>);

impl ApprovalEvents {
    /// Waits for the next change. Returns `None` once the conversation's link has ended.
    /// Cancel-safe.
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
