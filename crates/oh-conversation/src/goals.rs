//! Goals: the server runs the agent until a judge decides that an objective has been reached.
//! Progress arrives as typed events, and the end can be awaited.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt;
use oh_protocol::{
    Event, Payload,
    calls::conversations::{self as calls},
    event::StateChange,
    state::GoalStatus,
};

use crate::{
    Conversation, Cursor, Error, ErrorKind, EventStream, Request, Result, answered, gate::Standing,
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

    /// Stops the goal after the current step: see [`Goals::stop`].
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
    match event.payload() {
        Payload::ConversationStateUpdate(update) => match &update.change {
            StateChange::Goal(status) => Some((**status).clone()),
            _ => None,
        },
        _ => None,
    }
}

/// A goal that has not started. Await it for the [`Goal`].
///
/// # Errors
///
/// Returns [`ErrorKind::Conflict`] while a run or another goal is in progress,
/// [`ErrorKind::PendingConfirmation`] while an action waits for approval, and
/// [`ErrorKind::InvalidInput`] for an empty objective or zero rounds. Returns
/// [`ErrorKind::RateLimited`] if the server accepts no more runs.
#[derive(Debug)]
#[must_use = "nothing is started until it is awaited"]
pub struct StartGoal {
    conversation: Conversation,
    call: calls::StartGoal,
}

impl StartGoal {
    /// Sets the maximum number of rounds, at least 1. Server's default: 10.
    pub fn max_iterations(mut self, rounds: u32) -> Self {
        self.call = self.call.max_iterations(rounds);
        self
    }
}

impl IntoFuture for StartGoal {
    type Output = Result<Goal>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let conversation = self.conversation;
            let turn = conversation.mirror().answered.turn().await;
            let from = conversation.before_goal().await?;
            let mut sent = turn.send(conversation.client(), self.call);
            let sent = answered::answer(&mut sent).await;
            sent.map_err(|error| Error::transport(conversation.id(), "start a goal", error))?;
            Ok(conversation.goal_from(from))
        })
    }
}

/// The goals of a conversation: see [`Conversation::goals`].
#[derive(Debug, Clone)]
pub struct Goals {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the goals: objectives that the server pursues until a judge says that they are reached.
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
        }
    }

    /// Stops the goal after the current step (`POST …/goal/stop`). Succeeds if there is no goal.
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
    /// rounds; [`ErrorKind::Conflict`] while a run or a goal is in progress;
    /// [`ErrorKind::PendingConfirmation`] while an action waits for approval.
    pub fn resume(&self) -> Request<Goal> {
        let this = self.clone();
        Request::new(async move {
            let call = calls::ResumeGoal::new(this.conversation.id());
            let turn = this.conversation.mirror().answered.turn().await;
            let from = this.conversation.before_goal().await?;
            let mut sent = turn.send(this.conversation.client(), call);
            let sent = answered::answer(&mut sent).await;
            sent.map_err(|error| {
                Error::transport(this.conversation.id(), "resume the goal", error)
            })?;
            Ok(this.conversation.goal_from(from))
        })
    }
}

impl Conversation {
    /// Checks that nothing waits for approval, because a goal runs the agent at once.
    async fn before_goal(&self) -> Result<Cursor> {
        if let Standing::Waiting(_) = self.standing_soon().await? {
            let what = "an action is waiting for approval, and a goal would execute it";
            let error = Error::new(ErrorKind::PendingConfirmation, self.id(), what);
            return Err(error.advise("approve or reject it first"));
        }
        self.restore().await?;
        Ok(self.here())
    }

    fn goal_from(&self, from: Cursor) -> Goal {
        Goal {
            conversation: self.clone(),
            from,
        }
    }
}
