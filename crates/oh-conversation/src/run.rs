//! Running the agent until it is really done.
//!
//! The status `finished` is only a hint: a Stop hook or a late message takes it back. What ends a
//! run is the full-state snapshot that the server sends once the run's slot is free; where that
//! was missed, a fresh snapshot after a reconnect, or a status that REST repeats while nothing
//! happens any more.

mod signs;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use oh_protocol::{ExecutionStatus, Payload, calls, event::ConversationErrorEvent};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::signs::{Progress, has_stop_hooks, says_blind, snapshot_end, status_in};
use crate::{Conversation, Error, ErrorKind, Link, Result, Usage, client_tools::until_settled};

/// How long nothing must happen before REST is asked, and between its answers.
const QUIET: Duration = Duration::from_millis(1500);
/// The same where a snapshot has said already that it may be over.
const SOON: Duration = Duration::from_millis(200);
/// How often REST must repeat a status that ends a run.
const REPEATED: u32 = 2;
/// The same for `finished` while Stop hooks are configured: one may be at work and deny.
const REPEATED_WITH_STOP_HOOK: u32 = 8;
/// How long a run may not begin, or be refused without one under way, before it counts as wedged.
const WEDGED: Duration = Duration::from_secs(120);
/// How long a leased conversation may be hidden from `/run`.
const HIDDEN: Duration = Duration::from_secs(90);

/// A run. Await it for its [`RunOutcome`].
///
/// Dropping the future leaves the run at work. A run that somebody else started is joined.
///
/// Where the agent calls [client tools](crate::ClientTool), it is over when the agent has heard
/// from each of them, too.
#[derive(Clone, Copy)]
#[must_use = "a run does not begin until it is awaited"]
pub struct Run<'a> {
    conversation: &'a Conversation,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    /// Only waits.
    join: bool,
}

/// How a run ended, or that it did not within the time given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The agent is done.
    Finished(RunReport),
    /// Someone paused or interrupted it; a run continues it.
    Paused(RunReport),
    /// An action awaits approval.
    WaitingForConfirmation(RunReport),
    /// The stuck detector ended it.
    Stuck(RunReport),
    /// It failed, with the error event where there is one. Another run may succeed.
    Error(RunReport, Option<ConversationErrorEvent>),
    /// It ended without the agent being done, such as after a rejection.
    Idle(RunReport),
    /// The time given is over. The run goes on; run again to join it.
    StillRunning(RunReport),
    /// The server says a run is under way, yet none is, or takes the request and does nothing.
    /// Only a restart of the server, or a fork, helps.
    Wedged(RunReport),
    /// Someone deleted the conversation meanwhile.
    Gone(RunReport),
}

/// What a run used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunReport {
    usage: Usage,
    events: usize,
    took: Duration,
    started: bool,
    image_unseen: bool,
}

impl RunReport {
    /// What it cost, in US dollars, as far as the server has told.
    pub fn cost(&self) -> f64 {
        self.usage.cost().unwrap_or_default()
    }

    /// What it used, in all and by usage id, as far as the server has told.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// How many events it brought.
    pub fn events(&self) -> usize {
        self.events
    }

    /// How long it was waited for.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Whether this call started it; if not, it joined one under way.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the agent ended it without asking its model, which cannot see the image of the
    /// last message. The server calls that finished.
    pub fn image_unseen(&self) -> bool {
        self.image_unseen
    }
}

impl RunOutcome {
    /// What the run used.
    pub fn report(&self) -> &RunReport {
        match self {
            Self::Finished(report)
            | Self::Paused(report)
            | Self::WaitingForConfirmation(report)
            | Self::Stuck(report)
            | Self::Error(report, _)
            | Self::Idle(report)
            | Self::StillRunning(report)
            | Self::Wedged(report)
            | Self::Gone(report) => report,
        }
    }

    fn report_mut(&mut self) -> &mut RunReport {
        match self {
            Self::Finished(report)
            | Self::Paused(report)
            | Self::WaitingForConfirmation(report)
            | Self::Stuck(report)
            | Self::Error(report, _)
            | Self::Idle(report)
            | Self::StillRunning(report)
            | Self::Wedged(report)
            | Self::Gone(report) => report,
        }
    }

    /// Whether the agent is done.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_))
    }

    /// The end of a run that went on after an earlier end.
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        let (report, earlier) = (self.report_mut(), earlier.report());
        report.usage = report.usage.and(&earlier.usage);
        report.events += earlier.events;
        report.took += earlier.took;
        report.started = earlier.started;
        report.image_unseen |= earlier.image_unseen;
        self
    }

    /// The same, but not at its end.
    pub(crate) fn still_running(self) -> Self {
        Self::StillRunning(self.report().clone())
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(_) => f.write_str("finished"),
            Self::Paused(_) => f.write_str("paused"),
            Self::WaitingForConfirmation(_) => f.write_str("waiting for confirmation"),
            Self::Stuck(_) => f.write_str("stuck"),
            Self::Error(_, Some(error)) => write!(f, "error {}: {}", error.code, error.detail),
            Self::Error(_, None) => f.write_str("error"),
            Self::Idle(_) => f.write_str("idle"),
            Self::StillRunning(_) => f.write_str("still running"),
            Self::Wedged(_) => f.write_str("wedged: the server takes no run and has none"),
            Self::Gone(_) => f.write_str("gone: the conversation was deleted"),
        }
    }
}

/// What was so when the run was asked for.
struct Before {
    events: usize,
    usage: Usage,
    snapshots: u64,
    connection: u64,
    begun: Instant,
    running: bool,
    started: bool,
}

/// How the wait ended.
enum End {
    Status(ExecutionStatus),
    TimeOver,
    Wedged,
    Gone,
}

impl<'a> Run<'a> {
    pub(crate) fn new(conversation: &'a Conversation) -> Self {
        Self {
            conversation,
            timeout: None,
            idle_timeout: None,
            join: false,
        }
    }

    /// Waits for a run, and starts none.
    pub(crate) fn joining(conversation: &'a Conversation) -> Self {
        Self {
            join: true,
            ..Self::new(conversation)
        }
    }

    /// Ends the wait after this long. The run goes on.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Ends the wait when no event has come for this long. The run goes on.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    pub(crate) fn conversation(&self) -> &'a Conversation {
        self.conversation
    }

    /// How much of its time is left, where it has a limit.
    pub(crate) fn time_left(&self, begun: Instant) -> Option<Duration> {
        let limit = self.timeout?;
        Some(limit.saturating_sub(begun.elapsed()))
    }

    pub(crate) fn within(mut self, limit: Option<Duration>) -> Self {
        self.timeout = limit;
        self
    }

    /// Until the server's run is over, whatever client tools have yet to say.
    pub(crate) async fn once(self) -> Result<RunOutcome> {
        let conversation = self.conversation;
        // What happened before must not be taken for this run's.
        conversation.caught_up().await;
        let mut before = {
            let held = conversation.mirror().read();
            let status = held.state.execution_status();
            if status == ExecutionStatus::WaitingForConfirmation && !self.join {
                return Err(Error::new(
                    ErrorKind::PendingConfirmation,
                    conversation.id(),
                    "an action awaits approval, and a run would execute it: confirm or reject \
                     it first",
                ));
            }
            Before {
                events: held.log.end(),
                usage: Usage::of(&held.state),
                snapshots: held.snapshot.as_ref().map_or(0, |snapshot| snapshot.number),
                connection: held.connection,
                begun: Instant::now(),
                running: held.state.execution_status().is_running(),
                started: true,
            }
        };
        let work = async {
            let begun = match self.join {
                true => self.find(&mut before).await?,
                false => self.start(&mut before).await?,
            };
            match begun {
                Some(end) => Ok(end),
                None => self.ending(&before).await,
            }
        };
        let end = match self.timeout {
            Some(limit) => timeout(limit, work).await.unwrap_or(Ok(End::TimeOver))?,
            None => work.await?,
        };
        Ok(outcome(conversation, &before, end))
    }

    /// Asks the server to run, or finds that it does. An end when that is known already.
    async fn start(&self, before: &mut Before) -> Result<Option<End>> {
        use oh_transport::ErrorKind as Kind;
        let conversation = self.conversation;
        let id = conversation.id();
        loop {
            let call = calls::conversations::Run::new(id);
            let Err(error) = conversation.client().call(&call).await else {
                return Ok(None);
            };
            let (status, progress, ended) = {
                let held = conversation.mirror().read();
                let progress = Progress::since(&held.log, before.events);
                (held.state.execution_status(), progress, held.ended.clone())
            };
            match error.kind() {
                _ if ended.is_some() => return Ok(None),
                Kind::Conflict if status.is_running() || progress.begun.is_some() => {
                    before.started = false;
                    return Ok(None);
                }
                // A run is wrapping up, or a paused step goes on: soon there is room.
                Kind::Conflict if before.begun.elapsed() >= WEDGED => return Ok(Some(End::Wedged)),
                Kind::Conflict => {}
                // It may have been taken. If so, the log tells; asking again is harmless while
                // it does not, for a run under way is answered with a conflict.
                Kind::Interrupted | Kind::Timeout if progress.begun.is_some() => return Ok(None),
                Kind::Interrupted | Kind::Timeout if before.begun.elapsed() < HIDDEN => {
                    conversation.caught_up().await;
                    sleep(QUIET).await;
                    if conversation.ran_since(before.events) {
                        return Ok(None);
                    }
                    continue;
                }
                // A lease of a dying server hides it; the watcher says when it is gone.
                Kind::NotFound if before.begun.elapsed() < HIDDEN => {}
                _ => return Err(Error::transport(id, "run", error)),
            }
            let mut changes = conversation.changes();
            let _ = timeout(SOON, changes.changed()).await;
            sleep(SOON / 4).await;
        }
    }

    /// Finds a run under way. An end when there is none.
    async fn find(&self, before: &mut Before) -> Result<Option<End>> {
        before.started = false;
        let mut changes = self.conversation.changes();
        let mut idle_until = None;
        loop {
            changes.borrow_and_update();
            let (link, status, ended) = {
                let held = self.conversation.mirror().read();
                let status = held.state.execution_status();
                (held.link, status, held.ended.clone())
            };
            match (link, status) {
                _ if ended.is_some() => return Ok(None),
                (_, ExecutionStatus::Running) => return Ok(None),
                // One that was asked for just now may not have begun.
                (Link::Live, ExecutionStatus::Idle) => {
                    let until = *idle_until.get_or_insert_with(|| Instant::now() + QUIET);
                    if Instant::now() >= until {
                        return Ok(Some(End::Status(ExecutionStatus::Idle)));
                    }
                    tokio::select! {
                        _ = changes.changed() => {}
                        () = sleep_until(until) => {}
                    }
                }
                (Link::Live, status) => return Ok(Some(End::Status(status))),
                // The first snapshot is withheld while a tool runs.
                _ => _ = changes.changed().await,
            }
        }
    }

    /// Waits for the end of a run that the server has taken or has under way.
    async fn ending(&self, before: &Before) -> Result<End> {
        let conversation = self.conversation;
        let mut changes = conversation.changes();
        let mut seen = before.events;
        let mut progress = Progress {
            begun: (!before.started).then_some(0),
            hint: before.running.then_some(ExecutionStatus::Running),
        };
        let mut last_activity = Instant::now();
        let mut answers: Option<(ExecutionStatus, u32)> = None;
        let mut next_ask = Instant::now() + QUIET;
        loop {
            changes.borrow_and_update();
            let candidate = {
                let held = conversation.mirror().read();
                if let Some(error) = &held.ended {
                    return match error.kind() {
                        ErrorKind::Gone => Ok(End::Gone),
                        _ => Err(error.clone()),
                    };
                }
                if held.log.end() != seen {
                    progress.add(&held.log, seen);
                    seen = held.log.end();
                    last_activity = Instant::now();
                    answers = None;
                    next_ask = last_activity + QUIET;
                }
                snapshot_end(&held, before, &progress)
            };
            match &candidate {
                // A pause is told at once, while its step goes on; REST tells when that is over.
                Some((ExecutionStatus::Paused, _)) => {}
                // Nor does one end as it began: on the legacy socket, what a snapshot says can be
                // older than the log.
                Some((ExecutionStatus::Idle, _))
                    if !matches!(progress.hint, None | Some(ExecutionStatus::Idle)) => {}
                Some((status, true)) if progress.begun.is_some() => {
                    return Ok(End::Status(status.clone()));
                }
                // Nothing was left to do, or the snapshot is older than the run, or the server was
                // killed and has forgotten that it ran.
                _ => {}
            }
            if candidate.is_some() {
                next_ask = next_ask.min(Instant::now() + SOON);
            }
            let candidate = candidate.map(|(status, _)| status);
            let idle_end = self.idle_timeout.map(|limit| last_activity + limit);
            if idle_end.is_some_and(|end| Instant::now() >= end) {
                return Ok(End::TimeOver);
            }
            let wake = idle_end.map_or(next_ask, |end| end.min(next_ask));
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Err(Error::new(ErrorKind::Closed, conversation.id(), "closed"));
                    }
                    continue;
                }
                () = sleep_until(wake) => {}
            }
            if Instant::now() < next_ask {
                continue;
            }
            next_ask = Instant::now() + if candidate.is_some() { SOON } else { QUIET };
            // A hook may be freezing the server, or a restart be under way: no answer decides
            // nothing.
            let get = calls::conversations::Get::new(conversation.id());
            let asked = conversation
                .client()
                .call(&get)
                .timeout(Duration::from_secs(10));
            let Ok(info) = asked.await else { continue };
            let status = info.execution_status();
            let times = match answers.take() {
                Some((same, times)) if same == status => times + 1,
                _ => 1,
            };
            answers = Some((status.clone(), times));
            if status.is_running() {
                continue;
            }
            let paused = status == ExecutionStatus::Paused;
            if progress.begun.is_some() && candidate.as_ref() == Some(&status) && paused {
                return Ok(End::Status(status));
            }
            let finished = status == ExecutionStatus::Finished;
            if progress.begun.is_none() && (!finished || conversation.is_unanswered()) {
                // It has been taken and will begin, however long an agent's start lasts. A message
                // that came while the run before was wrapping up may have been overlooked.
                if before.begun.elapsed() >= WEDGED {
                    return Ok(End::Wedged);
                }
                continue;
            }
            let told = progress.hint.as_ref().is_none_or(|hint| !hint.is_running());
            let hooked = finished && candidate.is_none() && has_stop_hooks(info.state());
            let needed = match hooked {
                true => REPEATED_WITH_STOP_HOOK,
                false => REPEATED,
            };
            if times <= needed {
                continue;
            }
            // While the log says running, so it is: REST tells what was saved when the last step
            // ended. Only what a new subscription tells, too, is newer than the log.
            if told
                || candidate.as_ref() == Some(&status)
                || self.logged().await.as_ref() == Some(&status)
            {
                return Ok(End::Status(status));
            }
        }
    }

    /// The last status in the server's log, which is written before anybody is told.
    async fn logged(&self) -> Option<ExecutionStatus> {
        // Not by kind: servers before 1.56 find none by its name.
        let search = calls::events::Search::new(self.conversation.id()).descending();
        let asked = self.conversation.client().call(&search);
        let page = asked.timeout(Duration::from_secs(10)).await.ok()?;
        // Over a link that is down, its last events are yet to come; over one that is up and brings
        // nothing, they are not.
        if self.conversation.link() != Link::Live {
            let newest = page.items.first()?;
            self.conversation.events().by_id(newest.id())?;
        }
        page.items.iter().find_map(status_in)
    }
}

fn outcome(conversation: &Conversation, before: &Before, end: End) -> RunOutcome {
    let held = conversation.mirror().read();
    let report = RunReport {
        usage: Usage::of(&held.state).since(&before.usage),
        events: held.log.end().saturating_sub(before.events),
        took: before.begun.elapsed(),
        started: before.started,
        image_unseen: held
            .log
            .range(before.events..held.log.end())
            .rev()
            .any(says_blind),
    };
    let status = match end {
        End::TimeOver => return RunOutcome::StillRunning(report),
        End::Wedged => return RunOutcome::Wedged(report),
        End::Gone => return RunOutcome::Gone(report),
        End::Status(status) => status,
    };
    match status {
        ExecutionStatus::Paused => RunOutcome::Paused(report),
        ExecutionStatus::WaitingForConfirmation => RunOutcome::WaitingForConfirmation(report),
        ExecutionStatus::Stuck => RunOutcome::Stuck(report),
        ExecutionStatus::Error => {
            let new = held.log.range(before.events..held.log.end());
            let error = new.rev().find_map(|event| match event.payload() {
                Payload::ConversationError(error) => Some((**error).clone()),
                _ => None,
            });
            RunOutcome::Error(report, error)
        }
        ExecutionStatus::Finished => RunOutcome::Finished(report),
        _ => RunOutcome::Idle(report),
    }
}

impl<'a> IntoFuture for Run<'a> {
    type Output = Result<RunOutcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(until_settled(self))
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
