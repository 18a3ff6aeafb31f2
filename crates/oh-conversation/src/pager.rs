//! Pages of the log by REST, for readers of what is not held any more. Knows no mirror's writer.

use std::time::Duration;

use oh_protocol::{ConversationId, Event, calls::events::Search};
use oh_transport::{Backoff, Client};
use tokio::time::sleep;
use tracing::debug;

use crate::{Error, Result, log::Log, mirror::Mirror};

const PATIENCE: Duration = Duration::from_secs(60);
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

    /// The events from an index on, up to what is held: some of them, in order; none if the server
    /// has none there any more. `known` is the index and id of an event at or before it.
    pub(crate) async fn read(
        &self,
        mirror: &Mirror,
        log: &Log,
        from: usize,
        known: Option<(usize, Box<str>)>,
    ) -> Result<Vec<Event>> {
        let held = log.get(log.start()).map(|event| event.id().to_owned());
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (mut at, mut page_id) = match known {
            Some((index, id)) => (index, Some(id)),
            None => (0, None),
        };
        loop {
            let mut search = Search::new(self.id).limit(PAGE);
            if let Some(id) = &page_id {
                search = search.page_id(&**id);
            }
            let page = match self.client.call(&search).timeout(PATIENCE).await {
                Ok(page) => page,
                Err(error) => {
                    if let Some(ended) = mirror.read().ended.clone() {
                        return Err(ended);
                    }
                    if error.kind() == oh_transport::ErrorKind::Unauthorized {
                        return Err(Error::transport(self.id, "read older events", error));
                    }
                    debug!(conversation = %self.id, %error, "cannot read older events yet");
                    sleep(backoff.next_delay()).await;
                    continue;
                }
            };
            let first = page.items.first().map(Event::id);
            if page_id.is_some() && first != page_id.as_deref() {
                // The server does not read that event any more, and began again at the first.
                (at, page_id) = (0, None);
                continue;
            }
            let count = page.items.len();
            let more = page.next_page_id.filter(|_| count > 0);
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
                    page_id = Some(next.into());
                }
                _ => return Ok(wanted),
            }
        }
    }
}
