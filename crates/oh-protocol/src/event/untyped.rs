//! What has no typed body, kept as it came. Knows no kinds.

use std::fmt;

use crate::{
    Json, Text,
    scan::{Flaw, Span},
    wire::Reader,
};

/// A body of a kind that has no type here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Untyped {
    /// Its kind; empty if it has none.
    pub kind: Text,
    /// It, as it came.
    pub json: Json,
}

impl Untyped {
    pub(crate) fn new(reader: &Reader<'_>, kind: &str, span: Span) -> Self {
        Self {
            kind: kind.into(),
            json: Json::new(reader.piece(span)),
        }
    }
}

/// A body of a known kind, or a field of it, that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Malformed {
    /// Its kind.
    pub kind: Text,
    /// What was expected and where; never what stood there, which may be secret.
    pub reason: Box<str>,
    /// It, as it came.
    pub json: Json,
}

impl Malformed {
    pub(crate) fn new(body: Untyped, flaw: Flaw) -> Self {
        Self {
            kind: body.kind,
            reason: flaw.to_string().into(),
            json: body.json,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.kind, self.reason)
    }
}
