//! Items of pages and batches: one that cannot be decoded does not cost the others.

use bytestring::ByteString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Answer, Error, Json, Result};

/// An item of a page that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its place among all items that the server sent in this page, from 0.
    pub index: usize,
    /// What was expected and where; never what stood there, which may be secret.
    pub reason: Box<str>,
    /// The item, as it came.
    pub json: Json,
}

impl Unreadable {
    pub(super) fn new(index: usize, reason: impl ToString, json: &str) -> Self {
        Self {
            index,
            reason: reason.to_string().into(),
            json: ByteString::from(json).into(),
        }
    }
}

/// A page as the server writes it.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<Box<RawValue>>,
    pub(super) next_page_id: Option<String>,
}

/// The body of an answer whose items are decoded one by one. Bytes that are not UTF-8 cost only
/// themselves.
pub(super) fn items<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T> {
    serde_json::from_str(&String::from_utf8_lossy(&answer.body))
        .map_err(|error| Error::decode(what, error))
}
