//! Parts of the log for readers of events that are not held: pages by REST or, if the log is
//! damaged, replays by socket.

use std::time::Duration;

use oh_protocol::{
    Call, ConversationId, Event, SessionFrame,
    calls::events::{Count, EventPage, Search},
};
use oh_transport::{Backoff, Client, Message};
use tokio::time::sleep;
use tracing::{debug, error};

use crate::{
    Error, Result,
    mirror::{log::Log, numbering::readable, view::View},
    read::attempts::Attempts,
};

/// How long a request may take, and how long one attempt of it may go without progress.
const PATIENCE: Duration = Duration::from_secs(60);
const STALLED: Duration = Duration::from_secs(20);
const PAGE: u32 = 100;
/// How many events are read from a socket before it is closed.
const REPLAYED: usize = 500;
/// How often the events are counted while the log grows.
const COUNTS: usize = 5;

#[derive(Debug, Clone)]
pub(crate) struct Pager {
    client: Client,
    id: ConversationId,
    /// Whether events that cannot be read are skipped. Otherwise they end the reader.
    skips: bool,
}

impl Pager {
    pub(crate) fn new(client: Client, id: ConversationId) -> Self {
        Self {
            client,
            id,
            skips: false,
        }
    }

    /// Skips events that cannot be read, for a reader that cannot report an error.
    pub(crate) fn skipping(self) -> Self {
        Self {
            skips: true,
            ..self
        }
    }

    /// Returns whether an error of this pager only skips the events that are not held. Logs and
    /// reports the error in this case.
    pub(crate) fn skips(&self, view: &View, error: &Error) -> bool {
        let skips = self.skips && view.ended().is_none();
        if skips {
            error!(
                conversation = %self.id,
                %error,
                "older events cannot be read, and are skipped"
            );
            view.skipped(error.clone());
        }
        skips
    }

    /// Returns the id of the server's newest event, if there is one.
    pub(crate) async fn newest(&self, view: &View) -> Result<Option<String>> {
        let search = Search::new(self.id).descending().limit(1);
        let page = self.page(view, "read the newest event", &search).await?;
        Ok(page.items.first().map(|event| event.id().to_owned()))
    }

    /// Returns whether the server can read all events of the log, so that counting gives the
    /// `seq`s.
    pub(crate) async fn is_undamaged(&self) -> bool {
        let (all, readable) = (Count::new(self.id), readable(self.id));
        for _ in 0..COUNTS {
            let Ok(before) = self.within(&all).await else {
                return false;
            };
            let Ok(count) = self.within(&readable).await else {
                return false;
            };
            if count == before {
                // Otherwise new events could hide those that cannot be read.
                let after = self.within(&all).await;
                if after.is_ok_and(|after| after == before) {
                    return true;
                }
            } else if count < before {
                return false;
            }
        }
        false
    }

    /// Returns how many events of the log the server cannot read. Events logged meanwhile count
    /// too.
    pub(crate) async fn unreadable(&self) -> oh_transport::Result<u64> {
        let readable = self.within(&readable(self.id)).await?;
        let all = self.within(&Count::new(self.id)).await?;
        Ok(all.saturating_sub(readable))
    }

    /// Returns events after a `seq` and below another one, with their `seq`s, from a session socket
    /// opened for this. Only this socket reports `seq`s. While a tool runs, it delivers nothing.
    pub(crate) async fn replay(
        &self,
        view: &View,
        after: i64,
        below: i64,
    ) -> Result<Vec<(i64, Event)>> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut attempts = Attempts::default();
        let mut changes = view.changes();
        let ended = async {
            loop {
                changes.borrow_and_update();
                if let Some(error) = view.ended() {
                    return error;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut ended = std::pin::pin!(ended);
        loop {
            let replayed = tokio::select! {
                replayed = self.replay_once(after, below) => replayed,
                error = &mut ended => return Err(error),
            };
            let error = match replayed {
                Ok(events) => return Ok(events),
                Err(error) => error,
            };
            let too_large = error.close_reason() == Some("frame_too_large");
            if too_large || attempts.give_up(&error) {
                return Err(Error::transport(self.id, "read older events", error));
            }
            debug!(conversation = %self.id, %error, "cannot read older events; trying again");
            tokio::select! {
                () = sleep(backoff.next_delay()) => {}
                error = &mut ended => return Err(error),
            }
        }
    }

    async fn replay_once(&self, after: i64, below: i64) -> oh_transport::Result<Vec<(i64, Event)>> {
        let target = format!("/sockets/session/{}?after_seq={after}", self.id);
        let mut socket = self.client.socket(&target).await?;
        let mut events = Vec::new();
        while events.len() < REPLAYED {
            let text = match socket.recv().await {
                Ok(Message::Text(text)) => text,
                Ok(_) => continue,
                // What has arrived is progress.
                Err(_) if !events.is_empty() => return Ok(events),
                Err(error) => return Err(error),
            };
            match SessionFrame::from_json(text)? {
                SessionFrame::Durable { seq, event } => {
                    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
                    if seq >= below {
                        break;
                    }
                    events.push((seq, event));
                }
                // Only the log precedes the end of the replay.
                SessionFrame::Transient { .. } => break,
                _ => {}
            }
        }
        socket.close(1000, "").await;
        Ok(events)
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
