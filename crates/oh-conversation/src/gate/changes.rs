//! Finding the newest change of a part of the state: in the mirror or, if the events held do not
//! show it, on the server.

use oh_protocol::{Event, Json, Payload, calls::events::Search};
use tokio::time::timeout;

use crate::{
    Conversation, Result,
    mirror::{changes::Part, head::STATE_UPDATE},
};

impl Conversation {
    /// Returns the value of the newest change of a part of the state, as of the server's newest
    /// event; `None` if the log has no such change. Events before those held are searched newest
    /// first, once.
    pub(crate) async fn newest_change(&self, part: Part) -> Result<Option<Json>> {
        let limit = self.limits().unreachable;
        let finding = async {
            self.up_to_date().await?;
            let first = {
                let held = self.mirror().read();
                if let Some(change) = held.changes.newest(part) {
                    return Ok(Some(change.value.clone()));
                }
                if held.log.begin() == 0 {
                    return Ok(None);
                }
                held.log
                    .get(held.log.start())
                    .map(|first| first.id().to_owned())
            };
            if let Some(known) = self.mirror().earlier_changes.lock().get(&part) {
                return Ok(known.clone());
            }
            let found = self.search_change(part, first).await?;
            self.mirror()
                .earlier_changes
                .lock()
                .insert(part, found.clone());
            Ok(found)
        };
        match timeout(limit, finding).await {
            Ok(found) => found,
            Err(_) => {
                let what = format!("the log could not be read for {limit:?}");
                Err(self.timed_out(what).advise("nothing was sent"))
            }
        }
    }

    /// Looks up changes before the events held that may be newer than the settings of this process.
    pub(crate) async fn know_newer_settings(&self) -> Result<()> {
        let begin = self.mirror().read().log.begin();
        for part in self.mirror().answered.restored.sent_before(begin) {
            self.newest_change(part).await?;
        }
        Ok(())
    }

    /// Searches the log from this event on, newest first.
    async fn search_change(&self, part: Part, from: Option<String>) -> Result<Option<Json>> {
        let mut page_id = from;
        loop {
            let mut search = Search::new(self.id()).descending();
            if let Some(page_id) = &page_id {
                search = search.page_id(page_id);
            }
            let page = self.insist("read earlier events", &search).await?;
            if let Some(value) = page.items.iter().find_map(|event| value(event, part)) {
                return Ok(Some(value));
            }
            match page.next_page_id {
                Some(next) if page_id.as_ref() != Some(&next) => page_id = Some(next),
                _ => return Ok(None),
            }
        }
    }
}

fn value(event: &Event, part: Part) -> Option<Json> {
    if event.kind() != STATE_UPDATE {
        return None;
    }
    match event.decode() {
        Payload::ConversationStateUpdate(update) if Part::of(&update) == Some(part) => {
            Some(update.value)
        }
        _ => None,
    }
}
