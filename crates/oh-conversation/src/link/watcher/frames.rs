//! Applies frames of the session socket to the mirror and to the token streams.

use oh_protocol::SessionFrame;
use oh_transport::{Message, Socket};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Connection, Phase, TRY_SOCKET, Watcher,
    reading::{Flavor, Reading},
};
use crate::{
    LinkStatus,
    mirror::{held::Held, numbering::Numbered},
};

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
            if !std::mem::replace(&mut connection.reading.fruitful, true) {
                self.writer.change(Held::heard);
            }
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
                            (held.unnumbered, held.refused) = (false, false);
                            reading.over = through_seq.is_none();
                            if held.cursor >= last && held.is_proven() {
                                held.confirm();
                                held.live();
                                reading.over = true;
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
                            let covered = held.is_covered(reading.expected.after);
                            let mut older = false;
                            match held.number(known, seq, event.id(), again, covered) {
                                Numbered::New => {}
                                Numbered::Older => older = true,
                                Numbered::Held => {
                                    held.skip(seq);
                                    if held.counted.is_none() {
                                        held.confirm();
                                    }
                                }
                                Numbered::Differently => {
                                    log = Log::Counted;
                                    return;
                                }
                            }
                            if again {
                                fetched.remove(event.id());
                                held.skip(seq);
                            } else if seq > held.cursor && !older {
                                *rest_until_check = limits.silence;
                                if seq == held.cursor + 1 {
                                    fetched.clear();
                                }
                                held.durable(seq, event.clone(), replayed);
                            }
                            if !reading.over && reading.through.is_some_and(|end| seq >= end) {
                                log = replayed_all(held, reading);
                                if log != Log::Same {
                                    return;
                                }
                            }
                        }
                        SessionFrame::Transient { event } => {
                            let is_snapshot = held.transient(event);
                            snapshot |= is_snapshot;
                            if is_snapshot && !reading.over {
                                // The server sends nothing but the log before the end of the
                                // replay.
                                log = replayed_all(held, reading);
                                if log != Log::Same {
                                    return;
                                }
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

/// Applies the end of a replay: events that it did not deliver cannot be read.
fn replayed_all(held: &mut Held, reading: &mut Reading) -> Log {
    let Some(through) = reading.through else {
        return Log::Same;
    };
    reading.over = true;
    held.skip(through);
    if held.log.is_empty() && held.log.begin() > 0 {
        // The server can read no event of the window: the newest events are before it.
        held.link = LinkStatus::Replaying;
        reading.bell = true;
        return Log::Same;
    }
    if !held.is_covered(reading.expected.after) {
        return Log::Counted;
    }
    held.confirm();
    held.live();
    Log::Same
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
