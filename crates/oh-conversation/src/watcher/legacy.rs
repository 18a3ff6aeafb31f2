//! The legacy socket: a bell that says "look at the log", and the bearer of what no log holds.
//!
//! Its replay and its live events interleave, repeat and have no `seq`. So events are never taken
//! from it: they are on disk before they are published, and REST reads them in log order.

use bytes::Bytes;
use oh_protocol::{Event, event::Payload};
use oh_transport::{Message, Result, Socket};

use super::{Reading, Watcher};

impl Watcher {
    /// Takes a message and those that have come behind it: the log is read once for all of them.
    pub(super) async fn take_legacy(
        &mut self,
        received: Result<Message>,
        socket: &mut Socket,
        reading: &mut Reading,
    ) -> Result<()> {
        let mut next = Some(received);
        let mut ended = Ok(());
        while let Some(received) = next.take() {
            ended = match received {
                Ok(Message::Text(text)) => self.hear(text, reading).await,
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if ended.is_ok() {
                next = socket.try_recv();
            }
        }
        if std::mem::take(&mut reading.bell) {
            let caught_up = self.catch_up().await;
            return ended.and(caught_up);
        }
        ended
    }

    async fn hear(&mut self, text: Bytes, reading: &mut Reading) -> Result<()> {
        let event = Event::from_json(text)?;
        match event.kind() {
            "ConversationStateUpdateEvent" | "StreamingDeltaEvent" | "ServerErrorEvent" => {}
            _ => {
                reading.bell = true;
                return Ok(());
            }
        }
        match event.payload() {
            Payload::ConversationStateUpdate(update) if update.is_full_state() => {
                // It follows all events it speaks of; they must be held before it is shown.
                reading.bell = false;
                self.catch_up().await?;
                self.missing = None;
                self.leased = None;
                self.writer.change(|held| held.transient(&event));
                self.subscribed();
            }
            Payload::StreamingDelta(delta) => self.tokens.legacy(delta),
            Payload::ServerError(error) => {
                tracing::warn!(conversation = %self.id, code = %error.code, "the server refuses something");
            }
            Payload::ConversationStateUpdate(_) => {
                self.writer.change(|held| held.transient(&event));
                reading.bell = true;
            }
            _ => reading.bell = true,
        }
        Ok(())
    }
}
