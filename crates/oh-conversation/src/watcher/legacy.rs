//! The legacy socket: a bell that says "look at the log", and the bearer of what no log holds.
//!
//! Its replay and its live events interleave, repeat and have no `seq`. So events are never taken
//! from it: they are on disk before they are published, and REST reads them in log order.

use bytes::Bytes;
use oh_protocol::{Event, event::Payload};
use oh_transport::Result;

use super::{Reading, Watcher};

impl Watcher {
    pub(super) async fn take_legacy(&mut self, text: Bytes, reading: &mut Reading) -> Result<()> {
        let event = Event::from_json(text)?;
        match event.payload() {
            Payload::ConversationStateUpdate(update) if update.is_full_state() => {
                // It follows all events it speaks of; they must be held before it is shown.
                reading.bell = false;
                self.catch_up().await?;
                self.missing = None;
                self.leased = None;
                self.writer.transient(&event);
                self.restore_policy();
            }
            Payload::StreamingDelta(delta) => self.tokens.legacy(delta),
            Payload::ServerError(error) => {
                tracing::warn!(conversation = %self.id, code = %error.code, "the server refuses something");
            }
            Payload::ConversationStateUpdate(_) => {
                self.writer.transient(&event);
                reading.bell = true;
            }
            _ => reading.bell = true,
        }
        Ok(())
    }
}
