//! The legacy socket: signals changes of the log, and delivers transient events.
//!
//! The replay and the live events of the legacy socket interleave, repeat and have no `seq`.
//! Therefore persisted events are never taken from it: they are on disk before they are published,
//! and REST returns them in log order.

use bytes::Bytes;
use oh_protocol::{Event, event::Payload};
use oh_transport::{Message, Result, Socket};

use super::{Phase, Watcher, reading::Reading};

impl Watcher {
    /// Applies a message and those already received after it, and fetches the log once for all of
    /// them.
    pub(super) fn take_legacy(
        &mut self,
        received: Result<Message>,
        socket: &mut Socket,
        reading: &mut Reading,
    ) -> Option<Phase> {
        let mut next = Some(received);
        let mut ended = None;
        let mut rung = false;
        while let Some(received) = next.take() {
            let heard = match received {
                Ok(Message::Text(text)) => self.hear(text, reading),
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            };
            match heard {
                Ok(bell) => rung |= bell,
                Err(error) => ended = Some(Phase::Broken(error)),
            }
            if ended.is_none() {
                next = socket.try_recv();
            }
        }
        if rung && ended.is_none() {
            self.ring(reading);
        }
        ended
    }

    /// Applies a message. Returns whether the log has a new event.
    fn hear(&mut self, text: Bytes, reading: &mut Reading) -> Result<bool> {
        let event = Event::from_json(text)?;
        match event.kind() {
            "ConversationStateUpdateEvent" | "StreamingDeltaEvent" | "ServerErrorEvent" => {}
            _ => return Ok(true),
        }
        match event.payload() {
            Payload::ConversationStateUpdate(update) if update.is_full_state() => {
                // A snapshot follows all events that it reflects; they must be held before it is
                // applied.
                reading.snapshot = Some(event);
            }
            Payload::StreamingDelta(delta) => {
                self.tokens.legacy(delta);
                return Ok(false);
            }
            Payload::ServerError(error) => {
                tracing::warn!(
                    conversation = %self.id,
                    code = %error.code,
                    "the server reported an error on the legacy socket"
                );
                return Ok(false);
            }
            Payload::ConversationStateUpdate(_) => {
                self.writer.change(|held| held.transient(&event));
            }
            _ => {}
        }
        Ok(true)
    }
}
