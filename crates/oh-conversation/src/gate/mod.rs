//! Checks whether an action waits for approval, as of the server's newest event, before any request
//! that could approve it.

mod changes;
mod current;
mod earlier;
mod head;
mod judge;
pub(crate) mod pending;

use std::collections::HashSet;

use oh_protocol::{Event, ExecutionStatus, Payload, event::StateChange};
use oh_transport::ErrorKind as Wire;
use tokio::time::timeout;

use self::{
    earlier::OpenActions,
    judge::{Known, Signs, Verdict, judge},
};
use crate::{
    Conversation, Error, PendingAction, Result,
    link::restore::{is_settled, restore},
    mirror::{
        Mirror,
        answered::Shown,
        head::STATE_UPDATE,
        held::Held,
        lineage::Lineage,
        restored::{asks_by, may_ask},
    },
};

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

impl Conversation {
    /// Ensures that the server has this program's settings, before an operation that a policy may
    /// have to stop. The mirror must be up to date. If the caller no longer waits for the response,
    /// later settings still do.
    pub(crate) async fn restore(&self) -> Result<()> {
        let mirror = self.shared_mirror();
        if is_settled(&mirror) {
            return Ok(());
        }
        let client = self.client().clone();
        let sent = tokio::spawn(async move { restore(&client, &mirror).await });
        self.unless_ended(async {
            let set = sent.await.unwrap_or_else(|_| {
                let what = "the task that sends the request ended";
                Err(oh_transport::Error::new(Wire::Interrupted, what))
            });
            set.map_err(|error| {
                Error::transport(self.id(), "restore the confirmation policy", error)
            })
        })
        .await
    }

    /// Ensures the same as [`restore`](Self::restore), within the time limit for unclear answers.
    pub(crate) async fn restore_soon(&self) -> Result<()> {
        if is_settled(self.mirror()) {
            return Ok(());
        }
        let limit = self.limits().answer;
        let restoring = async {
            // Only the newest event shows whether another program has changed the settings.
            self.up_to_date().await?;
            self.restore().await
        };
        match timeout(limit, restoring).await {
            Ok(restored) => restored.map_err(|error| error.advise("nothing was sent")),
            Err(_) => {
                let what =
                    format!("the confirmation policy could not be restored within {limit:?}");
                Err(self.timed_out(what).advise("nothing was sent"))
            }
        }
    }

    /// Returns the conversation's standing as of the server's newest event. Waits for the link if
    /// necessary, but not longer than until it ends; the caller sets the time limit.
    pub(crate) async fn standing(&self) -> Result<Standing> {
        self.unless_ended(self.look_at_standing()).await
    }

    async fn look_at_standing(&self) -> Result<Standing> {
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
                    _ = changes.changed().await;
                    looked = false;
                }
            }
        }
    }

    /// Returns whether the policy may ask for approval: the one that the server reports, or the one
    /// that this program has set.
    pub(crate) fn policy_may_ask(&self) -> bool {
        let held = self.mirror().read();
        let set = self.mirror().policy_to_restore(&held);
        asks(&held) || set.is_some_and(|policy| asks_by(&policy))
    }

    /// Returns whether an action of another branch may wait for approval.
    fn may_wait_elsewhere(&self) -> bool {
        let asking = self.policy_may_ask();
        let held = self.mirror().read();
        // During a run, nothing is sent that could approve.
        !held.status().is_running() && (asking || held.asked.is_some() || held.log.start() > 0)
    }

    /// Returns the standing like [`standing`](Self::standing), within the time limit for unclear
    /// answers.
    pub(crate) async fn standing_soon(&self) -> Result<Standing> {
        let limit = self.limits().answer;
        match timeout(limit, self.standing()).await {
            Ok(standing) => standing,
            Err(_) => {
                let what = format!(
                    "cannot determine within {limit:?} whether an action is waiting for approval"
                );
                Err(self.timed_out(what).advise("nothing was sent"))
            }
        }
    }

    /// Fetches earlier events if an action may wait for approval, so that
    /// [`pending`](crate::Approvals::pending) has the actions that precede the held events.
    pub(crate) async fn know_what_waits(&self) -> Result<()> {
        let open = self.open_actions();
        let status = self.mirror().read().status();
        let idle = matches!(
            status,
            ExecutionStatus::Idle | ExecutionStatus::Running | ExecutionStatus::Finished
        );
        if open.complete || idle && !self.signs(&open).asks {
            return Ok(());
        }
        let limit = self.limits().unreachable;
        timeout(limit, self.look_earlier()).await.map_err(|_| {
            let what = format!("the events before those held could not be read for {limit:?}");
            self.timed_out(what)
        })?
    }

    fn signs(&self, open: &OpenActions) -> Signs {
        let asking = self.policy_may_ask();
        let held = self.mirror().read();
        let approved = approved(self.mirror(), &held, &open.actions);
        let unapproved = open.actions.iter().map(PendingAction::id);
        let unapproved: HashSet<&str> = unapproved.filter(|id| !approved.contains(*id)).collect();
        let count = unapproved.len();
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
            answered: open.actions.is_empty() && self.has_answer_to_asked(&held),
            approved: count < open.actions.len(),
            asks: asking || !asked_for(self.mirror(), &held, unapproved).is_empty(),
            complete: open.complete,
            moved: open.moved,
            up: held.link.is_up(),
        }
    }

    /// Returns whether an action was answered after the newest report that actions wait. Another
    /// program may have had them executed by a request that does not change the status.
    fn has_answer_to_asked(&self, held: &Held) -> bool {
        let earlier = self.mirror().earlier.before(&held.log);
        let earlier = earlier.as_ref().map_or(&[][..], |earlier| &earlier.events);
        let newest = held.log.range(0..held.log.end()).rev();
        let mut newest = newest.chain(earlier.iter().rev());
        newest.find_map(answers_or_asks).unwrap_or(false)
    }

    fn unapproved(&self, open: Vec<PendingAction>) -> Vec<PendingAction> {
        let approved = approved(self.mirror(), &self.mirror().read(), &open);
        let waits = |action: &PendingAction| !approved.contains(action.id());
        open.into_iter().filter(waits).collect()
    }

    /// Lets those open actions of a copy wait for which a policy has asked here. The log of a copy
    /// up to an event does not show that.
    pub(crate) fn ask_in(&self, copy: &Self) {
        let open = copy.open_actions().actions;
        let open = open.iter().map(PendingAction::id).collect();
        let held = self.mirror().read();
        let asked = asked_for(self.mirror(), &held, open);
        copy.mirror().answered.ask(asked.into_iter().map(Box::from));
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

/// Returns those of the open actions that this process has approved, unless the server may have
/// lost the approval. An approval holds for one execution: an action with a result, to which
/// somebody has navigated back, waits for another one.
fn approved(mirror: &Mirror, held: &Held, open: &[PendingAction]) -> HashSet<Box<str>> {
    let (mut ids, from) = mirror.answered.approved(shown(held));
    ids.retain(|id| open.iter().any(|action| action.id() == &**id));
    if ids.is_empty() {
        return ids;
    }
    let log = &held.log;
    let actions = open.iter().filter(|action| ids.contains(action.id()));
    let since = log.range(from..log.end()).cloned();
    let events: Vec<Event> = actions.map(|it| it.event().clone()).chain(since).collect();
    let unanswered = Lineage::open_in(&events).actions;
    // Events that are no longer held may have had the results.
    let known = from >= log.start();
    ids.retain(|id| known && unanswered.iter().any(|action| action.id() == &**id));
    ids
}

/// Returns the part of a mirror that shows whether an approval had an effect.
pub(crate) fn shown(held: &Held) -> Shown {
    let last = held.snapshot.as_ref();
    let waits = last.filter(|last| last.status == ExecutionStatus::WaitingForConfirmation);
    Shown {
        connected: last.map(|last| last.connected),
        waits: waits.map(|last| last.at),
        ran: held.ran,
        up: held.link.is_up(),
    }
}

/// Returns whether the policy reported by the server may ask for approval: that of the state, or
/// that of a newer event, which may have been replayed before the state was reported again.
fn asks(held: &Held) -> bool {
    let logged = held.newer_policy();
    let mut policies = held
        .state
        .get("confirmation_policy")
        .into_iter()
        .chain(logged);
    policies.any(may_ask)
}

/// Returns `true` for the answer to an action, and `false` for a report that actions wait.
fn answers_or_asks(event: &Event) -> Option<bool> {
    match event.kind() {
        "ObservationEvent" | "UserRejectObservation" | "AgentErrorEvent" => Some(true),
        STATE_UPDATE => match event.decode() {
            Payload::ConversationStateUpdate(update) => match update.change {
                StateChange::ExecutionStatus(ExecutionStatus::WaitingForConfirmation) => {
                    Some(false)
                }
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Returns those of the open actions for which a policy has asked for approval. Setting another
/// policy, which a restart of the server does as well, approves no action.
fn asked_for<'a>(mirror: &Mirror, held: &Held, open: HashSet<&'a str>) -> HashSet<&'a str> {
    let (mut asked, mut rest): (HashSet<_>, HashSet<_>) = open
        .into_iter()
        .partition(|id| mirror.answered.was_asked(id));
    // The server logs that actions wait directly after it has logged the actions.
    let since = held.log.range(held.asked.unwrap_or(0)..held.log.end());
    for event in since.rev() {
        if rest.is_empty() {
            break;
        }
        rest.remove(event.id());
    }
    asked.extend(rest);
    asked
}
