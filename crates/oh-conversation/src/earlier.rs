//! The open actions of a log of which only the newest part is held.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use oh_protocol::{Event, ExecutionStatus, calls::events::Search};
use tokio::time::timeout;

use crate::{
    Conversation, Error, ErrorKind, PendingAction, Result,
    head::{Head, walk},
    lineage::{Lineage, Open},
    log::Log,
};

/// Fetched events that precede the held ones. Without them, an action that waits for approval could
/// precede the held events unnoticed, and the next run would execute it.
#[derive(Default)]
pub(crate) struct Earlier(Mutex<Option<Fetched>>);

#[derive(Clone)]
struct Fetched {
    /// The index after the last of these events.
    end: usize,
    events: Arc<[Event]>,
    /// Whether they include the first event of the log.
    whole: bool,
}

impl Earlier {
    /// Returns the events directly before a log, and whether they include the log's first event.
    fn before(&self, log: &Log) -> Option<Fetched> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Events that were removed since then are neither here nor in the log.
        known.clone().filter(|known| known.end >= log.start())
    }

    fn set(&self, fetched: Fetched) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The actions that the server executes with the next run.
pub(crate) struct OpenActions {
    pub(crate) actions: Vec<PendingAction>,
    /// Whether the active branch differs from the log as a whole.
    pub(crate) moved: bool,
    /// Whether these are all. Otherwise [`Conversation::look_earlier`] finds the others.
    pub(crate) complete: bool,
}

impl OpenActions {
    fn new(open: Open, moved: bool) -> Self {
        let actions = open.actions.into_iter().map(PendingAction::new);
        Self {
            actions: actions.collect(),
            moved,
            complete: open.complete,
        }
    }
}

impl Conversation {
    /// Returns the actions of the active branch without an observation, rejection or error, in
    /// order.
    pub(crate) fn open_actions(&self) -> OpenActions {
        let log = self.mirror().read().log.clone();
        let (head, known) = self.known_head();
        let linear = self.mirror().lineage.open(&log, &head);
        let moved = linear.is_none();
        let open = match linear {
            Some(open) if open.complete || self.has_own_approvals() => {
                self.mirror().earlier.clear();
                Open {
                    complete: known || self.has_own_approvals(),
                    ..open
                }
            }
            _ => {
                let before = self.mirror().earlier.before(&log);
                let open = open_in(before.as_ref(), &log, &head);
                Open {
                    complete: open.complete && known,
                    ..open
                }
            }
        };
        OpenActions::new(open, moved)
    }

    /// Returns whether the agent is an ACP agent, whose actions never wait for an approval by the
    /// server.
    fn has_own_approvals(&self) -> bool {
        let held = self.mirror().read();
        let agent = held.state.get("agent");
        let kind = agent.and_then(|agent| agent.get("kind")?.as_text());
        kind.is_some_and(|kind| *kind == *"ACPAgent")
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
            let error = Error::new(ErrorKind::Timeout, self.id(), what);
            match self.last_error() {
                Some(cause) => error.with_source(cause),
                None => error,
            }
        })?
    }

    /// Asks the server for the head if it has not reported it yet. Fetches earlier events, page by
    /// page, until they show all open actions of the active branch.
    pub(crate) async fn look_earlier(&self) -> Result<()> {
        if !self.known_head().1 {
            self.look_at_head().await?;
        }
        let log = self.mirror().read().log.clone();
        let held: HashSet<&str> = log.range(0..log.end()).map(Event::id).collect();
        let mut fetched = Fetched {
            end: log.start(),
            events: Arc::default(),
            whole: log.start() == 0,
        };
        let mut page_id = log.get(log.start()).map(|first| first.id().to_owned());
        while !fetched.whole && !open_in(Some(&fetched), &log, &self.known_head().0).complete {
            let mut search = Search::new(self.id()).descending();
            if let Some(page_id) = &page_id {
                search = search.page_id(page_id);
            }
            let page = self.insist("read earlier events", &search).await?;
            let known: HashSet<&str> = fetched.events.iter().map(Event::id).collect();
            // The first page comes instead of an event that the server cannot read.
            let new = page.items.iter().rev();
            let new = new.filter(|it| !held.contains(it.id()) && !known.contains(it.id()));
            fetched.events = new.chain(fetched.events.iter()).cloned().collect();
            match page.next_page_id {
                Some(next) if page_id.as_ref() != Some(&next) => page_id = Some(next),
                _ => fetched.whole = true,
            }
        }
        self.mirror().earlier.set(fetched);
        Ok(())
    }
}

/// Returns the open actions of the branch that ends with `head`.
fn open_in(earlier: Option<&Fetched>, log: &Log, head: &Head) -> Open {
    let before = earlier.map_or(&[][..], |earlier| &earlier.events);
    let held = log.range(0..log.end());
    let events: Vec<Event> = before.iter().chain(held).cloned().collect();
    let (branch, rooted) = walk(&events, head);
    let open = Lineage::open_in(&branch);
    let whole = log.start() == 0 || earlier.is_some_and(|earlier| earlier.whole);
    Open {
        complete: open.complete || rooted || whole,
        ..open
    }
}
