//! The session socket: a replay from a position in the log, then the live events.

use std::sync::Arc;

use serde_json::json;

use super::line::{Delivered, Line, Over, ending, too_large, too_many};
use crate::fake::state::{
    conversation::Conversation,
    listening::{Listening, begins},
    log::MAX_FRAME,
    subscriber::{Item, Subscriber},
};

/// The size of a replay part, after which other work is checked.
const STRETCH: usize = 1024 * 1024;

impl Line {
    pub(super) async fn session(
        &mut self,
        conversation: &Arc<Conversation>,
        after: Option<i64>,
    ) -> Delivered {
        let Listening {
            subscriber,
            mut items,
            _place,
        } = Listening::new(conversation).ok_or_else(too_many)?;
        let mut batch = Vec::new();
        self.queues_messages = true;
        let length = loop {
            let (listener, taken) = (Some(conversation), batch.len());
            self.wait(listener, &subscriber, &mut items, &mut batch, true)
                .await?;
            if let Some(length) = batch.iter().skip(taken).find_map(begins) {
                break length;
            }
        };
        self.queues_messages = false;
        let through = length.checked_sub(1);
        let mut sync = json!({"type": "sync"});
        if let Some(after) = after {
            sync["from_seq"] = json!(after);
        }
        if let Some(through) = through {
            sync["through_seq"] = json!(through);
        }
        self.writer.text(&[sync.to_string().as_bytes()]);
        self.flush(&subscriber).await?;
        let mut done = None;
        if let Some(after) = after {
            let mut next = usize::try_from(after + 1).unwrap_or(0);
            while next < length {
                if subscriber.end.is_cancelled() {
                    return Err(ending(&subscriber));
                }
                next = self.replay(conversation, next, length, &subscriber).await?;
                tokio::task::yield_now().await;
            }
            done = through;
            self.flush(&subscriber).await?;
        }
        loop {
            for item in batch.drain(..) {
                match &item {
                    Item::Durable { seq, .. } if done.is_some_and(|done| *seq <= done) => {}
                    Item::Durable { frame, .. } => self.durable(frame, &subscriber).await?,
                    Item::Transient(raw) | Item::Snapshot { raw, .. } => {
                        if raw.len() + 64 > MAX_FRAME {
                            return Err(too_large());
                        }
                        let parts = [&br#"{"type":"transient","event":"#[..], raw, b"}"];
                        self.writer.text(&parts);
                    }
                    Item::Progress(raw) => self.writer.text(&[raw]),
                }
                subscriber.took(&item);
            }
            self.flush(&subscriber).await?;
            let listener = Some(conversation);
            self.wait(listener, &subscriber, &mut items, &mut batch, true)
                .await?;
        }
    }

    /// Sends a part of the log, up to `end`. Returns the next position.
    async fn replay(
        &mut self,
        conversation: &Conversation,
        next: usize,
        end: usize,
        subscriber: &Subscriber,
    ) -> Result<usize, Over> {
        if !self.world.faults.concern_events() {
            let stretch = conversation.lock().log.stretch(next, end, STRETCH);
            if let Some((pieces, after)) = stretch {
                for piece in pieces {
                    self.writer.frames(piece);
                    if self.writer.is_full() {
                        self.flush(subscriber).await?;
                    }
                }
                self.passed += (after - next) as u64;
                return Ok(after);
            }
        }
        let page = conversation.lock().log.page(next, 100);
        let after = page.last().map_or(end, |(last, _)| last + 1);
        for (_, frame) in page.iter().take_while(|(seq, _)| *seq < end) {
            self.durable(frame, subscriber).await?;
        }
        Ok(after)
    }
}
