//! The legacy socket: plain events, with or without a replay.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::line::{Delivered, Line, too_many};
use crate::fake::state::{
    conversation::Conversation,
    listening::{Listening, begins},
    subscriber::Item,
};

impl Line {
    pub(super) async fn legacy(
        &mut self,
        conversation: &Arc<Conversation>,
        all: bool,
        since: Option<String>,
    ) -> Delivered {
        let Listening {
            subscriber,
            mut items,
            _place,
        } = Listening::new(conversation).ok_or_else(too_many)?;
        let mut batch = Vec::new();
        let mut next = 0;
        let mut replaying = all || since.is_some();
        self.queues_messages = true;
        loop {
            // Replayed and new events alternate, as on the agent server. An event may be sent twice
            // and out of order.
            match items.try_recv() {
                Ok(item) => batch.push(item),
                Err(_) if replaying && !self.queues_messages => {}
                Err(_) => {
                    self.wait(
                        Some(conversation),
                        &subscriber,
                        &mut items,
                        &mut batch,
                        false,
                    )
                    .await?;
                }
            }
            for item in batch.drain(..) {
                // Events during a running tool precede the state.
                self.queues_messages &= begins(&item).is_none();
                match &item {
                    Item::Durable { frame, .. } => self.bare(&frame.event(), &subscriber).await?,
                    Item::Transient(raw) | Item::Snapshot { raw, .. } => self.writer.text(&[raw]),
                    Item::Progress(raw) => {
                        if let Some(delta) = self.delta(raw) {
                            self.writer.text(&[delta.to_string().as_bytes()]);
                        }
                    }
                }
                subscriber.took(&item);
            }
            if replaying && !self.queues_messages {
                let page = conversation.lock().page(next, 100);
                for (seq, event) in &page {
                    next = seq + 1;
                    if since
                        .as_ref()
                        .is_none_or(|since| timestamp(event) >= since.as_str())
                    {
                        self.bare(event, &subscriber).await?;
                    }
                }
                replaying = !page.is_empty();
            }
            self.flush(&subscriber).await?;
        }
    }

    /// Converts a piece of a streamed answer to an event for the legacy socket.
    fn delta(&self, progress: &Bytes) -> Option<Value> {
        let frame: Value = serde_json::from_slice(progress).ok()?;
        (frame["type"] == "delta").then(|| {
            json!({
                "kind": "StreamingDeltaEvent",
                "id": self.world.clock.id(),
                "timestamp": self.world.clock.local(),
                "source": "agent",
                "content": frame["content"],
            })
        })
    }
}

fn timestamp(raw: &Bytes) -> &str {
    #[derive(serde::Deserialize)]
    struct Header<'a> {
        timestamp: &'a str,
    }
    serde_json::from_slice::<Header<'_>>(raw).map_or("", |header| header.timestamp)
}
