//! Applies frames of the session socket to the mirror and to the token streams.

use oh_protocol::SessionFrame;
use oh_transport::{Message, Socket};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Connection, Phase, TRY_SOCKET, Watcher,
    reading::{Flavor, Reading},
};
use crate::mirror::numbering::Numbered;

/// The maximum number of frames applied at once.
const BATCH: usize = 128;

/// Whether the log is still the one that is held.
#[derive(Debug, PartialEq, Eq)]
enum Log {
    Same,
    /// The log is shorter than the one held.
    Shorter,
    /// There is another event at a known position.
    Other,
    /// The server numbers events differently that were counted.
    Counted,
}

impl Watcher {
    /// Applies a received message or an error. Returns the next phase if the connection is over.
    pub(super) fn received(
        &mut self,
        received: oh_transport::Result<Message>,
        connection: &mut Connection,
    ) -> Option<Phase> {
        if received.is_ok() {
            connection.reading.fruitful = true;
            self.fruitless = 0;
            self.heard = Instant::now();
            self.try_socket = TRY_SOCKET.0;
        }
        match connection.reading.flavor {
            Flavor::Session => self.take(received, &mut connection.socket, &mut connection.reading),
            Flavor::Legacy => {
                self.take_legacy(received, &mut connection.socket, &mut connection.reading)
            }
        }
    }

    /// Applies a frame of the session socket, and those already received after it, so that readers
    /// are woken only once.
    fn take(
        &mut self,
        received: oh_transport::Result<Message>,
        socket: &mut Socket,
        reading: &mut Reading,
    ) -> Option<Phase> {
        let mut frames = Vec::new();
        let mut next = Some(received);
        let mut ended = None;
        while let Some(received) = next.take() {
            match received.and_then(frame) {
                Ok(frame) => frames.extend(frame),
                Err(error) => ended = Some(Phase::Broken(error)),
            }
            if ended.is_none() && frames.len() < BATCH {
                next = socket.try_recv();
            }
        }
        match self.apply(frames, reading) {
            Log::Same => ended,
            Log::Shorter => Some(Phase::End(self.replaced())),
            Log::Other => Some(Phase::Verify),
            Log::Counted => Some(Phase::Dial),
        }
    }

    fn apply(&mut self, frames: Vec<SessionFrame>, reading: &mut Reading) -> Log {
        let mut snapshot = false;
        let mut log = Log::Same;
        let Self {
            writer,
            fetched,
            through,
            missing,
            leased,
            unreadable,
            rest_until_check,
            limits,
            ..
        } = self;
        let changes = |frame: &SessionFrame| {
            use SessionFrame::{Durable, Sync, Transient};
            matches!(frame, Sync { .. } | Durable { .. } | Transient { .. })
        };
        if frames.iter().any(changes) {
            writer.change(|held| {
                for frame in &frames {
                    match frame {
                        SessionFrame::Sync { through_seq, .. } => {
                            let last = through_seq.unwrap_or(-1);
                            if last < held.cursor {
                                log = Log::Shorter;
                                return;
                            }
                            *through = *through_seq;
                            reading.through = *through_seq;
                            (*missing, *leased) = (None, None);
                            if held.cursor >= last {
                                held.live();
                            }
                        }
                        SessionFrame::Durable { seq, event } => {
                            // No log is this long; but a large number must not cause a panic.
                            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
                            *unreadable = 0;
                            if let Some((at, id)) = &reading.expected.event
                                && seq >= *at
                            {
                                if seq == *at && event.id() != id {
                                    log = Log::Other;
                                    return;
                                }
                                reading.expected.event = None;
                            }
                            let replayed = reading.through.is_some_and(|through| seq <= through);
                            let known = &mut reading.expected.replayed;
                            let again = fetched.contains(event.id());
                            match held.number(known, seq, event.id(), again) {
                                Numbered::New => {}
                                Numbered::Held => held.skip(seq),
                                Numbered::Differently => {
                                    log = Log::Counted;
                                    return;
                                }
                            }
                            if again {
                                fetched.remove(event.id());
                                held.skip(seq);
                            } else if seq > held.cursor {
                                *rest_until_check = limits.silence;
                                if seq == held.cursor + 1 {
                                    fetched.clear();
                                }
                                held.durable(seq, event.clone(), replayed);
                            }
                            if reading
                                .through
                                .is_some_and(|through| held.cursor >= through)
                            {
                                held.live();
                            }
                        }
                        SessionFrame::Transient { event } => {
                            // A snapshot does not change the link before the log has arrived up to
                            // the start of the replay.
                            let behind = reading.through.is_some_and(|end| held.cursor < end);
                            let (link, counted) = (held.link, held.counted);
                            snapshot |= held.transient(event);
                            if behind {
                                (held.link, held.counted) = (link, counted);
                            }
                            // A persisted event that the server could not number in time is in the
                            // log.
                            reading.bell |= !is_state(event.kind());
                        }
                        _ => {}
                    }
                }
                if held.early.is_empty() {
                    (reading.gap, reading.fills) = (None, 0);
                } else {
                    reading
                        .gap
                        .get_or_insert_with(|| Instant::now() + limits.gap);
                }
            });
        }
        if log != Log::Same {
            return log;
        }
        for frame in frames {
            match frame {
                SessionFrame::Sync { .. } | SessionFrame::Transient { .. } => {}
                SessionFrame::Durable { seq, event } => {
                    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
                    let replayed = reading.through.is_some_and(|through| seq <= through);
                    self.tokens.durable(seq, &event, replayed);
                }
                SessionFrame::Error { code, detail } => {
                    warn!(
                        conversation = %self.id,
                        %code,
                        %detail,
                        "the server reported an error on the session socket"
                    );
                }
                progress => self.tokens.progress(progress),
            }
        }
        self.tell_live();
        if reading.bell {
            self.ring(reading);
        }
        if snapshot {
            self.too_large = 0;
            self.subscribed();
        }
        Log::Same
    }

    /// Informs token streams once the history has arrived.
    pub(super) fn tell_live(&self) {
        let live = {
            let held = self.writer.mirror().read();
            held.link.is_up().then_some(held.cursor)
        };
        if let Some(cursor) = live {
            self.tokens.live(cursor);
        }
    }
}

/// Returns whether events of this kind are always transient.
fn is_state(kind: &str) -> bool {
    matches!(
        kind,
        "ConversationStateUpdateEvent" | "StreamingDeltaEvent" | "ServerErrorEvent"
    )
}

/// Decodes the frame in a message, if there is one.
fn frame(message: Message) -> oh_transport::Result<Option<SessionFrame>> {
    match message {
        Message::Text(text) => Ok(Some(SessionFrame::from_json(text)?)),
        _ => Ok(None),
    }
}
