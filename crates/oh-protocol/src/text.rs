//! Text and JSON that share the bytes they came in. Knows nothing of what they mean.

use std::{borrow::Borrow, fmt, ops::Deref};

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use crate::{Error, Result, scan::Scanner, wire};

/// A piece of text out of an event: a `&str` to read, cheap to clone.
///
/// It shares the event's bytes where it can, so an event that has been decoded holds its text
/// once. Keeping a small text of a large event keeps the event's bytes: turn it into a
/// [`String`] where that matters.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(ByteString);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A piece of `whole`, sharing its bytes.
    pub(crate) fn piece(whole: &ByteString, piece: &str) -> Self {
        if piece.is_empty() {
            return Self::default();
        }
        Self(whole.slice_ref(piece))
    }

    /// The bytes it shares.
    pub(crate) fn shared(&self) -> &ByteString {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A JSON value kept as it was written, decoded when asked: for what has no shape of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Text);

impl Json {
    pub(crate) fn new(json: Text) -> Self {
        Self(json)
    }

    /// The bytes it shares.
    pub(crate) fn shared(&self) -> &ByteString {
        self.0.shared()
    }

    /// The JSON, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says, if it is text.
    pub fn as_text(&self) -> Option<Text> {
        wire::decode(self.shared()).ok()
    }

    /// A member of it, if it is an object that has it.
    pub fn get(&self, key: &str) -> Option<Self> {
        let mut scanner = Scanner::new(self.as_str()).ok()?;
        let mut more = scanner.object().ok()?;
        let mut found = None;
        while more {
            let matches = scanner.key().ok()? == key.as_bytes();
            let value = scanner.value().ok()?;
            if matches {
                found = Some(value);
            }
            more = scanner.more_members().ok()?;
        }
        found.map(|span| Self(Text::piece(self.shared(), span.of(self.as_str()))))
    }

    /// It with bytes of its own, so that keeping it does not keep what it came in.
    pub(crate) fn detached(&self) -> Self {
        Self(self.as_str().into())
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Decodes it.
    ///
    /// # Errors
    ///
    /// When it is not a `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| Error::decode("a value", error))
    }

    /// It as a tree of values; `null` if it nests more deeply than can be read.
    pub fn to_value(&self) -> Value {
        self.decode().unwrap_or_default()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self("null".into())
    }
}

impl From<ByteString> for Json {
    fn from(json: ByteString) -> Self {
        Self(Text(json))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_shares_the_bytes_of_the_whole() {
        let whole = ByteString::from("one two");
        let piece = Text::piece(&whole, &whole[4..]);
        assert_eq!(
            (piece.as_str(), piece.as_ptr()),
            ("two", whole[4..].as_ptr())
        );
    }

    #[test]
    fn json_is_kept_as_written() {
        let json: Json = serde_json::from_str("{ \"a\": 1.0 }").unwrap();
        assert_eq!(json.as_str(), "{ \"a\": 1.0 }");
        assert_eq!(serde_json::to_string(&json).unwrap(), "{ \"a\": 1.0 }");
        assert_eq!(json.to_value()["a"], 1.0);
        assert_eq!(json.get("a").unwrap().as_str(), "1.0");
        assert_eq!((json.get("b"), json.as_text()), (None, None));
        let text: Json = serde_json::from_str(r#""a\tb""#).unwrap();
        assert_eq!(text.as_text().unwrap(), "a\tb");
    }
}
