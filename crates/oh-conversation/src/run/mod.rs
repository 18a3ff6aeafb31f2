//! Running the agent until the run is really over.

mod before;
mod budget;
mod decide;
mod limits;
mod outcome;
mod pace;
mod settle;
mod signs;
mod start;
mod step;
pub(crate) mod turn;
pub(crate) mod usage;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use oh_protocol::{ExecutionStatus, Payload, calls, event::ConversationErrorEvent};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::budget::Budget;
pub use self::outcome::{RunOutcome, RunReport, RunStatus};
use self::{
    before::Before,
    decide::{Asked, Decision, Signals, decide},
    pace::{Ask, Pace, QUIET},
    signs::{Progress, has_stop_hooks, says_blind, snapshot_end, status_in},
};
pub(crate) use self::{
    signs::{ran_since, status_since},
    start::Started,
};
use crate::{Conversation, Error, ErrorKind, Result, Usage, gate::Standing, request::Polled};

/// Timeout of a request that checks for the end. A hook may be blocking the server.
const LOOK: Duration = Duration::from_secs(10);

/// A run that has not started. Await it for its [`RunOutcome`]; `tokio::spawn` accepts it too.
///
/// The request is sent only if no action waits for approval, as of the server's newest event. The
/// request is never repeated: a run in progress is joined, and after a lost response the log shows
/// whether the run was accepted.
///
/// When the agent calls [client tools](crate::ClientTool), the run is over only after the agent has
/// received every result. If the link ends before that, the outcome is that of the link.
///
/// # Errors
///
/// - [`ErrorKind::InvalidInput`] if a limit of costs is negative or not a number. Nothing was sent.
/// - [`ErrorKind::RateLimited`] if the server accepts no more runs.
/// - [`ErrorKind::Ambiguous`] if the connection failed and the log does not show whether the run
///   was accepted.
/// - [`ErrorKind::Replaced`] if the server now has another conversation with this id.
/// - [`ErrorKind::Closed`] if the handle is closed during the run.
/// - Other kinds if the server rejects the request.
///
/// ```no_run
/// # async fn work(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
/// use oh_conversation::RunStatus;
/// use std::time::Duration;
///
/// let run = conversation.run().max_cost(0.5).timeout(Duration::from_secs(600)).await?;
/// if run.status() == RunStatus::StillRunning {
///     conversation.interrupt().await?;
/// }
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// Dropping the future does not stop the run. The next [`run`](Conversation::run) or
/// [`join`](Conversation::join) joins it.
#[derive(Clone)]
#[must_use = "a run does not begin until it is awaited"]
pub struct Run {
    conversation: Conversation,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    budget: Budget,
    /// Only waits, and starts no run.
    join: bool,
    polled: Polled<RunOutcome>,
}

/// How the wait ended.
enum End {
    Status(ExecutionStatus),
    TimeOver,
    Budget,
    Wedged,
    Gone,
    ServerGone(Option<Error>),
}

impl Conversation {
    /// Runs the agent until the run is really over (`POST …/run`). Await the outcome. A run in
    /// progress is joined. While an action waits for approval nothing is sent, and the outcome is
    /// [`WaitingForConfirmation`](crate::RunStatus::WaitingForConfirmation).
    pub fn run(&self) -> Run {
        Run::new(self)
    }

    /// Waits for the end of a run in progress, as [`run`](Self::run) does, but starts none. A run
    /// that the server has accepted from this process counts as in progress, even before the log
    /// shows it. Without a run, the outcome is the conversation's current status.
    pub fn join(&self) -> Run {
        Run::joining(self)
    }
}

impl Run {
    pub(crate) fn new(conversation: &Conversation) -> Self {
        Self {
            conversation: conversation.clone(),
            timeout: None,
            idle_timeout: None,
            budget: Budget::default(),
            join: false,
            polled: Polled::default(),
        }
    }

    /// Waits for a run, and starts none.
    pub(crate) fn joining(conversation: &Conversation) -> Self {
        Self {
            join: true,
            ..Self::new(conversation)
        }
    }

    /// Ends the wait with [`RunStatus::StillRunning`] after this time, counted from the first poll
    /// of the future. The run continues. Default: no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Ends the wait with [`RunStatus::StillRunning`] when no event has arrived for this long,
    /// including while the link is down, and while handlers of client tools work. The run
    /// continues. Default: no limit.
    ///
    /// Set a limit where [sockets are refused](crate::LinkStatus::Polling): if the server restarts
    /// during the run, and its log does not show that, nothing else ends the wait. Over REST, such
    /// a run looks like one with a long step.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Interrupts the run with [`RunStatus::BudgetReached`] when it has cost this much, in US
    /// dollars. Default: no limit.
    ///
    /// Counts from the call of [`run`](Conversation::run) or [`join`](Conversation::join), so a
    /// loop of approvals and runs needs [`max_total_cost`](Self::max_total_cost). Includes the runs
    /// that continue this one with the results of client tools; a result that arrives later is
    /// saved, and starts no run.
    ///
    /// The server reports the cost of a model call when the call has ended, at the latest when its
    /// actions have been executed. So the cost may exceed the limit by that call, and its actions
    /// may be executed. A model without a known price costs nothing: use
    /// [`max_tokens`](Self::max_tokens).
    pub fn max_cost(mut self, dollars: f64) -> Self {
        self.budget.max_cost = Some(dollars);
        self
    }

    /// Interrupts the run with [`RunStatus::BudgetReached`] when the conversation has cost this
    /// much in total, in US dollars: all its runs so far, as in [`Conversation::usage`]. Default:
    /// no limit.
    ///
    /// If the conversation has cost this much already and no run is in progress, nothing is sent.
    /// Otherwise works like [`max_cost`](Self::max_cost).
    ///
    /// ```no_run
    /// # async fn work(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_conversation::RunStatus;
    ///
    /// // All runs together cost 2 dollars at most, plus one model call.
    /// let mut run = conversation.run().max_total_cost(2.0).await?;
    /// while run.status() == RunStatus::WaitingForConfirmation {
    ///     let actions = conversation.approvals().pending();
    ///     // Show the actions to a person, who approves them.
    ///     conversation.approvals().approve(&actions).await?;
    ///     run = conversation.run().max_total_cost(2.0).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn max_total_cost(mut self, dollars: f64) -> Self {
        self.budget.max_total_cost = Some(dollars);
        self
    }

    /// Sets all limits for costs and tokens.
    pub(crate) fn budgeted(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Interrupts the run with [`RunStatus::BudgetReached`] when its models have used this many
    /// prompt and completion tokens. Works like [`max_cost`](Self::max_cost).
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.budget.max_tokens = Some(tokens);
        self
    }

    /// Waits until the run and those that continue it with the results of client tools are over.
    /// Every limit covers all of them, and all waits in between.
    async fn until_over(self) -> Result<RunOutcome> {
        let conversation = &self.conversation;
        self.budget.check(conversation.id())?;
        let mut before = Before::new(conversation);
        let idle = !before.running && self.expected().is_none();
        if !self.join && idle && self.budget.is_total_used_up(&before.usage) {
            return Ok(outcome(conversation, &before, End::Budget));
        }
        if let (false, Some(tools)) = (self.join, conversation.client_tools()) {
            tools.start_runs();
        }
        let deadline = self
            .timeout
            .and_then(|limit| before.begun.checked_add(limit));
        let spent = AtomicBool::new(false);
        let end = {
            let work = Box::pin(self.until_settled(&mut before));
            tokio::select! {
                biased;
                end = work => match end? {
                    // The effect of the interrupt was faster than its response.
                    End::Status(ExecutionStatus::Paused) if spent.load(Ordering::Acquire) => {
                        End::Budget
                    }
                    end => end,
                },
                () = reached(deadline) => End::TimeOver,
                () = self.idle() => End::TimeOver,
                end = self.budget(&spent) => end?,
                error = self.unreachable() => End::ServerGone(error),
                error = conversation.end() => end_of_link(error)?,
            }
        };
        Ok(outcome(conversation, &before, end))
    }

    /// Waits until the server's run is over, without waiting for client tools.
    async fn work(&self, before: &mut Before) -> Result<End> {
        let begun = match self.join {
            true => self.find(before).await,
            false => self.start(before).await,
        };
        match begun {
            Ok(Some(end)) => Ok(end),
            Ok(None) => self.ending(before).await,
            Err(error) => end_of_link(error),
        }
    }

    /// Starts a run or joins one. Returns an end if it is known already.
    async fn start(&self, before: &mut Before) -> Result<Option<End>> {
        let conversation = &self.conversation;
        let started = conversation.start_run(|| before.mark(conversation)).await?;
        conversation.mirror().answered.wait();
        before.started = started == Started::Begun;
        if before.started {
            // Any earlier run has ended, or it would have been joined.
            (before.running, before.begins) = (false, true);
        }
        Ok(match started {
            Started::Begun => None,
            Started::Joined => {
                self.join_run(before);
                None
            }
            Started::Before(from) => {
                before.has_begun(from);
                None
            }
            Started::Waiting => Some(End::Status(ExecutionStatus::WaitingForConfirmation)),
            Started::Wedged => Some(End::Wedged),
        })
    }

    /// Joins a run: it is in progress, or it is expected from an approval, which may have no
    /// effect.
    fn join_run(&self, before: &mut Before) {
        let mirror = self.conversation.mirror();
        let held = mirror.read();
        match mirror.answered.approved_at(held.ran) {
            Some(events) if !held.status().is_running() => {
                before.expect(events);
                before.approved = true;
            }
            _ => before.running = true,
        }
    }

    /// Returns when the server has accepted a run of this process that the log does not show yet,
    /// and the length of the log at that time. The agent may take long to start.
    fn expected(&self) -> Option<(Instant, usize)> {
        let conversation = &self.conversation;
        let held = conversation.mirror().read();
        let (at, events) = conversation.mirror().answered.expected(held.ran)?;
        let paused = status_since(&held.log, events) == Some(ExecutionStatus::Paused);
        let in_time = at.elapsed() < conversation.limits().wedged;
        (in_time && !paused).then_some((at, events))
    }

    /// Finds a run in progress. Returns an end if there is none.
    async fn find(&self, before: &mut Before) -> Result<Option<End>> {
        let conversation = &self.conversation;
        let mut idle_until = None;
        loop {
            let mut changes = conversation.changes();
            // The run may end before the check does.
            before.mark(conversation);
            let standing = conversation.standing().await?;
            conversation.mirror().answered.wait();
            let status = match standing {
                Standing::Running => {
                    self.join_run(before);
                    return Ok(None);
                }
                Standing::Waiting(_) => ExecutionStatus::WaitingForConfirmation,
                Standing::Clear => conversation.mirror().read().status(),
            };
            if let (Standing::Clear, Some((at, events))) = (&standing, self.expected()) {
                before.accepted = at;
                before.expect(events);
                return Ok(None);
            }
            if status != ExecutionStatus::Idle {
                return Ok(Some(End::Status(status)));
            }
            // A run that was requested just now may not have started.
            let until = *idle_until.get_or_insert_with(|| Instant::now() + QUIET);
            if Instant::now() >= until {
                return Ok(Some(End::Status(status)));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Waits for the end of a run that the server has accepted or is executing.
    async fn ending(&self, before: &Before) -> Result<End> {
        let conversation = &self.conversation;
        let mut changes = conversation.changes();
        let mut seen = before.events;
        let mut progress = Progress {
            begun: (!before.begins).then_some(0),
            hint: before.running.then_some(ExecutionStatus::Running),
        };
        let mut asked = None::<Asked>;
        let mut pace = Pace::new();
        loop {
            changes.borrow_and_update();
            if let Some(error) = conversation.ended() {
                return end_of_link(error);
            }
            let (signals, up) = {
                let held = conversation.mirror().read();
                if held.log.end() != seen {
                    progress.add(&held.log, seen);
                    seen = held.log.end();
                    asked = None;
                    pace.reset();
                }
                let signals = Signals {
                    begun: progress.begun.is_some(),
                    hint: progress.hint.clone(),
                    snapshot: snapshot_end(&held, before, &progress),
                    asked: asked.clone(),
                    stop_hooks: has_stop_hooks(&held.state),
                    unanswered: false,
                    unapproved: false,
                    overdue: before.accepted.elapsed() >= conversation.limits().wedged,
                };
                (signals, held.link.is_up())
            };
            // These look through the log.
            let unsure = !signals.begun && asked.is_some();
            let unapproved = || before.approved && !conversation.waiting_actions().is_empty();
            let signals = Signals {
                unanswered: unsure && conversation.is_unanswered(),
                unapproved: unsure && unapproved(),
                ..signals
            };
            let end = match decide(&signals) {
                Decision::Wait => None,
                Decision::End(status) => Some(End::Status(status)),
                Decision::Wedged => Some(End::Wedged),
            };
            if let Some(end) = end {
                if !signals.begun {
                    conversation.mirror().answered.expect_none();
                }
                return Ok(end);
            }
            let next = pace.next(&signals, up);
            tokio::select! {
                _ = changes.changed() => continue,
                () = sleep_until(next.0) => {}
            }
            pace.asked();
            match next.1 {
                Ask::Newest => self.patrol().await,
                Ask::End => {
                    if let Some(answer) = self.ask().await {
                        let times = match &asked {
                            Some(last) if last.status == answer.status => last.times + 1,
                            _ => 1,
                        };
                        asked = Some(Asked { times, ..answer });
                    }
                }
            }
        }
    }

    /// Checks that the mirror has the server's newest event, because a socket may stop delivering
    /// without an error.
    async fn patrol(&self) {
        let search = calls::events::Search::new(self.conversation.id())
            .descending()
            .limit(1);
        let asked = self.conversation.client().call(&search).timeout(LOOK).await;
        let newest = asked.as_ref().ok().and_then(|page| page.items.first());
        let here = match newest {
            Some(newest) => {
                let mirror = self.conversation.mirror();
                let held = mirror.read().holds(newest.id());
                held || self.conversation.comes_within(newest.id(), QUIET).await
            }
            None => !asked.is_err_and(|error| is_missing(&error)),
        };
        if !here {
            self.conversation.mirror().nudge.notify_one();
        }
    }

    /// Asks REST whether the run is over. Returns `None` when there is no response: a hook may be
    /// blocking the server, or the server may be restarting.
    async fn ask(&self) -> Option<Asked> {
        let conversation = &self.conversation;
        let get = calls::conversations::Get::new(conversation.id());
        let info = match conversation.client().call(&get).timeout(LOOK).await {
            Ok(info) => info,
            Err(error) => {
                if is_missing(&error) {
                    conversation.mirror().nudge.notify_one();
                }
                return None;
            }
        };
        let status = info.execution_status();
        let mut asked = Asked {
            times: 1,
            complete: true,
            logged: None,
            status,
        };
        if asked.status.is_running() {
            return Some(asked);
        }
        // Not filtered by kind: servers before 1.56 do not find these events by the kind's name.
        let search = calls::events::Search::new(conversation.id()).descending();
        let page = conversation.client().call(&search).timeout(LOOK).await;
        let page = page.ok()?;
        asked.logged = page.items.iter().find_map(status_in);
        if let Some(newest) = page.items.first() {
            asked.complete = conversation.mirror().read().holds(newest.id());
            if !asked.complete {
                conversation.mirror().nudge.notify_one();
            }
        }
        Some(asked)
    }
}

fn is_missing(error: &oh_transport::Error) -> bool {
    error.kind() == oh_transport::ErrorKind::NotFound
}

/// Converts the end of the link to the end of a run.
fn end_of_link(error: Error) -> Result<End> {
    match error.kind() {
        ErrorKind::Gone => Ok(End::Gone),
        ErrorKind::ServerGone => Ok(End::ServerGone(Some(error))),
        _ => Err(error),
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn outcome(conversation: &Conversation, before: &Before, end: End) -> RunOutcome {
    let (log, usage) = {
        let held = conversation.mirror().read();
        (held.log.clone(), Usage::of(&held.state))
    };
    let new = || log.range(before.events..log.end()).rev();
    let report = RunReport {
        usage: usage.since(&before.usage),
        events: log.end().saturating_sub(before.events),
        duration: before.begun.elapsed(),
        started: before.started,
        image_unseen: new().any(says_blind),
    };
    let mut reason = None;
    let status = match end {
        End::TimeOver => RunStatus::StillRunning,
        End::Budget => RunStatus::BudgetReached,
        End::Wedged => RunStatus::Wedged,
        End::Gone => RunStatus::Gone,
        End::ServerGone(why) => {
            reason = why;
            RunStatus::ServerGone
        }
        End::Status(status) => match status {
            ExecutionStatus::Paused => RunStatus::Paused,
            ExecutionStatus::WaitingForConfirmation => RunStatus::WaitingForConfirmation,
            ExecutionStatus::Stuck => RunStatus::Stuck,
            ExecutionStatus::Error => RunStatus::Error,
            ExecutionStatus::Finished => RunStatus::Finished,
            _ => RunStatus::Idle,
        },
    };
    let failed = status == RunStatus::Error;
    let error = failed.then(|| new().find_map(error_in)).flatten();
    let outcome = RunOutcome {
        status,
        report,
        error,
        reason,
    };
    if conversation.is_recorded() {
        outcome.record(conversation.id());
    }
    outcome
}

fn error_in(event: &oh_protocol::Event) -> Option<ConversationErrorEvent> {
    if event.kind() != "ConversationErrorEvent" {
        return None;
    }
    match event.decode() {
        Payload::ConversationError(error) => Some(*error),
        _ => None,
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("conversation", &self.conversation.id())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
