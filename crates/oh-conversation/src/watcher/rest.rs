//! What the watcher asks by REST: events no socket can carry, and whether there is anything left.

use std::{collections::HashSet, time::Duration};

use oh_protocol::{
    Event,
    calls::{conversations, events},
};
use oh_transport::{Error, Result};
use tracing::warn;

use super::{Flavor, Phase, Watcher};

/// A hook freezes the whole server for up to its timeout, 60 s by default: that is no failure.
const PATIENCE: Duration = Duration::from_secs(90);
/// Events fetched at once where one of them is known to be huge.
const FEW: u32 = 10;
const MANY: u32 = 100;

impl Watcher {
    /// Fetches what the session socket cannot carry and goes on after it.
    pub(super) async fn fetch(&mut self) -> Phase {
        let (events, more) = match self.next_events(FEW).await {
            Ok(found) => found,
            Err(error) => return self.ended(error).await,
        };
        let found = events.len();
        let through = self.through.take();
        self.fetched
            .extend(events.iter().map(|event| event.id().into()));
        let first = self.cursor() + 1;
        let moved = self.writer.change(|held| {
            let before = held.cursor;
            for event in &events {
                held.durable(held.cursor + 1, event.clone(), false);
            }
            if !more && let Some(through) = through {
                // Up to there the log was read: what is missing cannot be.
                held.skip(through);
            }
            held.cursor > before
        });
        for (seq, event) in (first..).zip(&events) {
            self.tokens.durable(seq, event, true);
        }
        if found > 0 || moved {
            self.too_large = 0;
            return Phase::Dial;
        }
        // Not an event then. Where it is the state, that comes in no frame, and the session socket
        // cannot be used at all.
        self.too_large += 1;
        if self.too_large > 1 {
            warn!(conversation = %self.id, "state too large for the session socket: using the legacy one");
            self.flavor = Flavor::Legacy;
        }
        self.writer.connecting(None);
        Phase::Wait(self.backoff.next_delay())
    }

    /// Brings the mirror to the end of the log, page by page.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        loop {
            let (events, more) = self.next_events(MANY).await?;
            let before = self.writer.mirror().read().cursor;
            if !events.is_empty() {
                self.writer.change(|held| {
                    for event in &events {
                        held.durable(held.cursor + 1, event.clone(), true);
                    }
                });
            }
            let first = before + 1;
            for (seq, event) in (first..).zip(&events) {
                self.tokens.durable(seq, event, true);
            }
            if !more {
                self.tokens.live(self.cursor());
                return Ok(());
            }
        }
    }

    /// The events after the last one held, and whether there are more after these.
    async fn next_events(&mut self, limit: u32) -> Result<(Vec<Event>, bool)> {
        let mut search = events::Search::new(self.id);
        let last = self.writer.mirror().read().log.last().cloned();
        if let Some(last) = &last {
            // The page begins with the event it names: one more than wanted.
            search = search.limit((limit + 1).min(100)).page_id(last.id());
        } else {
            search = search.limit(limit);
        }
        let page = self.client.call(&search).timeout(PATIENCE).await?;
        let mut items = page.items;
        match &last {
            None => {}
            Some(last) if items.first().is_some_and(|first| first.id() == last.id()) => {
                items.remove(0);
            }
            // The server no longer reads that event and began again at the first page.
            Some(_) => return self.all_unknown().await,
        }
        Ok((items, page.next_page_id.is_some()))
    }

    /// The events of the log after the last one that is held: slow, and only for a log that lost
    /// an event.
    async fn all_unknown(&mut self) -> Result<(Vec<Event>, bool)> {
        let log = self.writer.mirror().read().log.clone();
        let held: HashSet<&str> = log.range(0..usize::MAX).map(Event::id).collect();
        let (mut unknown, mut any) = (Vec::new(), false);
        let mut page_id = None::<String>;
        loop {
            let mut search = events::Search::new(self.id);
            if let Some(page_id) = &page_id {
                search = search.page_id(page_id);
            }
            let page = self.client.call(&search).timeout(PATIENCE).await?;
            for event in page.items {
                if held.contains(event.id()) {
                    unknown.clear();
                    any = true;
                } else {
                    unknown.push(event);
                }
            }
            match page.next_page_id {
                Some(next) if page_id.as_ref() != Some(&next) => page_id = Some(next),
                _ => break,
            }
        }
        if !any {
            // None of those held is there: those before them are as many as they were, at most.
            unknown.drain(..unknown.len().min(log.start()));
        }
        Ok((unknown, false))
    }

    /// Whether the server has the conversation.
    pub(super) async fn look(&self) -> Result<()> {
        let call = conversations::Get::new(self.id);
        let answer = self
            .client
            .call(&call)
            .timeout(Duration::from_secs(30))
            .await;
        answer.map(drop)
    }

    /// After a long silence: an error when the conversation is not there any more.
    pub(super) async fn still_there(&mut self) -> Result<()> {
        let asked = match self.flavor {
            Flavor::Legacy => self.catch_up().await,
            Flavor::Session => {
                let call = events::Count::new(self.id);
                self.client.call(&call).timeout(PATIENCE).await.map(drop)
            }
        };
        match asked {
            Err(error) if is_missing(&error) => Err(error),
            // A server busy with a tool or a hook answers late; pings decide about the link.
            _ => Ok(()),
        }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(
        error.kind(),
        oh_transport::ErrorKind::NotFound | oh_transport::ErrorKind::Unauthorized
    )
}
