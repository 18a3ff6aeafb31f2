//! What the watcher asks by REST: events no socket can carry, and whether there is anything left.

use std::{collections::HashSet, time::Duration};

use oh_protocol::{
    Event,
    calls::{conversations, events},
};
use oh_transport::{Error, Result};
use tracing::warn;

use super::{Flavor, Phase, Watcher};

const PATIENCE: Duration = Duration::from_secs(60);
/// Events fetched at once where one of them is known to be huge.
const FEW: u32 = 10;
const MANY: u32 = 100;

impl Watcher {
    /// Fetches what the session socket cannot carry and goes on after it.
    pub(super) async fn fetch(&mut self) -> Phase {
        match self.next_events(FEW).await {
            Ok((events, _)) if events.is_empty() => {
                // Not an event then: the state itself is larger than a frame may be, and the
                // session socket cannot be used at all.
                warn!(conversation = %self.id, "state too large for the session socket: using the legacy one");
                self.flavor = Flavor::Legacy;
            }
            Ok((events, _)) => {
                for event in events {
                    self.fetched.insert(event.id().into());
                    self.writer.durable(self.cursor() + 1, event, false);
                }
                return Phase::Dial;
            }
            Err(error) => return Box::pin(self.ended(&error)).await,
        }
        Phase::Dial
    }

    /// Brings the mirror to the end of the log, page by page.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        loop {
            let (events, more) = self.next_events(MANY).await?;
            for event in events {
                self.tokens.durable(&event);
                self.writer.durable(self.cursor() + 1, event, true);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// The events after the last one held, and whether there are more after these.
    async fn next_events(&mut self, limit: u32) -> Result<(Vec<Event>, bool)> {
        let mut search = events::Search::new(self.id);
        let last = self.writer.mirror().read().events.last().cloned();
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

    /// Every event of the log that is not held: slow, and only for a log that lost an event.
    async fn all_unknown(&mut self) -> Result<(Vec<Event>, bool)> {
        let mut unknown = Vec::new();
        let held = self.writer.mirror().read().events.clone();
        let mut seen: HashSet<String> = held.iter().map(|event| event.id().to_owned()).collect();
        let mut page_id = None::<String>;
        loop {
            let mut search = events::Search::new(self.id);
            if let Some(page_id) = &page_id {
                search = search.page_id(page_id);
            }
            let page = self.client.call(&search).timeout(PATIENCE).await?;
            for event in page.items {
                if seen.insert(event.id().to_owned()) {
                    unknown.push(event);
                }
            }
            match page.next_page_id {
                Some(next) if page_id.as_ref() != Some(&next) => page_id = Some(next),
                _ => return Ok((unknown, false)),
            }
        }
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
        if self.flavor == Flavor::Legacy {
            return self.catch_up().await;
        }
        let call = events::Count::new(self.id);
        match self.client.call(&call).timeout(PATIENCE).await {
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
