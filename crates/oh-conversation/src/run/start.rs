//! Starting a run: the only code that sends a request which could approve a pending action.

use std::time::Duration;

use oh_protocol::{Event, ExecutionStatus, Source, calls};
use oh_transport::ErrorKind as Wire;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::signs::ran_since;
use crate::{
    Conversation, Error, LinkStatus, Result, gate::Standing, link::restore::is_settled,
    run::status_since,
};

/// How long to wait after an error that gives no information about the conversation.
const SOON: Duration = Duration::from_millis(250);
/// How long to wait for the end of a paused step, which may take as long as a tool. An interrupted
/// step ends at once.
const STEP: Duration = Duration::from_secs(5);
/// How long to wait for the link to report a free run slot before REST is asked.
const SLOT: Duration = Duration::from_secs(30);

/// The result of starting a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    /// The server has accepted the run.
    Begun,
    /// A run was already in progress; nothing was sent.
    Joined,
    /// An approval has started a run when the log had this many events, the run has finished, and
    /// no handle has waited for it; nothing was sent.
    Before(usize),
    /// An action waits for approval; nothing was sent.
    Waiting,
    /// The server rejects the run, although none is in progress.
    Wedged,
}

/// The state of a run's slot after a wait for it.
enum Slot {
    /// The server reports that no run is in progress. The value is the index after the newest event
    /// that reports the start of a run, before the server was asked.
    Free(usize),
    /// Something has changed: check again.
    Moved,
    /// The deadline has passed.
    Taken,
}

/// The state when the request was sent.
#[derive(Clone, Copy)]
struct Mark {
    events: usize,
    snapshots: u64,
    connection: u64,
}

impl Conversation {
    /// Starts a run, unless one is in progress or an action waits for approval, as of the server's
    /// newest event. Each request follows its own check, and no request follows an unclear result
    /// of the previous one.
    ///
    /// `mark` is called right before each request, and before each check: everything after that
    /// belongs to the run. Once the link has ended, only a request in progress continues.
    pub(crate) async fn start_run(&self, mark: impl FnMut()) -> Result<Started> {
        self.unless_ended(self.try_to_start(mark)).await
    }

    async fn try_to_start(&self, mut mark: impl FnMut()) -> Result<Started> {
        let begun = Instant::now();
        let id = self.id();
        // The connection for which the settings were sent.
        let mut restored = None;
        // Runs up to this count are known to have released their slot.
        let mut free = 0;
        loop {
            // Held until the response arrives, so that another handle's answer cannot cross this
            // request.
            let turn = self.turn().await?;
            // A run that is joined may end before the check does.
            mark();
            match self.standing().await? {
                Standing::Waiting(_) => return Ok(Started::Waiting),
                Standing::Running => return Ok(Started::Joined),
                Standing::Clear => {}
            }
            mark();
            if let Some(from) = self.ran_by_approval() {
                return Ok(Started::Before(from));
            }
            let connection = self.mirror().read().connection;
            if restored != Some(connection) && !is_settled(self.mirror()) {
                // A policy that the server has lost would not stop the run.
                match self.restore().await {
                    Ok(()) => restored = Some(connection),
                    Err(error) if error.is_transient() => sleep(SOON).await,
                    Err(error) => return Err(error),
                }
                continue;
            }
            let sent = self.sent();
            let paused = self.mirror().read().status() == ExecutionStatus::Paused;
            let taken = match paused {
                true => !self.pause_is_over(free).await,
                false => self.is_taken(free),
            };
            let wedged = begun + self.limits().wedged;
            if taken {
                // A paused step continues, or a run is finishing or about to start. The request
                // could arrive when an action of that run waits for approval.
                drop(turn);
                match self.slot_is_free(sent, wedged).await {
                    Slot::Taken => return Ok(Started::Wedged),
                    Slot::Free(ran) => free = ran,
                    Slot::Moved => {}
                }
                continue;
            }
            let call = calls::conversations::Run::new(id);
            let noted = self.mirror().answered.clone();
            let note = async move { noted.start(sent.events) };
            let mut request = turn.send_then(self.client(), call, note);
            let answer = tokio::select! {
                biased;
                answer = self.answer(&mut request) => Some(answer),
                // The response may be late or lost, but the log shows the run.
                () = self.runs(sent.events) => None,
            };
            let Some(Err(error)) = answer else {
                return Ok(Started::Begun);
            };
            match error.kind() {
                // A run is finishing, or a paused step continues.
                Wire::Conflict => {
                    if let Slot::Taken = self.slot_is_free(sent, wedged).await {
                        return Ok(Started::Wedged);
                    }
                }
                _ if error.is_unclear() => {
                    if self.shows_effect(|| self.has_run(sent.events)).await {
                        return Ok(Started::Begun);
                    }
                    let unclear = || Error::ambiguous(id, "started the run", error);
                    return Err(self.ended().unwrap_or_else(unclear));
                }
                // Nothing was sent.
                Wire::Connect | Wire::Timeout => sleep(SOON).await,
                // The lease of a dying server hides the conversation; the watcher detects a real
                // deletion.
                Wire::NotFound if begun.elapsed() < self.limits().lease => {
                    self.mirror().nudge.notify_one();
                    let _ = timeout(SOON * 4, self.until_ended()).await;
                }
                _ => return Err(Error::transport(id, "run", error)),
            }
            restored = None;
        }
    }

    /// Waits until no run occupies the conversation's slot, for a request that the server rejects
    /// during a run. Returns whether the slot is free.
    pub(crate) async fn is_vacant(&self) -> bool {
        let begun = Instant::now();
        let mut free = 0;
        while self.ended().is_none() {
            let sent = self.sent();
            let paused = self.mirror().read().status() == ExecutionStatus::Paused;
            let taken = match paused {
                true => !self.pause_is_over(free).await,
                false => self.is_taken(free),
            };
            if !taken {
                return true;
            }
            let limit = match paused {
                true => STEP.min(self.limits().wedged),
                false => self.limits().wedged,
            };
            match self.slot_is_free(sent, begun + limit).await {
                Slot::Taken => return false,
                Slot::Free(ran) => free = ran,
                Slot::Moved => {}
            }
        }
        false
    }

    /// Returns the state when a request is sent.
    fn sent(&self) -> Mark {
        let held = self.mirror().read();
        Mark {
            events: held.log.end(),
            snapshots: held.snapshot.as_ref().map_or(0, |snapshot| snapshot.number),
            connection: held.connection,
        }
    }

    /// Returns the length of the log at an approval if its run has finished, and no handle has
    /// waited for that run. A message, a rejection, or a pause after the approval requires another
    /// run.
    fn ran_by_approval(&self) -> Option<usize> {
        let from = self.mirror().answered.awaited()?;
        let (log, status) = {
            let held = self.mirror().read();
            (held.log.clone(), held.status())
        };
        let other = |event: &Event| match event.kind() {
            "MessageEvent" => *event.source() == Source::User,
            "UserRejectObservation" | "PauseEvent" | "InterruptEvent" => true,
            _ => false,
        };
        let finished = status == ExecutionStatus::Finished;
        let shown = finished && from >= log.start() && ran_since(&log, from);
        (shown && !log.range(from..log.end()).any(other)).then_some(from)
    }

    /// Returns whether a run may occupy the conversation's slot although the status does not show
    /// it.
    fn is_taken(&self, free: usize) -> bool {
        let held = self.mirror().read();
        (held.wraps_up() && held.ran > free) || {
            let snapshot_at = held.snapshot.as_ref().map(|last| last.at);
            self.mirror().answered.begins(held.ran, snapshot_at)
        }
    }

    /// Returns whether no paused step is still running. The log reports a pause at once. Snapshots
    /// and REST report the end of its step: REST returns the state saved then. `free`: runs up to
    /// this count have released their slot.
    async fn pause_is_over(&self, free: usize) -> bool {
        {
            let held = self.mirror().read();
            if held.wraps_up() && held.ran > free {
                return false;
            }
        }
        let call = calls::conversations::Get::new(self.id());
        let asked = self.client().call(&call).timeout(SLOT).await;
        // Any other status is newer than the preceding check.
        asked.is_ok_and(|info| info.execution_status() == ExecutionStatus::Paused)
    }

    /// Waits until the log shows a run after the first `from` events.
    async fn runs(&self, from: usize) {
        if !self.shows(|| self.has_run(from)).await {
            std::future::pending().await
        }
    }

    /// Returns whether the log shows a run after the first `from` events.
    fn has_run(&self, from: usize) -> bool {
        let log = self.mirror().read().log.clone();
        ran_since(&log, from)
    }

    /// Waits until a run request that was rejected because of a run in progress may succeed: the
    /// link reports when the slot is free. Sends no run requests. The deadline is `over`.
    async fn slot_is_free(&self, sent: Mark, over: Instant) -> Slot {
        let mut changes = self.changes();
        // At the latest shortly before the deadline, and after that only at the deadline.
        let last = over.checked_sub(SOON * 4).unwrap_or(over);
        let last = if Instant::now() < last { last } else { over };
        let mut ask_at = (Instant::now() + SLOT).min(last);
        loop {
            changes.borrow_and_update();
            if self.ended().is_some() {
                return Slot::Moved;
            }
            let (log, link, snapshot, ran) = {
                let held = self.mirror().read();
                let (log, snapshot) = (held.log.clone(), held.snapshot.clone());
                (log, held.link, snapshot, held.ran)
            };
            let is_free = snapshot.is_some_and(|last| {
                last.number > sent.snapshots && (!last.first || last.connection > sent.connection)
            });
            let moved = matches!(
                status_since(&log, sent.events),
                Some(ExecutionStatus::Running | ExecutionStatus::WaitingForConfirmation)
            );
            if is_free || moved {
                return Slot::Moved;
            }
            if link != LinkStatus::Live {
                // Without a live link no snapshot arrives.
                ask_at = ask_at.min(Instant::now() + SOON * 8);
            }
            if Instant::now() >= over {
                return Slot::Taken;
            }
            tokio::select! {
                _ = changes.changed() => continue,
                () = sleep_until(ask_at.min(over)) => {}
            }
            if Instant::now() < ask_at {
                continue;
            }
            ask_at = Instant::now() + SLOT;
            let call = calls::conversations::Get::new(self.id());
            let asked = self.client().call(&call).timeout(SLOT).await;
            if asked.is_ok_and(|info| !info.execution_status().is_running()) {
                return Slot::Free(ran);
            }
        }
    }
}
