//! Bodies without a type, with their original JSON.

use std::fmt;

use serde::Serialize;

use super::{
    scan::Flaw,
    text::{Json, Text},
};

/// A body of a kind that this version does not support.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Untyped {
    /// The kind. Empty if the body has none.
    pub kind: Text,
    /// The original JSON.
    pub json: Json,
}

impl Untyped {
    pub(crate) fn new(kind: &str, json: Text) -> Self {
        Self {
            kind: kind.into(),
            json: Json::new(json),
        }
    }
}

/// A typed body with its kind, as the server writes it.
#[derive(Serialize)]
pub(crate) struct Tagged<'a, T> {
    #[serde(flatten)]
    pub(crate) body: &'a T,
    pub(crate) kind: &'static str,
}

/// A body of a known kind, or a field in it, that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Malformed {
    /// The kind.
    pub kind: Text,
    /// The expected type and the position. Never contains the actual value, which may be secret.
    pub reason: Box<str>,
    /// The original JSON.
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
