//! The log by REST.

use std::{collections::HashSet, sync::Arc, time::Duration};

use oh_protocol::{Call, Event, calls::events};
use oh_transport::{Client, Error, ErrorKind, Result};

use crate::mirror::{
    Mirror,
    numbering::{Tally, readable},
};

/// Timeout of a request. A hook blocks the whole server for up to its timeout, 60 s by default,
/// which is not a failure.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one attempt of a request may go without progress on a link that is down. A connection
/// can be dead without notice, and nothing else happens until the request has ended.
pub(super) const STALLED: Duration = Duration::from_secs(20);
/// How often the newest events are fetched while the log grows.
const TRIES: u32 = 5;
/// The maximum number of events per request.
pub(super) const MANY: u32 = 100;

/// Why events could not be fetched.
#[derive(Debug)]
pub(super) enum Fault {
    /// The request failed.
    Wire(Error),
    /// The server's log has none of the events held.
    Other,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Wire(error)
    }
}

/// Events fetched with REST.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Index after the last event that was held at the time of the request.
    pub(super) from: usize,
    pub(super) events: Vec<Event>,
    /// Whether more events follow.
    pub(super) more: bool,
    /// The length of the server's log after that, with events that it cannot read.
    pub(super) length: Option<u64>,
    /// If the events fill an empty window: how they were counted.
    pub(super) tally: Option<Tally>,
}

/// The whole log, compared with the events held.
#[derive(Default)]
struct Whole {
    /// How many events the server can read.
    readable: u64,
    /// How many of the events held are not among them.
    missing: u64,
    /// Whether any of the events held is among them, and the last one.
    any: bool,
    has_last: bool,
    /// The events after the last one that is held.
    unknown: Vec<Event>,
}

impl Whole {
    /// Returns whether this log has none of the events held.
    fn is_other(&self) -> bool {
        !self.any
    }

    /// Returns whether this log no longer has the last event held, for example because it was
    /// restored from a backup. `length` includes events that the server cannot read: one of these
    /// may be the last event.
    fn lacks_the_end(&self, length: u64) -> bool {
        !self.has_last && self.missing > length.saturating_sub(self.readable)
    }
}

/// The log by REST. Cheap to create; does not borrow the watcher.
pub(super) struct Rest {
    client: Client,
    mirror: Arc<Mirror>,
    /// How long one attempt may go without progress.
    stalled: Duration,
}

impl Rest {
    pub(super) fn new(client: &Client, mirror: &Arc<Mirror>) -> Self {
        Self {
            client: client.clone(),
            mirror: mirror.clone(),
            stalled: PATIENCE,
        }
    }

    /// Repeats attempts without progress, because the link waits for the response.
    pub(super) fn for_a_link_that_is_down(self) -> Self {
        Self {
            stalled: STALLED,
            ..self
        }
    }

    /// Fetches the events after the last one held.
    pub(super) async fn after_last(&self, limit: u32) -> std::result::Result<Fetched, Fault> {
        let (from, last, window) = {
            let held = self.mirror.read();
            let window = held.log.is_empty().then(|| held.log.begin());
            (held.log.end(), held.log.last().cloned(), window)
        };
        if let Some(begin) = window.filter(|begin| *begin > 0) {
            return self.window(begin, limit).await;
        }
        let search = events::Search::new(self.mirror.id);
        let page = match &last {
            None => self.page(search.limit(limit)).await?,
            // One event per page: the last one held is requested alone, to get the id of the next
            // page.
            Some(last) if limit == 1 => {
                let named = self
                    .page(search.clone().limit(1).page_id(last.id()))
                    .await?;
                let same = named.items.first().is_some_and(|it| it.id() == last.id());
                match named.next_page_id.clone() {
                    Some(next) if same => {
                        let mut page = self.page(search.limit(1).page_id(next)).await?;
                        page.items.splice(0..0, named.items);
                        page
                    }
                    _ => named,
                }
            }
            // The page starts with the event that it names, so request one more.
            Some(last) => {
                let search = search.limit((limit + 1).min(MANY)).page_id(last.id());
                self.page(search).await?
            }
        };
        let mut events = page.items;
        match &last {
            None => {}
            Some(last) if events.first().is_some_and(|first| first.id() == last.id()) => {
                events.remove(0);
            }
            // The server can no longer read that event, and returned the first page.
            Some(_) => return self.all_unknown(from).await,
        }
        let more = page.next_page_id.is_some();
        // Confirms the numbers of these events, or of earlier ones.
        let counts = {
            let held = self.mirror.read();
            !held.unnumbered && (held.counted.is_some() || !events.is_empty())
        };
        let length = match counts && !more {
            true => self.within(&events::Count::new(self.mirror.id)).await.ok(),
            false => None,
        };
        Ok(Fetched {
            from,
            events,
            more,
            length,
            tally: None,
        })
    }

    /// Fetches the newest events, from about the `seq` at which an empty window begins.
    async fn window(&self, begin: usize, limit: u32) -> std::result::Result<Fetched, Fault> {
        let id = self.mirror.id;
        let mut tries = 0;
        loop {
            let length = self.within(&events::Count::new(id)).await?;
            let readable = self.within(&readable(id)).await?;
            let wanted = usize::try_from(length).unwrap_or(usize::MAX);
            let wanted = wanted.saturating_sub(begin).max(1);
            let mut events = Vec::new();
            let mut page_id = None::<String>;
            while events.len() < wanted {
                let left = u32::try_from(wanted - events.len()).unwrap_or(MANY);
                let mut search = events::Search::new(id).descending().limit(left.min(limit));
                if let Some(page_id) = page_id.take() {
                    search = search.page_id(page_id);
                }
                let page = self.page(search).await?;
                events.extend(page.items);
                match page.next_page_id {
                    Some(next) => page_id = Some(next),
                    None => break,
                }
            }
            events.reverse();
            let steady = self.within(&events::Count::new(id)).await? == length;
            tries += 1;
            if steady || tries == TRIES {
                return Ok(Fetched {
                    from: begin,
                    events,
                    more: false,
                    length: None,
                    tally: Some(Tally {
                        length,
                        readable,
                        steady,
                    }),
                });
            }
        }
    }

    /// Returns the length of the server's log, with events that it cannot read.
    pub(super) async fn length(&self) -> Result<u64> {
        self.within(&events::Count::new(self.mirror.id)).await
    }

    async fn page(&self, search: events::Search) -> Result<events::EventPage> {
        self.within(&search).await
    }

    /// Calls the server with the time limits of a link.
    async fn within<C: Call>(&self, call: &C) -> Result<C::Output> {
        let call = self.client.call(call).timeout(PATIENCE);
        call.attempt_timeout(self.stalled).await
    }

    /// Fetches the events after the last one held from the whole log: slow, and only for a log that
    /// lost an event.
    async fn all_unknown(&self, from: usize) -> std::result::Result<Fetched, Fault> {
        let whole = self.whole(from).await?;
        match whole.is_other() || whole.lacks_the_end(self.length().await?) {
            true => Err(Fault::Other),
            false => Ok(Fetched {
                from,
                events: whole.unknown,
                more: false,
                length: None,
                tally: None,
            }),
        }
    }

    /// Reads the whole log, and compares it with the first `from` events held.
    async fn whole(&self, from: usize) -> Result<Whole> {
        let log = self.mirror.read().log.clone();
        let held = log.range(0..from).map(Event::id);
        let mut held: HashSet<&str> = held.filter(|id| !id.is_empty()).collect();
        let last = log.range(0..from).next_back().map(Event::id);
        let mut whole = Whole {
            any: held.is_empty(),
            ..Whole::default()
        };
        let mut page_id = None::<String>;
        loop {
            let mut search = events::Search::new(self.mirror.id);
            if let Some(page_id) = &page_id {
                search = search.page_id(page_id);
            }
            let page = self.within(&search).await?;
            for event in page.items {
                whole.readable += 1;
                if held.remove(event.id()) {
                    whole.unknown.clear();
                    whole.any = true;
                    whole.has_last |= last == Some(event.id());
                } else {
                    whole.unknown.push(event);
                }
            }
            match page.next_page_id {
                Some(next) if page_id.as_ref() != Some(&next) => page_id = Some(next),
                _ => break,
            }
        }
        whole.missing = u64::try_from(held.len()).unwrap_or(u64::MAX);
        Ok(whole)
    }

    /// Returns the id of the server's newest event, if there is one.
    pub(super) async fn newest(&self) -> Result<Option<String>> {
        let search = events::Search::new(self.mirror.id).descending().limit(1);
        let page = self.within(&search).await?;
        Ok(page.items.first().map(|event| event.id().to_owned()))
    }

    /// Returns whether the server's log has lost the newest event held.
    pub(super) async fn has_lost_the_end(&self) -> Result<bool> {
        let from = self.mirror.read().log.end();
        Ok(self.whole(from).await?.lacks_the_end(self.length().await?))
    }

    /// Returns whether the server's log has none of the newest events held.
    pub(super) async fn is_other_log(&self) -> Result<bool> {
        let log = self.mirror.read().log.clone();
        let newest = log.range(0..usize::MAX).rev().take(3);
        let ids: Vec<String> = newest.map(|event| event.id().to_owned()).collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let call = events::BatchGet::new(self.mirror.id, ids);
        match self.within(&call).await {
            Ok(found) => Ok(found.iter().all(Option::is_none)),
            // Servers before 1.45 reject the whole request because of one unknown event.
            Err(error) if error.kind() == ErrorKind::Server => match self.after_last(1).await {
                Ok(_) => Ok(false),
                Err(Fault::Other) => Ok(true),
                Err(Fault::Wire(error)) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

/// Returns whether a response means that there is nothing left to fetch.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized)
}
