//! Queries of the server's log: filtered, counted, or by id.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt};
use oh_protocol::{
    Event,
    calls::events::{self as calls, EventFilter},
};

use super::pages::{self, Items, Page, Pages};
use crate::{Conversation, ErrorKind, Request, Result};

/// Servers before this version match kinds by Python class path, and find nothing by name.
const KINDS_BY_NAME: (u32, u32, u32) = (1, 56, 0);

/// A query of the server's log: a stream of the matching events, which fetches each page when it is
/// needed, or their [`count`](Self::count). Dropping the stream ends the query.
#[must_use = "a stream does nothing until it is read"]
pub struct EventSearch {
    conversation: Conversation,
    filter: EventFilter,
    newest_first: bool,
    page: u32,
    left: usize,
    items: Option<Items<Event>>,
}

/// The log of a conversation, as the server has it: see [`Conversation::log`].
#[derive(Debug, Clone)]
pub struct EventLog {
    pub(crate) conversation: Conversation,
}

impl Conversation {
    /// Returns the log on the server: queries, events by their ids, and its export.
    /// [`events`](Self::events) are the events held here.
    pub fn log(&self) -> EventLog {
        EventLog {
            conversation: self.clone(),
        }
    }
}

impl EventLog {
    /// Searches the server's log, oldest events first (`GET …/events/search`,
    /// `GET …/events/count`).
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # async fn find(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// let errors = conversation.log().search().kind("AgentErrorEvent");
    /// let mut errors = errors.newest_first().limit(3);
    /// while let Some(event) = errors.try_next().await? {
    ///     println!("{event}");
    /// }
    /// let questions = conversation.log().search().source("user").body("why").count().await?;
    /// # Ok(()) }
    /// ```
    pub fn search(&self) -> EventSearch {
        EventSearch {
            conversation: self.conversation.clone(),
            filter: EventFilter::default(),
            newest_first: false,
            page: 100,
            left: usize::MAX,
            items: None,
        }
    }

    /// Fetches an event from the server's log by its id (`GET …/events/{event_id}`). For an event
    /// that is held, [`Events::by_id`](crate::Events::by_id) needs no request.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if the log does not have the event.
    pub fn event(&self, event_id: impl Into<String>) -> Request<Event> {
        let event_id = event_id.into();
        let this = self.clone();
        Request::new(async move {
            // An empty id would address another endpoint.
            if event_id.is_empty() {
                return Err(this.conversation.invalid("the event id must not be empty"));
            }
            let call = calls::Get::new(this.conversation.id(), event_id);
            match this.conversation.call("read an event", &call).await {
                // The response does not name what is missing; it is the event if the conversation
                // exists.
                Err(error)
                    if error.kind() == ErrorKind::Gone
                        && this.conversation.info().await.is_ok() =>
                {
                    Err(error.of_kind(|_| ErrorKind::NotFound))
                }
                // Older servers (1.43) return another error, with this text.
                Err(error) if error.says("Unknown event_id") => {
                    Err(error.of_kind(|_| ErrorKind::NotFound))
                }
                event => event,
            }
        })
    }

    /// Fetches events from the server's log by their ids, in the same order; `None` for an event
    /// that the log does not have (`GET …/events`).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn events<I: Into<String>>(
        &self,
        event_ids: impl IntoIterator<Item = I>,
    ) -> Request<Vec<Option<Event>>> {
        let event_ids: Vec<String> = event_ids.into_iter().map(Into::into).collect();

        let this = self.clone();
        Request::new(async move {
            let call = calls::BatchGet::new(this.conversation.id(), event_ids.clone());
            match this.conversation.call("read events", &call).await {
                // Older servers (1.43) reject the whole request because of one missing event.
                Err(error) if error.says("Unknown event_id") => {}
                events => return events,
            }
            let mut events = Vec::new();
            for event_id in event_ids {
                events.push(match this.event(event_id).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    event => Some(event?),
                });
            }
            Ok(events)
        })
    }
}

impl EventSearch {
    /// Returns only events of this kind, such as `ActionEvent`. Servers before 1.56 cannot filter
    /// by the kind's name; for those, the client fetches all events and filters them.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.filter.kind = Some(kind.into());
        self
    }

    /// Returns only events from this source: `agent`, `user`, `environment` or `hook`.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.filter.source = Some(source.into());
        self
    }

    /// Returns only messages that contain this text, ignoring case.
    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.filter.body = Some(text.into());
        self
    }

    /// Returns only events at or after this time, in ISO 8601. Without an offset the time is in the
    /// server's local time, like the events' timestamps.
    pub fn since(mut self, time: impl Into<String>) -> Self {
        self.filter.since = Some(time.into());
        self
    }

    /// Returns only events before this time, in the same format.
    pub fn before(mut self, time: impl Into<String>) -> Self {
        self.filter.before = Some(time.into());
        self
    }

    /// Returns the newest events first.
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Sets the maximum number of events. Default: no limit.
    pub fn limit(mut self, events: usize) -> Self {
        self.left = events;
        self
    }

    /// Sets how many events are fetched per request, 1 to 100. Default: 100.
    pub fn page_size(mut self, events: u32) -> Self {
        self.page = events;
        self
    }

    /// Returns the number of matching events, regardless of the limit.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub async fn count(self) -> Result<u64> {
        if self.filter.kind.is_none() || !self.conversation.is_before(KINDS_BY_NAME).await? {
            let call = calls::Count::new(self.conversation.id()).filter(self.filter);
            return self.conversation.call("count events", &call).await;
        }
        let count = self
            .matching()
            .try_fold(0, |count, _| async move { Ok(count + 1) });
        count.await
    }

    /// Returns all matching events, regardless of the limit.
    fn matching(&self) -> Items<Event> {
        pages::items(Matching {
            conversation: self.conversation.clone(),
            filter: self.filter.clone(),
            kind: None,
            newest_first: self.newest_first,
            page: self.page,
        })
    }
}

struct Matching {
    conversation: Conversation,
    filter: EventFilter,
    /// The kind that the client filters by, if the server cannot.
    kind: Option<String>,
    newest_first: bool,
    page: u32,
}

impl Pages for Matching {
    type Item = Event;

    async fn page(&mut self, page_id: Option<String>) -> Result<Page<Event>> {
        let is_first = page_id.is_none();
        if is_first
            && self.filter.kind.is_some()
            && self.conversation.is_before(KINDS_BY_NAME).await?
        {
            self.kind = self.filter.kind.take();
        }
        let mut search = calls::Search::new(self.conversation.id()).limit(self.page);
        search = search.filter(self.filter.clone());
        if self.newest_first {
            search = search.descending();
        }
        if let Some(page_id) = page_id {
            search = search.page_id(page_id);
        }
        let page = self.conversation.call("search events", &search).await?;
        let mut items = page.items;
        items.retain(|event| self.kind.as_deref().is_none_or(|kind| event.kind() == kind));
        Ok((items, page.next_page_id))
    }
}

impl EventSearch {
    /// Waits for the next event. Returns `None` when there are no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        StreamExt::next(self).await
    }
}

impl Stream for EventSearch {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.items.is_none() {
            self.items = Some(Box::pin(self.matching().take(self.left)));
        }
        match &mut self.items {
            Some(items) => items.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for EventSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSearch")
            .field("conversation", &self.conversation.id())
            .field("filter", &self.filter)
            .field("newest_first", &self.newest_first)
            .finish_non_exhaustive()
    }
}
