//! Checks whether an action waits for approval, as of the server's newest event, before any request
//! that could approve it.

use std::time::Duration;

use oh_protocol::{Call, ExecutionStatus, calls::events::Search};
use oh_transport::{Backoff, ErrorKind as Wire};
use tokio::time::{sleep, timeout};

use crate::{
    Conversation, Error, ErrorKind, PendingAction, Result, answered::Turn, attempts::Attempts,
    earlier::OpenActions, mirror::Held,
};

/// Timeout of one request.
const LOOK: Duration = Duration::from_secs(30);
/// The first and the longest delay before a request is repeated.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The time that the link has to deliver an event that REST has shown, before it is asked to fetch
/// the event. If it is shorter, a quarter of the time limit for unclear answers is used: the fetch
/// has to be done within that limit.
const BEHIND: Duration = Duration::from_millis(500);

/// Whether a run is in progress, or actions wait for approval.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing runs, and nothing waits for approval.
    Clear,
    /// A run is in progress, so there is nothing to start.
    Running,
    /// Actions wait for approval, and a run would execute them.
    Waiting(Vec<PendingAction>),
}

/// The facts that determine a conversation's [`Standing`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs {
    /// The status from the log or the snapshot, whichever is newer.
    pub(crate) status: Known,
    /// Whether the newest status in the log is `waiting_for_confirmation`.
    pub(crate) logged_waiting: bool,
    /// How many actions of the active branch have no answer, apart from those approved by this
    /// process.
    pub(crate) open: usize,
    /// Whether an action approved by this process has not been executed yet.
    pub(crate) approved: bool,
    /// Whether a policy may ask for approval, or has asked for one of these actions.
    pub(crate) asks: bool,
    /// Whether no other action can be open.
    pub(crate) complete: bool,
    /// Whether the active branch differs from the log as a whole.
    pub(crate) moved: bool,
    /// Whether the mirror follows the server.
    pub(crate) up: bool,
}

/// The statuses that are distinguished here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Running,
    Waiting,
    Other,
}

/// The result of [`judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Clear,
    Running,
    Waiting,
    /// The link must be up first.
    Unknown,
    /// Events before those held may contain an action that waits.
    Incomplete,
}

/// Determines the standing of a conversation whose log is held up to the server's newest event.
pub(crate) fn judge(signs: Signs) -> Verdict {
    let waits = signs.status == Known::Waiting || signs.logged_waiting;
    match signs {
        _ if waits && signs.open > 0 => Verdict::Waiting,
        _ if waits && !signs.complete => Verdict::Incomplete,
        // This version does not recognize the waiting action. After navigation to another branch,
        // an action that waited is not part of it.
        _ if waits && !signs.approved && !signs.moved => Verdict::Waiting,
        _ if waits && signs.approved => Verdict::Running,
        _ if signs.status == Known::Running => Verdict::Running,
        // The log does not show what a restart has changed.
        _ if !signs.up => Verdict::Unknown,
        // The server executes these actions with the next run, regardless of its status.
        _ if signs.open > 0 && signs.asks => Verdict::Waiting,
        _ if !signs.complete => Verdict::Incomplete,
        _ => Verdict::Clear,
    }
}

impl Conversation {
    /// Returns the conversation's standing as of the server's newest event. Waits for the link if
    /// necessary; the caller sets the time limit.
    pub(crate) async fn standing(&self) -> Result<Standing> {
        let mut changes = self.changes();
        let mut looked = false;
        loop {
            // The server does not announce navigation by another client.
            if !looked && self.may_wait_elsewhere() {
                self.look_at_head().await?;
                looked = true;
            }
            self.up_to_date().await?;
            if !looked && self.may_wait_elsewhere() {
                continue;
            }
            changes.borrow_and_update();
            let open = self.open_actions();
            match judge(self.signs(&open)) {
                Verdict::Clear => return Ok(Standing::Clear),
                Verdict::Running => return Ok(Standing::Running),
                Verdict::Waiting => return Ok(Standing::Waiting(self.unapproved(open.actions))),
                Verdict::Incomplete => self.look_earlier().await?,
                Verdict::Unknown => {
                    if let Some(error) = self.ended() {
                        return Err(error);
                    }
                    let closed = || Error::new(ErrorKind::Closed, self.id(), "closed");
                    changes.changed().await.map_err(|_| closed())?;
                    looked = false;
                }
            }
        }
    }

    /// Returns whether the policy may ask for approval: the one that the server reports, or the one
    /// that this program has set.
    pub(crate) fn policy_may_ask(&self) -> bool {
        let set = self.mirror().restored.policy();
        asks(&self.mirror().read()) || set.is_some_and(|policy| asks_by(&policy))
    }

    /// Returns whether an action of another branch may wait for approval.
    fn may_wait_elsewhere(&self) -> bool {
        let may_ask = self.policy_may_ask();
        let held = self.mirror().read();
        // During a run, nothing is sent that could approve.
        !held.status().is_running() && (may_ask || held.asked.is_some() || held.log.start() > 0)
    }

    /// Waits for the turn to send an answer, with the time limit for unclear answers: a response that
    /// never arrives holds the turn for long.
    pub(crate) async fn turn_soon(&self) -> Result<Turn> {
        let limit = self.limits().answer;
        let turn = timeout(limit, self.mirror().answered.turn()).await;
        turn.map_err(|_| {
            let what = format!(
                "an earlier request of this process that could approve an action has had no \
                 response for {limit:?}"
            );
            Error::new(ErrorKind::Timeout, self.id(), what).advise("nothing was sent")
        })
    }

    /// Does the same as [`standing`](Self::standing), with the time limit for unclear answers.
    pub(crate) async fn standing_soon(&self) -> Result<Standing> {
        let limit = self.limits().answer;
        match timeout(limit, self.standing()).await {
            Ok(standing) => standing,
            Err(_) => {
                let what = format!(
                    "cannot determine within {limit:?} whether an action is waiting for approval"
                );
                let error = Error::new(ErrorKind::Timeout, self.id(), what);
                let error = error.advise("nothing was sent");
                Err(match self.last_error() {
                    Some(cause) => error.with_source(cause),
                    None => error,
                })
            }
        }
    }

    /// Waits until the mirror has the server's newest event.
    pub(crate) async fn up_to_date(&self) -> Result<()> {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let search = Search::new(self.id()).descending().limit(1);
        loop {
            let page = self.insist("read the newest event", &search).await?;
            match page.items.first() {
                None if page.next_page_id.is_none() => return Ok(()),
                None => self.rest(&mut backoff).await,
                Some(newest) => {
                    if self.comes(newest.id()).await {
                        return Ok(());
                    }
                    // The link fetches the event, or finds out why it cannot.
                    self.mirror().nudge.notify_one();
                    if self.comes_within(newest.id(), LONGEST).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Repeats a request until it succeeds, cannot succeed any more, or the link has ended. The
    /// caller sets the time limit.
    pub(crate) async fn insist<C: Call>(&self, what: &str, call: &C) -> Result<C::Output> {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut attempts = Attempts::default();
        loop {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            match self.client().call(call).timeout(LOOK).await {
                Ok(answer) => return Ok(answer),
                Err(error) if attempts.give_up(&error) => {
                    return Err(Error::transport(self.id(), what, error));
                }
                Err(error) => {
                    tracing::debug!(
                        conversation = %self.id(),
                        %error,
                        "cannot {what}; trying again"
                    );
                    if error.kind() == Wire::NotFound {
                        // The conversation is gone or leased, or a gateway responded: the watcher
                        // finds out.
                        self.mirror().nudge.notify_one();
                    }
                }
            }
            self.rest(&mut backoff).await;
        }
    }

    /// Waits before the next attempt, unless the link ends.
    async fn rest(&self, backoff: &mut Backoff) {
        let _ = timeout(backoff.next_delay(), self.until_ended()).await;
    }

    async fn comes(&self, id: &str) -> bool {
        let limit = BEHIND.min(self.limits().answer / 4);
        self.comes_within(id, limit).await
    }

    /// Returns whether the mirror has an event and all before it, or receives them in time.
    pub(crate) async fn comes_within(&self, id: &str, limit: Duration) -> bool {
        let mut changes = self.changes();
        let coming = async {
            loop {
                changes.borrow_and_update();
                if self.mirror().read().holds(id) {
                    return true;
                }
                if self.ended().is_some() || changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        timeout(limit, coming).await.unwrap_or(false)
    }

    /// Waits until the link or this handle has ended.
    pub(crate) async fn until_ended(&self) {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if self.ended().is_some() {
                return;
            }
            if changes.changed().await.is_err() {
                // There is no writer any more; avoids a busy loop.
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    pub(crate) fn signs(&self, open: &OpenActions) -> Signs {
        let set = self.mirror().restored.policy();
        let held = self.mirror().read();
        let approved = self.mirror().answered.approved(&held);
        let unapproved = || (open.actions.iter()).filter(|it| !approved.contains(it.id()));
        let count = unapproved().count();
        let may_ask = asks(&held) || set.is_some_and(|policy| asks_by(&policy));
        Signs {
            status: match held.status() {
                ExecutionStatus::Running => Known::Running,
                ExecutionStatus::WaitingForConfirmation => Known::Waiting,
                _ => Known::Other,
            },
            logged_waiting: held
                .logged
                .as_ref()
                .is_some_and(|(status, _)| *status == ExecutionStatus::WaitingForConfirmation),
            open: count,
            approved: count < open.actions.len(),
            asks: may_ask || unapproved().any(|action| was_asked_for(&held, action.id())),
            complete: open.complete,
            moved: open.moved,
            up: held.link.is_up(),
        }
    }

    fn unapproved(&self, open: Vec<PendingAction>) -> Vec<PendingAction> {
        let approved = self.mirror().answered.approved(&self.mirror().read());
        let waits = |action: &PendingAction| !approved.contains(action.id());
        open.into_iter().filter(waits).collect()
    }

    /// Returns the actions that wait for approval, as far as the mirror has received them.
    pub(crate) fn waiting_actions(&self) -> Vec<PendingAction> {
        let status = self.mirror().read().status();
        // Other statuses require a search of the log.
        if status.is_running() {
            return Vec::new();
        }
        let open = self.open_actions();
        let signs = Signs {
            // Without a link, the known actions are returned: an answer is checked anyway.
            up: true,
            ..self.signs(&open)
        };
        match judge(signs) {
            Verdict::Waiting => {
                let mut waiting = self.unapproved(open.actions);
                waiting.retain(|action| !self.mirror().answered.rejects(action.id()));
                waiting
            }
            _ => Vec::new(),
        }
    }
}

/// Returns whether the policy reported by the server may ask for approval.
fn asks(held: &Held) -> bool {
    let policy = held.state.get("confirmation_policy");
    let kind = policy.and_then(|policy| policy.get("kind")?.as_text());
    kind.is_some_and(|kind| *kind != *"NeverConfirm")
}

/// Returns whether a policy has asked for the approval of an open action. Setting another policy,
/// which a restart of the server does as well, approves no action.
fn was_asked_for(held: &Held, action: &str) -> bool {
    // The server logs that actions wait directly after it has logged the actions.
    let since = held.log.range(held.asked.unwrap_or(0)..held.log.end());
    !since.rev().any(|event| event.id() == action)
}

/// Returns whether a policy may ask for approval.
pub(crate) fn asks_by(policy: &oh_protocol::config::ConfirmationPolicy) -> bool {
    serde_json::to_value(policy).map_or(true, |policy| policy["kind"] != "NeverConfirm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_started_only_if_no_action_can_be_waiting() {
        let statuses = [Known::Running, Known::Waiting, Known::Other];
        let bools = [false, true];
        for status in statuses {
            for bits in 0..64_u8 {
                let bit = |n: u8| bools[usize::from(bits >> n & 1)];
                for open in [0, 2] {
                    let signs = Signs {
                        status,
                        logged_waiting: bit(0),
                        open,
                        approved: bit(1),
                        asks: bit(2),
                        up: bit(4),
                        moved: bit(5),
                        complete: bit(3),
                    };
                    let verdict = judge(signs);
                    let waits = status == Known::Waiting || signs.logged_waiting;
                    let expected = match (waits, open > 0) {
                        (true, true) => Verdict::Waiting,
                        (true, false) if !signs.complete => Verdict::Incomplete,
                        (true, false) if signs.approved => Verdict::Running,
                        (true, false) if !signs.moved => Verdict::Waiting,
                        _ if status == Known::Running => Verdict::Running,
                        _ if !signs.up => Verdict::Unknown,
                        (false, true) if signs.asks => Verdict::Waiting,
                        _ if !signs.complete => Verdict::Incomplete,
                        _ => Verdict::Clear,
                    };
                    assert_eq!(verdict, expected, "{signs:?}");
                    if verdict == Verdict::Clear {
                        assert!(signs.complete, "{signs:?} could approve");
                        assert!(open == 0 || !signs.asks, "{signs:?} could approve");
                    }
                }
            }
        }
    }
}
