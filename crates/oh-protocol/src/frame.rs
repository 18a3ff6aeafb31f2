//! Frames of the session socket (`/sockets/session/{conversation_id}`).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, Event, Result};

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

// Read alone first: a future frame type may reuse a field's name with another shape, and must
// still come through as `Unknown` rather than fail.
#[derive(Deserialize)]
struct Tag {
    r#type: Box<str>,
}

const KNOWN: [&str; 7] = [
    "sync",
    "durable",
    "transient",
    "item_started",
    "delta",
    "item_aborted",
    "error",
];

#[derive(Deserialize)]
struct Wire<'a> {
    r#type: Box<str>,
    from_seq: Option<i64>,
    through_seq: Option<i64>,
    seq: Option<u64>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    item_id: Option<Box<str>>,
    attempt: Option<u64>,
    anchor_seq: Option<i64>,
    order: Option<u64>,
    kind: Option<Box<str>>,
    content: Option<Box<str>>,
    reason: Option<Box<str>>,
    code: Option<Box<str>>,
    detail: Option<Box<str>>,
}

impl SessionFrame {
    /// Reads a text message of the session socket.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object with a `type`, or lacks what its type promises.
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw: Bytes = raw.into();
        let tag: Tag =
            serde_json::from_slice(&raw).map_err(|error| Error::decode("session frame", error))?;
        if !KNOWN.contains(&&*tag.r#type) {
            return Ok(Self::Unknown {
                frame_type: tag.r#type,
                raw,
            });
        }
        let wire: Wire<'_> =
            serde_json::from_slice(&raw).map_err(|error| Error::decode("session frame", error))?;
        let missing = |field: &str| {
            Error::decode(
                "session frame",
                format!("a `{}` frame without `{field}`", wire.r#type),
            )
        };
        let event = || -> Result<Event> {
            let event = wire.event.ok_or_else(|| missing("event"))?;
            Event::from_json(raw.slice_ref(event.get().as_bytes()))
        };
        Ok(match &*wire.r#type {
            "sync" => Self::Sync {
                from_seq: wire.from_seq,
                through_seq: wire.through_seq,
            },
            "durable" => Self::Durable {
                seq: wire.seq.ok_or_else(|| missing("seq"))?,
                event: event()?,
            },
            "transient" => Self::Transient { event: event()? },
            "item_started" => Self::ItemStarted {
                item_id: wire.item_id.ok_or_else(|| missing("item_id"))?,
                attempt: wire.attempt.unwrap_or_default(),
                anchor_seq: wire.anchor_seq,
            },
            "delta" => Self::Delta {
                item_id: wire.item_id.ok_or_else(|| missing("item_id"))?,
                attempt: wire.attempt.unwrap_or_default(),
                order: wire.order.unwrap_or_default(),
                kind: wire.kind.unwrap_or_else(|| "text".into()),
                content: wire.content.unwrap_or_default(),
            },
            "item_aborted" => Self::ItemAborted {
                item_id: wire.item_id.ok_or_else(|| missing("item_id"))?,
                attempt: wire.attempt.unwrap_or_default(),
                reason: wire.reason.unwrap_or_default(),
            },
            "error" => Self::Error {
                code: wire.code.unwrap_or_default(),
                detail: wire.detail.unwrap_or_default(),
            },
            _ => Self::Unknown {
                frame_type: wire.r#type,
                raw,
            },
        })
    }
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
