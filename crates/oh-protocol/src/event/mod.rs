//! Events: kept as they came, typed on top.

mod action;
mod display;
mod header;
mod message;
mod observation;
mod payload;
mod risk;
mod untyped;
mod update;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Error, Result, open_enum::open_enum, scan::Flaw};

pub(crate) use header::{Header, Seen};

pub use action::*;
pub use message::*;
pub use observation::*;
pub use payload::*;
pub use untyped::{Malformed, Untyped};
pub use update::{ConversationStateUpdateEvent, StateChange};

open_enum! {
    /// Who caused an event.
    Source {
        /// The agent.
        Agent = "agent",
        /// The user.
        User = "user",
        /// The surroundings: tools, state, the server.
        Environment = "environment",
        /// A hook.
        Hook = "hook",
    }
}

/// One entry of a conversation's log, with the exact JSON it came as. Cheap to clone.
#[derive(Clone)]
pub struct Event(Arc<Inner>);

struct Inner {
    raw: ByteString,
    header: Header,
    payload: OnceLock<Decoded>,
}

/// What an event says, and which optional fields of it could not be decoded. Most often none.
struct Decoded {
    payload: Payload,
    flaws: Option<Box<[Malformed]>>,
}

impl Event {
    /// Reads the header of an event and keeps its bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are not one JSON object in UTF-8 with a `kind` and an `id`, or nest more
    /// than 512 deep. Of an event that is laid out as the server does, only both ends are looked
    /// at: what is wrong in between makes its [`payload`](Self::payload)
    /// [`Malformed`](Payload::Malformed).
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = text(raw.into(), "an event")?;
        let header = Header::read(&raw).map_err(|flaw| Error::decode("an event", flaw))?;
        Ok(Self::new(raw, header))
    }

    /// Keeps any bytes as an event, so that it does not cost its place in a log when they are not
    /// one.
    ///
    /// Where [`from_json`](Self::from_json) fails, the event has as much of the header as could be
    /// found, an [`id`](Self::id) made of its bytes if it has none, and
    /// [`Payload::Malformed`] with the reason. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub fn from_json_lossy(raw: impl Into<Bytes>) -> Self {
        let raw = raw.into();
        let raw = ByteString::try_from(raw.clone())
            .unwrap_or_else(|_| String::from_utf8_lossy(&raw).into_owned().into());
        Self::kept(raw).0
    }

    /// The event, and what makes it unreadable, if anything does.
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
            json: raw.clone().into(),
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

    /// The kind, such as `ActionEvent`: the name of the server's class.
    pub fn kind(&self) -> &str {
        self.0.header.kind(&self.0.raw)
    }

    /// The id, unique within its conversation only (a fork copies ids).
    pub fn id(&self) -> &str {
        self.0.header.id(&self.0.raw)
    }

    /// The server's local time as it wrote it, without an offset. Not monotonic.
    pub fn timestamp(&self) -> &str {
        self.0.header.timestamp(&self.0.raw)
    }

    /// Who caused it. [`Source::Other`] with an empty text where the event does not say.
    pub fn source(&self) -> &Source {
        self.0.header.source()
    }

    /// The event before it in its branch; absent on the first.
    pub fn parent_id(&self) -> Option<&str> {
        self.0.header.parent_id(&self.0.raw)
    }

    /// What it says, typed by its kind. Decoded when first asked for, then kept.
    pub fn payload(&self) -> &Payload {
        &self.decoded().payload
    }

    /// What it says, decoded for the caller alone: for an event that is held for long and looked
    /// at once. Where [`payload`](Self::payload) has been asked for, a copy of it.
    pub fn decode(&self) -> Payload {
        match self.0.payload.get() {
            Some(decoded) => decoded.payload.clone(),
            None => Payload::read(self.kind(), &self.0.raw, self.0.header.body()).0,
        }
    }

    /// What could not be decoded in it, though its kind is known: the body, the action, the
    /// observation or the change of the state in it, or else the first of its
    /// [`flaws`](Self::flaws). Decodes the event.
    pub fn malformed(&self) -> Option<&Malformed> {
        self.payload().malformed().or_else(|| self.flaws().first())
    }

    /// The optional fields that were left out because their values could not be decoded, in the
    /// order of the event; each with its name in the reason and its value as it came. The rest of
    /// the [`payload`](Self::payload) is typed all the same. Decodes the event.
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

    /// The bytes it came as.
    pub fn raw(&self) -> &Bytes {
        self.0.raw.as_bytes()
    }

    /// The JSON it came as.
    pub fn as_json(&self) -> &str {
        &self.0.raw
    }
}

/// Bytes as the text they must be.
pub(crate) fn text(raw: Bytes, what: &str) -> Result<ByteString> {
    if raw.is_empty() {
        return Err(Error::decode(what, "it is empty"));
    }
    raw.try_into()
        .map_err(|error: std::str::Utf8Error| Error::decode(what, error))
}

/// Gives the bytes it came as, also as a part of something larger. Fails if they are not JSON: of an
/// event only both ends are looked at when it is read.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.as_json())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// Keeps the bytes it is read from, which must be text (`serde_json::from_str` and its like).
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let raw = Bytes::from(Box::<str>::from(raw).into_string());
        Self::from_json(raw).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("bytes", &self.0.raw.len())
            .finish_non_exhaustive()
    }
}
