//! Items of pages and batches. An item that cannot be decoded does not affect the others.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Answer, Error, Json, Result};

/// An item of a page that could not be decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unreadable {
    /// The index in all items of the server's page, starting at 0.
    pub index: usize,
    /// The expected type and the position. Never contains the actual value, which may be secret.
    pub reason: Box<str>,
    /// The original JSON of the item.
    pub json: Json,
}

impl Unreadable {
    pub(super) fn new(index: usize, reason: impl ToString, json: &str) -> Self {
        Self {
            index,
            reason: reason.to_string().into(),
            json: Json::new(json.into()),
        }
    }
}

/// A page in the server's form.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<Box<RawValue>>,
    pub(super) next_page_id: Option<String>,
}

/// Decodes a response body into items that are decoded individually. Invalid UTF-8 affects only the
/// item that contains it.
pub(super) fn items<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T> {
    serde_json::from_str(&String::from_utf8_lossy(&answer.body))
        .map_err(|error| Error::decode(what, error))
}
