//! The frames of the session socket (`/sockets/session/{conversation_id}`).

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    Error, Event, Json, Result, Text,
    event::Seen,
    json::{
        scan::{Flaw, Quoted, Scanner, Span, Stop},
        text::text,
        wire::{self, Wire},
    },
};

/// A message of the session socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionFrame {
    /// The first frame, with the range of the replay.
    Sync {
        /// The `seq` after which the replay starts, as requested; −1 for the whole log.
        from_seq: Option<i64>,
        /// The last `seq` of the replay. `None` if the log is empty.
        through_seq: Option<i64>,
        /// The whole frame, including fields that this version does not support.
        raw: Bytes,
    },
    /// An event in the log, with its position.
    Durable {
        /// The index of the event in the log.
        seq: u64,
        /// The event.
        event: Event,
    },
    /// An event that is not stored in the log, such as a full state.
    Transient {
        /// The event.
        event: Event,
    },
    /// The start of a streamed item.
    ItemStarted {
        /// The id of the event that will end the item.
        item_id: Box<str>,
        /// The number of the attempt. A higher number means a retry, which makes all earlier data
        /// invalid.
        attempt: u64,
        /// The last `seq` before the item; −1 if there is none.
        anchor_seq: Option<i64>,
        /// The whole frame, including fields that this version does not support.
        raw: Bytes,
    },
    /// A part of a streamed item.
    Delta {
        /// The id of the event that will end the item.
        item_id: Box<str>,
        /// The number of the attempt.
        attempt: u64,
        /// The position of this part within the attempt.
        order: u64,
        /// The type of content: `text` or `reasoning`.
        kind: Box<str>,
        /// The content of this part.
        content: Box<str>,
        /// The provider's id for the response that contains this part. Sent by servers from 1.58
        /// on.
        chunk_id: Option<Box<str>>,
        /// The index of the choice, if there are several. Sent by servers from 1.58 on.
        choice_index: Option<i64>,
        /// The whole frame, including fields that this version does not support.
        raw: Bytes,
    },
    /// The end of a streamed item that did not become an event.
    ItemAborted {
        /// The id of the item.
        item_id: Box<str>,
        /// The attempt that was aborted.
        attempt: u64,
        /// The reason.
        reason: Box<str>,
        /// The whole frame, including fields that this version does not support.
        raw: Bytes,
    },
    /// The server's rejection of data or of an action from the client.
    Error {
        /// The error code.
        code: Box<str>,
        /// The explanation.
        detail: Box<str>,
    },
    /// A frame type that this version does not support.
    Unknown {
        /// The value of `type`.
        frame_type: Box<str>,
        /// The whole frame.
        raw: Bytes,
    },
}

/// The result of one pass over a frame.
#[derive(Default)]
struct Found {
    frame_type: Option<Quoted>,
    seq: Option<Span>,
    event: Option<(Span, Seen)>,
}

const WHAT: &str = "a session frame";

impl SessionFrame {
    /// Decodes a text message of the session socket.
    ///
    /// Only the fields of the frame's own type are decoded, because a newer server may use the same
    /// name for a different purpose in another frame type. A field whose value has an unexpected
    /// JSON type is treated as absent.
    ///
    /// # Errors
    ///
    /// Returns an error if `raw` is not a JSON object with a `type`. Also returns an error if a
    /// `durable` or `transient` frame has no event, a `durable` frame has no `seq`, or a frame of
    /// an item has no `item_id`. An invalid event is kept as [`Event::from_json_lossy`] would
    /// return it.
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = text(raw.into(), WHAT)?;
        let found = Found::read(&raw).map_err(|flaw| Error::decode(WHAT, flaw))?;
        let frame_type = found.frame_type.map(|quoted| quoted.says(&raw));
        let frame_type = &*frame_type.ok_or_else(|| Error::decode(WHAT, "missing field `type`"))?;
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

/// The fields of a frame without an event, as JSON.
struct Small(BTreeMap<Text, Json>);

impl Small {
    fn read(raw: ByteString) -> Result<Self> {
        let fields = wire::decode(&Text::came(raw)).map_err(|flaw| Error::decode(WHAT, flaw))?;
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

    /// Returns a string as text, any other value as JSON, and an empty text for null.
    fn words(&self, name: &str) -> Box<str> {
        match (self.typed::<Text>(name), self.0.get(name)) {
            (Some(text), _) => text.as_str().into(),
            (None, Some(other)) if !other.is_null() => other.as_str().into(),
            _ => Box::default(),
        }
    }
}

impl Found {
    /// Scans the frame and the header of its event in one pass.
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
            // An invalid event still has its position in the log.
            Err(flaw) => Event::unreadable(raw, flaw),
        })
    }
}

fn missing(frame_type: &str, field: &str) -> Error {
    Error::decode(
        WHAT,
        format!("missing field `{field}` in a `{frame_type}` frame"),
    )
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
    fn a_frame_decodes_its_fields_and_keeps_the_rest() {
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
    fn an_unknown_frame_type_is_kept_unchanged() {
        let read = SessionFrame::from_json(r#"{"type":"hologram","z":1}"#).unwrap();
        let SessionFrame::Unknown { frame_type, .. } = read else {
            panic!("{read:?}");
        };
        assert_eq!(&*frame_type, "hologram");
    }
}
