//! Events: kept as they came, typed on top.

mod display;
pub mod message;
mod payload;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::Deserialize;

use crate::{Error, Result, open_enum::open_enum};

pub use payload::*;

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
    raw: Bytes,
    header: Header,
    payload: OnceLock<Box<Payload>>,
}

#[derive(Deserialize)]
struct Header {
    kind: Box<str>,
    id: Box<str>,
    // Only `kind` and `id` make an event; a null in the rest must not lose it.
    #[serde(default, deserialize_with = "Header::text_or_null")]
    timestamp: Box<str>,
    #[serde(
        default = "Header::no_source",
        deserialize_with = "Header::source_or_null"
    )]
    source: Source,
    #[serde(default)]
    parent_id: Option<Box<str>>,
}

impl Header {
    fn no_source() -> Source {
        Source::Other("".into())
    }

    fn text_or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Box<str>, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or_default())
    }

    fn source_or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Source, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or_else(Self::no_source))
    }
}

impl Event {
    /// Reads the header of an event and keeps its bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are not a JSON object with a `kind` and an `id`.
    pub fn from_json(raw: impl Into<Bytes>) -> Result<Self> {
        let raw = raw.into();
        let header = serde_json::from_slice(&raw).map_err(|error| Error::decode("event", error))?;
        Ok(Self(Arc::new(Inner {
            raw,
            header,
            payload: OnceLock::new(),
        })))
    }

    /// The kind, such as `ActionEvent`: the name of the server's class.
    pub fn kind(&self) -> &str {
        &self.0.header.kind
    }

    /// The id, unique within its conversation only (a fork copies ids).
    pub fn id(&self) -> &str {
        &self.0.header.id
    }

    /// The server's local time as it wrote it, without an offset. Not monotonic.
    pub fn timestamp(&self) -> &str {
        &self.0.header.timestamp
    }

    /// Who caused it.
    pub fn source(&self) -> &Source {
        &self.0.header.source
    }

    /// The event before it in its branch; absent on the first.
    pub fn parent_id(&self) -> Option<&str> {
        self.0.header.parent_id.as_deref()
    }

    /// What it says, typed by its kind. Decoded when first asked for, then kept.
    pub fn payload(&self) -> &Payload {
        self.0
            .payload
            .get_or_init(|| Box::new(Payload::read(self.kind(), &self.0.raw)))
    }

    /// The bytes it came as.
    pub fn raw(&self) -> &Bytes {
        &self.0.raw
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
