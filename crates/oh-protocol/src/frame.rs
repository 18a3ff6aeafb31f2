//! Frames of the session socket (`/sockets/session/{conversation_id}`).

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    Error, Event, Json, Result, Text,
    event::{Seen, text},
    scan::{Flaw, Quoted, Scanner, Span, Stop},
    wire::{self, Wire},
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
        /// The whole frame, with what this version does not know of it.
        raw: Bytes,
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
        /// The whole frame, with what this version does not know of it.
        raw: Bytes,
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
        /// The provider's id of the answer that the piece is from. Servers from 1.58 on.
        chunk_id: Option<Box<str>>,
        /// Which of several answers the piece is from. Servers from 1.58 on.
        choice_index: Option<i64>,
        /// The whole frame, with what this version does not know of it.
        raw: Bytes,
    },
    /// A streamed item was given up.
    ItemAborted {
        /// Id of the item.
        item_id: Box<str>,
        /// The attempt that ended.
        attempt: u64,
        /// Why.
        reason: Box<str>,
        /// The whole frame, with what this version does not know of it.
        raw: Bytes,
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

/// What one pass over a frame finds.
#[derive(Default)]
struct Found {
    frame_type: Option<Quoted>,
    seq: Option<Span>,
    event: Option<(Span, Seen)>,
}

const WHAT: &str = "a session frame";

impl SessionFrame {
    /// Reads a text message of the session socket.
    ///
    /// Each type reads its own fields only, and one of another shape counts as absent: a newer
    /// server may use a name of another type for something else.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object with a `type`, when a `durable` or `transient` frame has no
    /// event, a `durable` one no `seq`, or the frame of an item no `item_id`. What is no event
    /// stands in its place as [`Event::from_json_lossy`] makes it.
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = text(raw.into(), WHAT)?;
        let found = Found::read(&raw).map_err(|flaw| Error::decode(WHAT, flaw))?;
        let frame_type = found.frame_type.map(|quoted| quoted.says(&raw));
        let frame_type = &*frame_type.ok_or_else(|| Error::decode(WHAT, "no `type`"))?;
        match frame_type {
            "durable" => {
                let seq = found.seq.and_then(|span| span.of(&raw).parse().ok());
                let seq = seq.ok_or_else(|| missing(frame_type, "seq"))?;
                let event = found.event(frame_type, &raw)?;
                Ok(Self::Durable { seq, event })
            }
            "transient" => {
                let event = found.event(frame_type, &raw)?;
                Ok(Self::Transient { event })
            }
            "sync" | "item_started" | "delta" | "item_aborted" | "error" => Self::small(
                frame_type,
                &Small::read(raw.clone())?,
                raw.clone().into_bytes(),
            ),
            _ => Ok(Self::Unknown {
                frame_type: frame_type.into(),
                raw: raw.clone().into_bytes(),
            }),
        }
    }

    fn small(frame_type: &str, small: &Small, raw: Bytes) -> Result<Self> {
        let item_id = || match small.words("item_id") {
            id if id.is_empty() => Err(missing(frame_type, "item_id")),
            id => Ok(id),
        };
        Ok(match frame_type {
            "sync" => Self::Sync {
                from_seq: small.number("from_seq"),
                through_seq: small.number("through_seq"),
                raw,
            },
            "item_started" => Self::ItemStarted {
                item_id: item_id()?,
                attempt: small.count("attempt"),
                anchor_seq: small.number("anchor_seq"),
                raw,
            },
            "delta" => Self::Delta {
                item_id: item_id()?,
                attempt: small.count("attempt"),
                order: small.count("order"),
                kind: match small.words("kind") {
                    kind if kind.is_empty() => "text".into(),
                    kind => kind,
                },
                content: small.words("content"),
                chunk_id: Some(small.words("chunk_id")).filter(|id| !id.is_empty()),
                choice_index: small.number("choice_index"),
                raw,
            },
            "item_aborted" => Self::ItemAborted {
                item_id: item_id()?,
                attempt: small.count("attempt"),
                reason: small.words("reason"),
                raw,
            },
            _ => Self::Error {
                code: small.words("code"),
                detail: small.words("detail"),
            },
        })
    }
}

/// The fields of a frame without an event, as they came.
struct Small(BTreeMap<Text, Json>);

impl Small {
    fn read(raw: ByteString) -> Result<Self> {
        let fields = wire::decode(&raw.into()).map_err(|flaw| Error::decode(WHAT, flaw))?;
        Ok(Self(fields))
    }

    fn typed<T: Wire>(&self, name: &str) -> Option<T> {
        wire::decode(self.0.get(name)?.text()).ok()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.typed(name)
    }

    fn count(&self, name: &str) -> u64 {
        self.typed(name).unwrap_or_default()
    }

    /// A text; anything else as it is written, and nothing for null.
    fn words(&self, name: &str) -> Box<str> {
        match (self.typed::<Text>(name), self.0.get(name)) {
            (Some(text), _) => text.as_str().into(),
            (None, Some(other)) if !other.is_null() => other.as_str().into(),
            _ => Box::default(),
        }
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
            match &*scanner.key()?.says(scanner.text()) {
                "type" => found.frame_type = scanner.string_or_other()?,
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

    fn event(&self, frame_type: &str, frame: &ByteString) -> Result<Event> {
        let (span, seen) = self.event.ok_or_else(|| missing(frame_type, "event"))?;
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
                through_seq: None,
                ..
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
    fn a_frame_reads_its_own_fields_and_keeps_the_rest() {
        let read = |raw: &str| SessionFrame::from_json(raw.to_owned()).unwrap();
        for raw in [
            r#"{"type":"sync","from_seq":1,"through_seq":2,"kind":7,"order":-1,"code":null}"#,
            r#"{"\u0074ype":"sy\u006ec","from_seq":1,"through_s\u0065q":2,"event":[1],"seq":"x"}"#,
        ] {
            let SessionFrame::Sync {
                from_seq: Some(1),
                through_seq: Some(2),
                raw: kept,
            } = read(raw)
            else {
                panic!("{raw}");
            };
            assert_eq!(kept, raw);
        }
        let delta = r#"{"type":"delta","item_id":"i","attempt":-1,"order":"x","kind":null,
            "content":"\ud800a","chunk_id":"c","choice_index":1,"new":[2]}"#;
        let SessionFrame::Delta {
            attempt: 0,
            order: 0,
            kind,
            content,
            chunk_id,
            choice_index,
            raw,
            ..
        } = read(delta)
        else {
            panic!("{delta}");
        };
        assert_eq!((&*kind, &*content), ("text", "\u{fffd}a"));
        assert_eq!((chunk_id.as_deref(), choice_index), (Some("c"), Some(1)));
        assert_eq!(raw, delta);
        let SessionFrame::Error { code, detail } =
            read(r#"{"type":"error","code":429,"detail":{"a":1}}"#)
        else {
            panic!("no error");
        };
        assert_eq!((&*code, &*detail), ("429", r#"{"a":1}"#));
        for raw in [
            r#"{"type":"delta"}"#,
            r#"{"type":"item_started","item_id":null}"#,
            r#"{"type":7}"#,
        ] {
            assert!(SessionFrame::from_json(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn an_unknown_frame_type_is_kept_whole() {
        let read = SessionFrame::from_json(r#"{"type":"hologram","z":1}"#).unwrap();
        assert!(
            matches!(read, SessionFrame::Unknown { ref frame_type, .. } if &**frame_type == "hologram")
        );
    }
}
