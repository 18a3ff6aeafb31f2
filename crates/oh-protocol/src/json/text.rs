//! Strings and JSON values that share the bytes of a larger text.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    ops::Deref,
    sync::Arc,
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use super::{
    scan::{Span, short},
    whole::Whole,
};
use crate::{Error, Result, redact};

/// A string that shares the bytes of an event. Cheap to clone; dereferences to `&str`.
///
/// A decoded event stores its text only once, because its strings share the event's bytes where
/// possible. A small `Text` keeps all bytes of a large event in memory: convert it to a [`String`]
/// if that matters.
#[derive(Clone, Default)]
pub struct Text {
    /// `None` if the text is empty.
    whole: Option<Arc<Whole>>,
    /// The start position plus one, so that an `Option<Text>` is no larger than a `Text`.
    start: Start,
    /// The end position, or [`TO_THE_END`] if the shared text is too long for a 32-bit position.
    end: u32,
}

/// Marks a text that extends to the end of a shared text that is too long for 32-bit positions.
const TO_THE_END: u32 = u32::MAX;

/// A position plus one.
#[derive(Clone, Copy)]
struct Start(NonZeroU32);

impl Default for Start {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl Text {
    /// Returns the text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.whole {
            Some(whole) if self.end == TO_THE_END => whole.all(),
            Some(whole) => whole.piece(self.span()),
            None => "",
        }
    }

    /// Returns a part of `whole` that shares its bytes.
    #[inline]
    pub(crate) fn piece(whole: &Arc<Whole>, span: Span) -> Self {
        if span.start() == span.end() {
            return Self::default();
        }
        Self {
            whole: Some(Arc::clone(whole)),
            start: Start(NonZeroU32::MIN.saturating_add(short(span.start()))),
            end: short(span.end()),
        }
    }

    /// Returns the shared text and the position of this text in it.
    pub(crate) fn located(&self) -> (Arc<Whole>, Span) {
        match &self.whole {
            Some(whole) => (Arc::clone(whole), self.span()),
            None => (Arc::new(Whole::Own("".into())), Span::new(0, 0)),
        }
    }

    /// Returns a text that shares the bytes of a received message.
    pub(crate) fn came(text: ByteString) -> Self {
        let length = text.len();
        Self::all(Whole::Came(text), length)
    }

    fn all(whole: Whole, length: usize) -> Self {
        let whole = Arc::new(whole);
        match u32::try_from(length) {
            Ok(length) if length < TO_THE_END => Self::piece(&whole, Span::new(0, length as usize)),
            _ => Self {
                whole: Some(whole),
                start: Start::default(),
                end: TO_THE_END,
            },
        }
    }

    fn span(&self) -> Span {
        Span::new(self.start.0.get() as usize - 1, self.end as usize)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::all(Whole::Own(text.into()), text.len())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let length = text.len();
        Self::all(Whole::Own(text.into()), length)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
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

/// Converts bytes to text, or returns an error if they are empty or not valid UTF-8.
pub(crate) fn text(raw: Bytes, what: &str) -> Result<ByteString> {
    if raw.is_empty() {
        return Err(Error::decode(what, "the input is empty"));
    }
    raw.try_into()
        .map_err(|error: std::str::Utf8Error| Error::decode(what, error))
}

/// A JSON value in its original form, decoded on demand. Used for values without a fixed type.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Text);

impl Json {
    pub(crate) fn new(json: Text) -> Self {
        Self(json)
    }

    /// Returns the text of the value.
    pub(crate) fn text(&self) -> &Text {
        &self.0
    }

    /// Returns the original JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a copy with its own bytes, so that it does not keep the original bytes in memory.
    pub(crate) fn detached(&self) -> Self {
        match self.0.whole.as_deref() {
            Some(Whole::Came(_)) => Self(self.as_str().into()),
            _ => self.clone(),
        }
    }

    /// Returns whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is not a valid `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| Error::decode("a value", error))
    }

    /// Returns the value as a tree. Returns `null` if it is nested too deeply to be decoded.
    pub fn to_value(&self) -> Value {
        self.decode().unwrap_or_default()
    }
}

/// Copies fields out of the message that contains them, so that they do not keep it in memory. The
/// copies share one allocation, because most fields are smaller than the overhead of an allocation.
pub(crate) fn detached(fields: &[(Text, Json)]) -> Vec<(Text, Json)> {
    let texts = fields.iter().flat_map(|(name, Json(value))| [name, value]);
    let own: String = texts.map(Text::as_str).collect();
    let (whole, mut at) = (Arc::new(Whole::Own(own.into())), 0);
    let mut piece = |text: &Text| {
        let start = at;
        at += text.len();
        Text::piece(&whole, Span::new(start, at))
    };
    let fields = fields.iter();
    fields
        .map(|(name, Json(value))| (piece(name), Json(piece(value))))
        .collect()
}

impl Default for Json {
    fn default() -> Self {
        Self("null".into())
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

/// Shows the JSON without values that are secret by name or shape, because the server returns the
/// headers of a model in plain text. If the JSON cannot be parsed, shows only its size.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(value) = self.decode::<Value>() else {
            return write!(f, "{{… {} bytes}}", self.0.len());
        };
        let mut shown = value.clone();
        redact::json(&mut shown);
        match shown == value {
            true => f.write_str(&self.0),
            false => write!(f, "{shown}"),
        }
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
        let piece = Text::piece(&Arc::new(Whole::Came(whole.clone())), Span::new(4, 7));
        assert_eq!(
            (piece.as_str(), piece.as_ptr()),
            ("two", whole[4..].as_ptr())
        );
    }

    #[test]
    fn a_very_long_text_is_complete() {
        // Only the stated length exceeds 32 bits; the text itself can be short.
        let text = Text::all(Whole::Own("long".into()), 1 << 32);
        assert_eq!((text.as_str(), text.len()), ("long", 4));
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

    #[test]
    fn secrets_in_json_are_not_in_debug_output() {
        for (json, shown) in [
            (r#"{ "b": 1, "a": 2 }"#, r#"{ "b": 1, "a": 2 }"#),
            (
                r#"{"extra_headers":{"x":"canary"}}"#,
                r#"{"extra_headers":{"x":"<redacted>"}}"#,
            ),
            (r#"{"pwd":"canary"}"#, r#"{"pwd":"<redacted>"}"#),
            (r#""https://h?t=canary""#, r#""https://h?<redacted>""#),
        ] {
            assert_eq!(format!("{:?}", Json(json.into())), shown);
        }
        assert_eq!(format!("{:?}", Json("[canary".into())), "{… 7 bytes}");
    }
}
