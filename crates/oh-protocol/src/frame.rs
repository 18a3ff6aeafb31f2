//! Frames of the session socket (`/sockets/session/{conversation_id}`).

use bytes::Bytes;
use bytestring::ByteString;
use serde::Deserialize;

use crate::{
    Error, Event, Result,
    event::{Seen, text},
    scan::{Flaw, Scanner, Span, Stop},
};

/// One message of the session socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionFrame {
    /// First frame: the range that a replay covers.
    Sync {
        /// The `seq` after which the replay begins, as asked for; −1 for all.
        from_seq: Option<i64>,
        /// Last `seq` of the replay; absent while the log is empty.
        through_seq: Option<i64>,
    },
    /// A persisted event with its place in the log.
    Durable {
        /// Its index in the log.
        seq: u64,
        /// The event.
        event: Event,
    },
    /// An event that is not in the log, such as a full state.
    Transient {
        /// The event.
        event: Event,
    },
    /// A streamed item begins.
    ItemStarted {
        /// Id of the event that will end it.
        item_id: Box<str>,
        /// Grows with each retry; a higher one discards what came before.
        attempt: u64,
        /// Last `seq` before the item; −1 before the first.
        anchor_seq: Option<i64>,
    },
    /// A piece of a streamed item.
    Delta {
        /// Id of the event that will end it.
        item_id: Box<str>,
        /// The attempt it belongs to.
        attempt: u64,
        /// Its place within the attempt.
        order: u64,
        /// `text` or `reasoning`.
        kind: Box<str>,
        /// The piece.
        content: Box<str>,
    },
    /// A streamed item was given up.
    ItemAborted {
        /// Id of the item.
        item_id: Box<str>,
        /// The attempt that ended.
        attempt: u64,
        /// Why.
        reason: Box<str>,
    },
    /// The server refuses something the client sent or did.
    Error {
        /// A word for it.
        code: Box<str>,
        /// The explanation.
        detail: Box<str>,
    },
    /// A frame type this version does not know.
    Unknown {
        /// Its `type`.
        frame_type: Box<str>,
        /// The whole frame.
        raw: Bytes,
    },
}

/// What frames without an event hold. Read only once the type is known to be one of them: a
/// future type may use a name for another shape, and must still come through as `Unknown`.
#[derive(Deserialize)]
struct Small {
    from_seq: Option<i64>,
    through_seq: Option<i64>,
    item_id: Option<Box<str>>,
    #[serde(default)]
    attempt: u64,
    anchor_seq: Option<i64>,
    #[serde(default)]
    order: u64,
    kind: Option<Box<str>>,
    #[serde(default)]
    content: Box<str>,
    #[serde(default)]
    reason: Box<str>,
    #[serde(default)]
    code: Box<str>,
    #[serde(default)]
    detail: Box<str>,
}

/// What one pass over a frame finds.
#[derive(Default)]
struct Found {
    frame_type: Option<Span>,
    seq: Option<Span>,
    event: Option<(Span, Seen)>,
}

const WHAT: &str = "a session frame";

impl SessionFrame {
    /// Reads a text message of the session socket.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object with a `type`, or lacks what its type promises.
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = text(raw.into(), WHAT)?;
        let found = Found::read(&raw).map_err(|flaw| Error::decode(WHAT, flaw))?;
        let frame_type = found.frame_type.map(|span| span.of(&raw));
        let frame_type = frame_type.ok_or_else(|| Error::decode(WHAT, "no `type`"))?;
        match frame_type {
            "durable" => {
                let seq = found.seq.and_then(|span| span.of(&raw).parse().ok());
                let seq = seq.ok_or_else(|| missing(frame_type, "seq"))?;
                found.event(&raw).map(|event| Self::Durable { seq, event })
            }
            "transient" => found.event(&raw).map(|event| Self::Transient { event }),
            "sync" | "item_started" | "delta" | "item_aborted" | "error" => {
                let small =
                    serde_json::from_str(&raw).map_err(|error| Error::decode(WHAT, error))?;
                Self::small(frame_type, small)
            }
            _ => Ok(Self::Unknown {
                frame_type: frame_type.into(),
                raw: raw.into_bytes(),
            }),
        }
    }

    fn small(frame_type: &str, small: Small) -> Result<Self> {
        let item = |id: Option<Box<str>>| id.ok_or_else(|| missing(frame_type, "item_id"));
        Ok(match frame_type {
            "sync" => Self::Sync {
                from_seq: small.from_seq,
                through_seq: small.through_seq,
            },
            "item_started" => Self::ItemStarted {
                item_id: item(small.item_id)?,
                attempt: small.attempt,
                anchor_seq: small.anchor_seq,
            },
            "delta" => Self::Delta {
                item_id: item(small.item_id)?,
                attempt: small.attempt,
                order: small.order,
                kind: small.kind.unwrap_or_else(|| "text".into()),
                content: small.content,
            },
            "item_aborted" => Self::ItemAborted {
                item_id: item(small.item_id)?,
                attempt: small.attempt,
                reason: small.reason,
            },
            _ => Self::Error {
                code: small.code,
                detail: small.detail,
            },
        })
    }
}

impl Found {
    /// One pass over the frame and the header of the event in it.
    fn read(text: &str) -> Result<Self, Flaw> {
        let mut scanner = Scanner::new(text)?;
        Self::scan(&mut scanner).map_err(|Stop| scanner.flaw())
    }

    fn scan(scanner: &mut Scanner<'_>) -> Result<Self, Stop> {
        let mut found = Self::default();
        let mut more = scanner.object()?;
        while more {
            match scanner.key()?.span.of(scanner.text()) {
                "type" => found.frame_type = scanner.string_or_other()?.map(|text| text.span),
                "seq" => found.seq = Some(scanner.value()?),
                "event" => {
                    let start = scanner.at();
                    let mut seen = Seen::default();
                    if scanner.peek() == Some(b'{') {
                        seen.members(scanner)?;
                    } else {
                        scanner.value()?;
                    }
                    found.event = Some((Span::new(start, scanner.at()), seen));
                }
                _ => drop(scanner.value()?),
            }
            more = scanner.more_members()?;
        }
        scanner.end()?;
        Ok(found)
    }

    fn event(self, frame: &ByteString) -> Result<Event> {
        let type_of = |span: Option<Span>| span.map(|span| span.of(frame)).unwrap_or_default();
        let Some((span, seen)) = self.event else {
            return Err(missing(type_of(self.frame_type), "event"));
        };
        let raw = frame.slice_ref(span.of(frame));
        Ok(match seen.header(frame, span.start()) {
            Ok(header) => Event::new(raw, header),
            // It has its place in the log all the same.
            Err(flaw) => Event::unreadable(raw, flaw),
        })
    }
}

fn missing(frame_type: &str, field: &str) -> Error {
    Error::decode(WHAT, format!("a `{frame_type}` frame without `{field}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_log_syncs_from_minus_one() {
        let frame = SessionFrame::from_json(r#"{"type":"sync","from_seq":-1}"#).unwrap();
        assert!(matches!(
            frame,
            SessionFrame::Sync {
                from_seq: Some(-1),
                through_seq: None
            }
        ));
    }

    #[test]
    fn a_durable_event_keeps_its_exact_bytes() {
        let raw = r#"{"type":"durable","seq":3,"event":{ "kind":"New","id":"e","x":[1, 2] }}"#;
        let SessionFrame::Durable { seq: 3, event } = SessionFrame::from_json(raw).unwrap() else {
            panic!("not durable");
        };
        assert_eq!(&event.raw()[..], br#"{ "kind":"New","id":"e","x":[1, 2] }"#);
    }

    #[test]
    fn an_unknown_frame_type_is_kept_whole() {
        let read = SessionFrame::from_json(r#"{"type":"hologram","z":1}"#).unwrap();
        assert!(
            matches!(read, SessionFrame::Unknown { ref frame_type, .. } if &**frame_type == "hologram")
        );
    }
}
