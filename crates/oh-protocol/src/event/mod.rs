//! Events: the original JSON, with typed access to its content.

mod action;
mod display;
mod header;
mod message;
mod observation;
mod payload;
mod risk;
mod update;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{
    Error, Json, Result, Text,
    json::{open_enum::open_enum, scan::Flaw, text::text},
};

pub(crate) use header::{Header, Seen};

pub use action::*;
pub use message::*;
pub use observation::*;
pub use payload::*;
pub use update::{ConversationStateUpdateEvent, StateChange};

pub use crate::json::untyped::{Malformed, Untyped};

open_enum! {
    /// The party that created an event.
    Source {
        /// The agent.
        Agent = "agent",
        /// The user.
        User = "user",
        /// The environment: tools, state, the server.
        Environment = "environment",
        /// A hook.
        Hook = "hook",
    }
}

/// An entry of a conversation's log, with its original JSON. Cheap to clone.
///
/// ```
/// use oh_protocol::Event;
///
/// let json = r#"{"id":"1","timestamp":"2026-01-02T03:04:05","source":"agent","kind":"New"}"#;
/// let event = Event::from_json(json)?;
/// assert_eq!((event.id(), event.kind()), ("1", "New"));
/// println!("{event}");
/// # Ok::<(), oh_protocol::Error>(())
/// ```
#[derive(Clone)]
pub struct Event(Arc<Inner>);

struct Inner {
    raw: ByteString,
    header: Header,
    payload: OnceLock<Decoded>,
}

/// The decoded payload of an event, and the optional fields that could not be decoded (usually
/// none).
struct Decoded {
    payload: Payload,
    flaws: Option<Box<[Malformed]>>,
}

impl Event {
    /// Decodes the header of an event and keeps its bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a single JSON object in UTF-8 with a `kind` and an
    /// `id`, or are nested more than 512 levels deep. If an event has the server's usual layout,
    /// only its beginning and end are parsed. Invalid JSON in between makes the
    /// [`payload`](Self::payload) [`Malformed`](Payload::Malformed).
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = text(raw.into(), "an event")?;
        let header = Header::read(&raw).map_err(|flaw| Error::decode("an event", flaw))?;
        Ok(Self::new(raw, header))
    }

    /// Creates an event from any bytes, to keep the position of invalid data in a log.
    ///
    /// If [`from_json`](Self::from_json) would fail, the event has the parts of the header that
    /// could be found, and [`Payload::Malformed`] with the reason. A missing [`id`](Self::id) is
    /// derived from the bytes. Invalid UTF-8 is replaced with U+FFFD.
    pub fn from_json_lossy(raw: impl Into<Bytes>) -> Self {
        let raw = raw.into();
        let raw = ByteString::try_from(raw.clone())
            .unwrap_or_else(|_| String::from_utf8_lossy(&raw).into_owned().into());
        Self::kept(raw).0
    }

    /// Creates an event from any text. Also returns the error if the text is not a valid event.
    pub(crate) fn kept(raw: ByteString) -> (Self, Option<Flaw>) {
        match Header::read(&raw) {
            Ok(header) => (Self::new(raw, header), None),
            Err(flaw) => (Self::unreadable(raw, flaw), Some(flaw)),
        }
    }

    pub(crate) fn unreadable(raw: ByteString, flaw: Flaw) -> Self {
        let header = Header::of_unreadable(&raw);
        let malformed = Malformed {
            kind: header.kind(&raw).into(),
            reason: flaw.to_string().into(),
            json: Json::new(Text::came(raw.clone())),
        };
        Self(Arc::new(Inner {
            header,
            raw,
            payload: Decoded {
                payload: Payload::Malformed(Box::new(malformed)),
                flaws: None,
            }
            .into(),
        }))
    }

    pub(crate) fn new(raw: ByteString, header: Header) -> Self {
        Self(Arc::new(Inner {
            raw,
            header,
            payload: OnceLock::new(),
        }))
    }

    /// Returns the kind, such as `ActionEvent`: the name of the server's class.
    pub fn kind(&self) -> &str {
        self.0.header.kind(&self.0.raw)
    }

    /// Returns the id. Ids are unique only within a conversation, because a fork copies them.
    pub fn id(&self) -> &str {
        self.0.header.id(&self.0.raw)
    }

    /// Returns the timestamp as the server sent it: the server's local time, without an offset.
    /// Timestamps are not monotonic.
    pub fn timestamp(&self) -> &str {
        self.0.header.timestamp(&self.0.raw)
    }

    /// Returns who created the event. Returns an empty [`Source::Other`] if the field is missing.
    pub fn source(&self) -> &Source {
        self.0.header.source()
    }

    /// Returns the id of the previous event in the branch. `None` for the first event.
    pub fn parent_id(&self) -> Option<&str> {
        self.0.header.parent_id(&self.0.raw)
    }

    /// Returns the payload, typed by the kind. Decoded on first access, then cached.
    pub fn payload(&self) -> &Payload {
        &self.decoded().payload
    }

    /// Decodes the payload without caching it, for events that are kept for a long time but
    /// inspected only once. If [`payload`](Self::payload) was called before, returns a copy of its
    /// result.
    pub fn decode(&self) -> Payload {
        match self.0.payload.get() {
            Some(decoded) => decoded.payload.clone(),
            None => Payload::read(self.kind(), &self.0.raw, self.0.header.body()).0,
        }
    }

    /// Returns the part of a known kind that could not be decoded: the body, or the action,
    /// observation or state change in it. If there is no such part, returns the first of the
    /// [`flaws`](Self::flaws), if any. Decodes the event.
    pub fn malformed(&self) -> Option<&Malformed> {
        self.payload().malformed().or_else(|| self.flaws().first())
    }

    /// Returns the optional fields that were skipped because their values could not be decoded, in
    /// the order of the event. The reason of each entry names the field, and the entry keeps the
    /// original value. The rest of the [`payload`](Self::payload) is typed as usual. Decodes the
    /// event.
    pub fn flaws(&self) -> &[Malformed] {
        self.decoded().flaws.as_deref().unwrap_or_default()
    }

    fn decoded(&self) -> &Decoded {
        self.0.payload.get_or_init(|| {
            let (payload, flaws) = Payload::read(self.kind(), &self.0.raw, self.0.header.body());
            Decoded {
                payload,
                flaws: (!flaws.is_empty()).then(|| flaws.into()),
            }
        })
    }

    /// Returns the original bytes.
    pub fn raw(&self) -> &Bytes {
        self.0.raw.as_bytes()
    }

    /// Returns the original JSON.
    pub fn as_json(&self) -> &str {
        &self.0.raw
    }
}

/// Serializes the original bytes, also inside a larger value. Fails if the bytes are not valid
/// JSON: decoding may have checked only the beginning and the end of the event.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.as_json())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// Keeps the original bytes. Requires a text deserializer, such as `serde_json::from_str`.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let raw = Bytes::from(Box::<str>::from(raw).into_string());
        Self::from_json(raw).map_err(serde::de::Error::custom)
    }
}

/// Events are equal if their bytes are.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.0.raw == other.0.raw
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("bytes", &self.0.raw.len())
            .finish_non_exhaustive()
    }
}
