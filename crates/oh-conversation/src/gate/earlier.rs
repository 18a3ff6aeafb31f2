//! Finding the open actions: in the mirror or, if the events held do not show all, on the server.

use std::{collections::HashSet, sync::Arc};

use oh_protocol::{Event, calls::events::Search};

use crate::{
    Conversation, PendingAction, Result,
    mirror::{
        earlier::{Fetched, open_in},
        lineage::Open,
    },
};

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
        self.state().agent_kind().as_deref() == Some("ACPAgent")
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
