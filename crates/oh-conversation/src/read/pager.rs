//! Pages of the log by REST, for readers of events that are no longer held.

use std::time::Duration;

use oh_protocol::{
    Call, ConversationId, Event,
    calls::events::{Count, EventPage, Search},
};
use oh_transport::{Backoff, Client};
use tokio::time::sleep;
use tracing::debug;

use crate::{
    Error, Result,
    mirror::{log::Log, view::View},
    read::attempts::Attempts,
};

/// How long a request may take, and how long one attempt of it may go without progress.
const PATIENCE: Duration = Duration::from_secs(60);
const STALLED: Duration = Duration::from_secs(20);
const PAGE: u32 = 100;

#[derive(Debug, Clone)]
pub(crate) struct Pager {
    client: Client,
    id: ConversationId,
}

impl Pager {
    pub(crate) fn new(client: Client, id: ConversationId) -> Self {
        Self { client, id }
    }

    /// Returns the id of the server's newest event, if there is one.
    pub(crate) async fn newest(&self, view: &View) -> Result<Option<String>> {
        let search = Search::new(self.id).descending().limit(1);
        let page = self.page(view, "read the newest event", &search).await?;
        Ok(page.items.first().map(|event| event.id().to_owned()))
    }

    /// Returns how many events the server's log has, including those that it cannot read.
    pub(crate) async fn count(&self) -> oh_transport::Result<u64> {
        self.within(&Count::new(self.id)).await
    }

    /// Requests a page until it arrives, cannot arrive any more, or the view has ended.
    async fn page(&self, view: &View, what: &'static str, search: &Search) -> Result<EventPage> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut attempts = Attempts::default();
        loop {
            let error = match self.within(search).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            if let Some(ended) = view.ended() {
                return Err(ended);
            }
            if attempts.give_up(&error) {
                return Err(Error::transport(self.id, what, error));
            }
            debug!(conversation = %self.id, %error, "cannot {what}; trying again");
            sleep(backoff.next_delay()).await;
        }
    }

    async fn within<C: Call>(&self, call: &C) -> oh_transport::Result<C::Output> {
        let call = self.client.call(call).timeout(PATIENCE);
        call.attempt_timeout(STALLED).await
    }

    /// Returns some of the events from an index up to those held, in order, and the id of the event
    /// after them if the server sends it. The events are empty if the server no longer has any
    /// there. `known` is the index and id of an event at or before the index.
    pub(crate) async fn read(
        &self,
        view: &View,
        log: &Log,
        from: usize,
        known: Option<(usize, Box<str>)>,
    ) -> Result<(Vec<Event>, Option<Box<str>>)> {
        let held = log.get(log.start()).map(|event| event.id().to_owned());
        let (mut at, mut page_id) = match known {
            Some((index, id)) => (index, Some(id)),
            None => (0, None),
        };
        loop {
            let mut search = Search::new(self.id).limit(PAGE);
            if let Some(id) = &page_id {
                search = search.page_id(&**id);
            }
            let page = self.page(view, "read older events", &search).await?;
            let first = page.items.first().map(Event::id);
            if page_id.is_some() && first != page_id.as_deref() {
                // The server can no longer read that event, and returned the first page.
                (at, page_id) = (0, None);
                continue;
            }
            let count = page.items.len();
            let more = page.next_page_id.filter(|_| count > 0).map(Box::from);
            let is_held = |event: &Event| held.as_deref() == Some(event.id());
            let reached = page.items.iter().any(is_held);
            let wanted: Vec<Event> = (at..)
                .zip(page.items)
                .take_while(|(_, event)| !is_held(event))
                .filter(|(index, _)| (from..log.start()).contains(index))
                .map(|(_, event)| event)
                .collect();
            at += count;
            match more {
                Some(next) if wanted.is_empty() && !reached && at < log.start() => {
                    page_id = Some(next);
                }
                // Pages after the held events are not requested.
                more => return Ok((wanted, more.filter(|_| !reached && at <= log.start()))),
            }
        }
    }
}
