//! Frames of the session socket, applied to the mirror and to readers of tokens.

use oh_protocol::SessionFrame;
use oh_transport::{Message, Socket};
use tokio::time::Instant;
use tracing::warn;

use super::{Connection, Flavor, Phase, Watcher, polling};

/// So many frames are taken at once, at most.
const BATCH: usize = 128;

/// The progress of one connection.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) flavor: Flavor,
    /// Last `seq` of the replay.
    pub(super) through: Option<i64>,
    /// The event by which the log is recognised, by its `seq`.
    expected: Option<(i64, String)>,
    /// Whether a frame has arrived.
    pub(super) fruitful: bool,
    /// When the events in front of those that came early are fetched.
    pub(super) gap: Option<Instant>,
    /// Whether the socket may be deaf: an event that it should have brought is missing.
    pub(super) nudged: bool,
    /// How often a gap was looked for and not found in the server's log.
    pub(super) fills: u32,
    /// Something was appended to the log that the socket does not bring.
    pub(super) bell: bool,
    /// Legacy: a snapshot that waits for the events before it.
    pub(super) snapshot: Option<oh_protocol::Event>,
}

impl Reading {
    pub(super) fn expecting(flavor: Flavor, expected: Option<(i64, String)>) -> Self {
        Self {
            flavor,
            through: None,
            expected,
            fruitful: false,
            gap: None,
            nudged: false,
            fills: 0,
            bell: false,
            snapshot: None,
        }
    }
}

/// Whether the log is still the one that is held.
#[derive(Debug, PartialEq, Eq)]
enum Log {
    Same,
    /// Shorter than what is held.
    Shorter,
    /// Another event at a known place.
    Other,
}

impl Watcher {
    /// Takes what has arrived; and what comes next if the connection is over.
    pub(super) fn received(
        &mut self,
        received: oh_transport::Result<Message>,
        connection: &mut Connection,
    ) -> Option<Phase> {
        if received.is_ok() {
            connection.reading.fruitful = true;
            self.fruitless = 0;
            self.heard = Instant::now();
            self.try_socket = polling::FIRST;
        }
        match connection.reading.flavor {
            Flavor::Session => self.take(received, &mut connection.socket, &mut connection.reading),
            Flavor::Legacy => {
                self.take_legacy(received, &mut connection.socket, &mut connection.reading)
            }
        }
    }

    /// Takes a frame of the session socket, and those that have come behind it: readers are woken
    /// once for all of them.
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
                            // No log is so long; a client that cannot count it must still not
                            // panic.
                            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
                            *unreadable = 0;
                            if let Some((at, id)) = &reading.expected
                                && seq >= *at
                            {
                                if seq == *at && event.id() != id {
                                    log = Log::Other;
                                    return;
                                }
                                reading.expected = None;
                            }
                            let replayed = reading.through.is_some_and(|through| seq <= through);
                            if fetched.remove(event.id()) {
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
                            // Until the log is here up to where the replay began, a snapshot says
                            // nothing of the link.
                            let behind = reading.through.is_some_and(|end| held.cursor < end);
                            let link = held.link;
                            snapshot |= held.transient(event);
                            if behind {
                                held.link = link;
                            } else if held.link == crate::Link::Live {
                            }
                            // A persisted event that the server could not number in time is
                            // in the log.
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
                    warn!(conversation = %self.id, %code, %detail, "the server rejects something");
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
}

impl Watcher {
    /// Lets those who read tokens know once the history is here.
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

/// Whether events of this kind are transient by nature.
fn is_state(kind: &str) -> bool {
    matches!(
        kind,
        "ConversationStateUpdateEvent" | "StreamingDeltaEvent" | "ServerErrorEvent"
    )
}

/// The frame in a message, if it is one.
fn frame(message: Message) -> oh_transport::Result<Option<SessionFrame>> {
    match message {
        Message::Text(text) => Ok(Some(SessionFrame::from_json(text)?)),
        _ => Ok(None),
    }
}
