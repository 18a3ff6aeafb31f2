//! Goals: the server runs the agent until a judge decides that an objective has been reached.
//! Progress arrives as typed events, and the end can be awaited.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt;
use oh_protocol::{
    Call, Event, Payload,
    calls::conversations::{self as calls},
    event::StateChange,
    state::GoalStatus,
};
use tokio::time::timeout;

use crate::{
    Conversation, Cursor, Error, ErrorKind, EventStream, Request, Result,
    link::restore::is_active,
    mirror::changes::Part,
    request::{Polled, operation},
};

/// A goal in progress.
///
/// Dropping this value does not stop the goal. A user message or [`stop`](Self::stop) interrupts
/// the goal. The server stores its progress, and [`Goals::resume`] resumes it.
#[derive(Clone)]
#[must_use = "await `ended` or read `progress`; without either, the goal continues on the server"]
pub struct Goal {
    conversation: Conversation,
    /// The end of the log before the goal started.
    from: Cursor,
}

impl Goal {
    /// Returns a stream of the goal's status: at its start, after each round with the judge's
    /// verdict, and at its end. The stream ends after that.
    pub fn progress(&self) -> GoalProgress {
        GoalProgress {
            events: Some(self.conversation.subscribe(self.from)),
            begun: false,
            conversation: self.conversation.clone(),
        }
    }

    /// Waits until the goal ends: reached, out of rounds, or interrupted. Cancel-safe. Can be
    /// called again with the same result.
    ///
    /// # Errors
    ///
    /// Returns an error if the conversation's link ends before the goal.
    pub fn ended(&self) -> Request<GoalStatus> {
        let this = self.clone();
        Request::new(async move {
            let mut progress = this.progress();
            while let Some(status) = progress.next().await {
                let status = status?;
                if !status.active {
                    return Ok(status);
                }
            }
            let what = "the connection was closed before the goal ended";
            Err(Error::new(ErrorKind::Closed, this.conversation.id(), what))
        })
    }

    /// Stops the goal: see [`Goals::stop`].
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn stop(&self) -> Request<()> {
        self.conversation.goals().stop()
    }
}

impl fmt::Debug for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Goal")
            .field("conversation", &self.conversation.id())
            .finish_non_exhaustive()
    }
}

/// A stream of the status of a [`Goal`], as reported by the server.
pub struct GoalProgress {
    /// `None` once the goal has ended.
    events: Option<EventStream>,
    /// Whether this goal has reported that it is active. Earlier reports belong to an earlier goal.
    begun: bool,
    /// Keeps the link open: without it no more events would arrive.
    conversation: Conversation,
}

impl GoalProgress {
    /// Waits for the next status. Returns `None` once the goal or the link has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<GoalStatus>> {
        StreamExt::next(self).await
    }
}

impl Stream for GoalProgress {
    type Item = Result<GoalStatus>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(events) = &mut self.events else {
                return Poll::Ready(None);
            };
            let event = std::task::ready!(events.poll_next_unpin(cx));
            match event {
                None => self.events = None,
                Some(Err(error)) => {
                    self.events = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(event)) => {
                    if let Some(status) = goal_of(&event)
                        && (self.begun || status.active)
                    {
                        self.begun = true;
                        if !status.active {
                            self.events = None;
                        }
                        return Poll::Ready(Some(Ok(status)));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for GoalProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoalProgress")
            .field("conversation", &self.conversation.id())
            .field("ended", &self.events.is_none())
            .finish()
    }
}

/// Returns the goal status in an event, if there is one.
fn goal_of(event: &Event) -> Option<GoalStatus> {
    if event.kind() != "ConversationStateUpdateEvent" {
        return None;
    }
    match event.decode() {
        Payload::ConversationStateUpdate(update) => match update.change {
            StateChange::Goal(status) => Some(*status),
            _ => None,
        },
        _ => None,
    }
}

/// A goal that has not started. Await it for the [`Goal`].
///
/// # Errors
///
/// - [`ErrorKind::Conflict`] while a run or another goal is in progress, and under a
///   [policy](crate::Approvals::set_policy) that may ask for approval: when an action waits, the
///   server starts the goal's next round, which executes the action.
/// - [`ErrorKind::PendingConfirmation`] while an action waits for approval.
/// - [`ErrorKind::InvalidInput`] for an empty objective or zero rounds.
/// - [`ErrorKind::Ambiguous`] if the connection failed, or a gateway gave up waiting for the
///   server, and the log does not show the goal.
/// - [`ErrorKind::RateLimited`] if the server accepts no more runs.
#[derive(Debug, Clone)]
#[must_use = "nothing is started until it is awaited"]
pub struct StartGoal {
    conversation: Conversation,
    call: calls::StartGoal,
    polled: Polled<Goal>,
}

impl StartGoal {
    /// Sets the maximum number of rounds, at least 1. Server's default: 10.
    pub fn max_iterations(mut self, rounds: u32) -> Self {
        self.call = self.call.max_iterations(rounds);
        self
    }
}

impl StartGoal {
    async fn begin(self) -> Result<Goal> {
        let Self {
            conversation, call, ..
        } = self;
        conversation.begin_goal("start a goal", call).await
    }
}

operation!(
    StartGoal,
    Goal,
    |goal: &mut StartGoal| goal.clone(),
    StartGoal::begin
);

/// The goals of a conversation: see [`Conversation::goals`].
#[derive(Debug, Clone)]
pub struct Goals {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the goals: objectives that the server pursues until a judge considers them reached.
    pub fn goals(&self) -> Goals {
        Goals {
            conversation: self.clone(),
        }
    }
}

impl Goals {
    /// Runs the agent repeatedly until a judge on the server, which uses the agent's model, decides
    /// that the objective has been reached (`POST …/goal`). Any user message ends the goal.
    ///
    /// ```no_run
    /// # async fn reach(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// let goal = conversation.goals().start("Make the tests pass.").max_iterations(5).await?;
    /// let end = goal.ended().await?;
    /// println!("{} after {} rounds", end.status, end.iteration);
    /// # Ok(()) }
    /// ```
    pub fn start(&self, objective: impl Into<String>) -> StartGoal {
        StartGoal {
            conversation: self.conversation.clone(),
            call: calls::StartGoal::new(self.conversation.id(), objective),
            polled: Polled::default(),
        }
    }

    /// Stops the goal (`POST …/goal/stop`). Succeeds if there is no goal.
    ///
    /// The server starts no further round and does not judge the current one. The current run goes
    /// on to its end: [`pause`](Conversation::pause) or [`interrupt`](Conversation::interrupt)
    /// stops it.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn stop(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::StopGoal::new(this.conversation.id());
            this.conversation.call("stop the goal", &call).await
        })
    }

    /// Resumes the last goal where it was interrupted (`POST …/goal/resume`).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Validation`] if there is no goal, or if it was reached or ran out of
    /// rounds; otherwise the errors of [`StartGoal`].
    pub fn resume(&self) -> Request<Goal> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::ResumeGoal::new(this.conversation.id());
            let conversation = &this.conversation;
            conversation.begin_goal("resume the goal", call).await
        })
    }
}

impl Conversation {
    /// Sends a request that starts a goal, once.
    async fn begin_goal<C>(&self, what: &str, call: C) -> Result<Goal>
    where
        C: Call + 'static,
        C::Output: 'static,
    {
        let turn = self.turn_to_step("a goal").await?;
        // Held until the log shows the goal, by the request too.
        let lock = Arc::new(self.goal_soon().await?);
        self.up_to_date_soon().await?;
        if self.policy_may_ask() {
            let what = "the confirmation policy may ask for approval, and a goal would execute the \
                        actions without it";
            let error = Error::new(ErrorKind::Conflict, self.id(), what);
            return Err(error.advise("set the policy `ConfirmationPolicy::never` first"));
        }
        let (from, held) = {
            let held = self.mirror().read();
            (Cursor::after(held.cursor), held.log.end())
        };
        // A policy that is set next has to find the goal in the log.
        let (weak, goal) = (self.downgrade(), lock.clone());
        let begun = async move {
            if let Some(this) = weak.upgrade() {
                this.has_begun_goal(held).await;
            }
            drop(goal);
        };
        let mut sent = turn.send_then(self.client(), call, begun);
        match self.answer(&mut sent).await {
            Ok(_) => {}
            Err(error) if error.is_unclear() => {
                if !self.has_begun_goal(held).await {
                    return Err(Error::ambiguous(self.id(), "started the goal", error));
                }
            }
            Err(error) => return Err(Error::transport(self.id(), what, error)),
        }
        drop(lock);
        Ok(Goal {
            conversation: self.clone(),
            from,
        })
    }

    /// Returns whether the log shows a goal after the first `held` events, within the limit.
    async fn has_begun_goal(&self, held: usize) -> bool {
        let begun = || {
            let log = self.mirror().read().log.clone();
            let mut new = log.range(held..log.end());
            new.any(|event| goal_of(event).is_some_and(|goal| goal.active))
        };
        let limit = self.limits().answer;
        timeout(limit, self.shows(begun)).await.unwrap_or(false)
    }

    /// Returns whether a goal is in progress, as of the server's newest event.
    pub(crate) async fn pursues_goal(&self) -> Result<bool> {
        let goal = self.newest_change(Part::Goal).await?;
        Ok(goal.is_some_and(|goal| is_active(&goal)))
    }
}
