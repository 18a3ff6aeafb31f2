//! Decodes typed bodies from the server in one pass, with strings that share the input's bytes.
//!
//! The macros in [`declare`](super::declare) implement [`Wire`] for types and enums. Unknown data
//! is skipped; [`Event`](crate::Event) keeps the original bytes.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytestring::ByteString;
use memchr::memmem::Finder;
use serde_json::Value;

use super::{
    scan::{Flaw, Quoted, Scanner, Span, Stop},
    text::{Json, Text},
    untyped::Malformed,
    whole::Whole,
};

/// A type that can be decoded.
pub(crate) trait Wire: Sized {
    /// Decodes a value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop>;
}

/// An object that can be decoded starting at any of its members.
pub(crate) trait Members: Sized {
    /// Decodes the remaining members. `more` is true if there are any.
    fn members(reader: &mut Reader<'_>, more: bool) -> Result<Self, Stop>;
}

/// A position in a text whose bytes can be shared.
pub(crate) struct Reader<'a> {
    pub(crate) scanner: Scanner<'a>,
    whole: Arc<Whole>,
    /// The decoded text of the last string that contained escapes.
    says: String,
    /// The position of the key `kind` in the last decoded object; 0 if the object has none.
    pub(crate) kind: usize,
    /// The optional fields that were skipped because their values could not be decoded.
    flaws: Vec<FieldFlaw>,
}

/// An optional field that could not be decoded.
struct FieldFlaw {
    name: &'static str,
    flaw: Flaw,
    value: Span,
}

/// Decodes a whole text as one value.
pub(crate) fn decode<T: Wire>(json: &Text) -> Result<T, Flaw> {
    decode_with_flaws("", json).map(|(value, _)| value)
}

/// Decodes a whole text as one value, and returns the optional fields that were skipped because
/// they could not be decoded. `kind` is the kind of the value, for errors.
pub(crate) fn decode_with_flaws<T: Wire>(
    kind: &str,
    json: &Text,
) -> Result<(T, Vec<Malformed>), Flaw> {
    let (whole, span) = json.located();
    read(kind, whole, span, T::read)
}

/// Decodes the rest of an object. `from` is the position after a member.
pub(crate) fn decode_rest<T: Members>(
    kind: &str,
    whole: &ByteString,
    from: usize,
) -> Result<(Box<T>, Vec<Malformed>), Flaw> {
    let span = Span::new(from, whole.len());
    read(kind, Arc::new(Whole::Came(whole.clone())), span, |reader| {
        let more = reader.scanner.more_members()?;
        T::members(reader, more).map(Box::new)
    })
}

fn read<T>(
    kind: &str,
    whole: Arc<Whole>,
    span: Span,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Stop>,
) -> Result<(T, Vec<Malformed>), Flaw> {
    let shared = Arc::clone(&whole);
    let mut scanner = Scanner::new(shared.piece(Span::new(0, span.end())))?;
    scanner.go(span.start());
    let mut reader = Reader {
        scanner,
        whole,
        says: String::new(),
        kind: 0,
        flaws: Vec::new(),
    };
    let value = read(&mut reader).and_then(|value| {
        reader.scanner.end()?;
        Ok(value)
    });
    match value {
        Ok(value) => Ok((value, reader.left_out(kind))),
        Err(Stop) => Err(reader.scanner.flaw()),
    }
}

impl<'a> Reader<'a> {
    /// Decodes the value of an optional field. An invalid value is skipped and recorded.
    #[inline]
    pub(crate) fn optional<T: Wire>(&mut self, name: &'static str) -> Result<Option<T>, Stop> {
        let (at, flaws) = (self.scanner.at(), self.flaws.len());
        match Wire::read(self) {
            Ok(value) => Ok(value),
            Err(Stop) => self.leave_out(name, at, flaws).map(|()| None),
        }
    }

    #[cold]
    fn leave_out(&mut self, name: &'static str, at: usize, flaws: usize) -> Result<(), Stop> {
        let flaw = self.scanner.flaw();
        self.scanner.go(at);
        // A value that is not valid JSON cannot be skipped and is an error.
        let value = self.scanner.value()?;
        self.flaws.truncate(flaws);
        self.flaws.push(FieldFlaw { name, flaw, value });
        Ok(())
    }

    /// Returns the number of skipped fields, for a later [`forget`](Self::forget).
    pub(crate) fn flaws(&self) -> usize {
        self.flaws.len()
    }

    /// Removes all but the first `flaws` skipped fields, before a value is decoded again.
    pub(crate) fn forget(&mut self, flaws: usize) {
        self.flaws.truncate(flaws);
    }

    fn left_out(&self, kind: &str) -> Vec<Malformed> {
        let flaws = self.flaws.iter();
        let flaws = flaws.map(|FieldFlaw { name, flaw, value }| Malformed {
            kind: kind.into(),
            reason: format!("field `{name}` was skipped: {flaw}").into(),
            json: Json::new(self.piece(*value)),
        });
        flaws.collect()
    }

    /// Returns the text at a position.
    #[inline]
    pub(crate) fn piece(&self, span: Span) -> Text {
        Text::piece(&self.whole, span)
    }

    /// Decodes a string for immediate use.
    pub(crate) fn word(&mut self) -> Result<Cow<'a, str>, Stop> {
        let word = self.scanner.string()?;
        Ok(self.plain(word))
    }

    /// Decodes a key and the colon after it.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, Stop> {
        let key = self.scanner.key()?;
        Ok(self.plain(key))
    }

    /// Decodes a key as a [`Text`], and the colon after it.
    pub(crate) fn name(&mut self) -> Result<Text, Stop> {
        let key = self.scanner.key()?;
        Ok(match key.escaped {
            true => self.plain(key).as_ref().into(),
            false => self.piece(key.span),
        })
    }

    /// Decodes a value at another position and returns to the current one.
    pub(crate) fn elsewhere<T>(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let here = self.scanner.at();
        self.scanner.go(at);
        let value = read(self)?;
        self.scanner.go(here);
        Ok(value)
    }

    fn plain(&self, quoted: Quoted) -> Cow<'a, str> {
        quoted.says(self.scanner.text())
    }

    /// Returns the next `kind` in the rest of the text, and the position of its key.
    pub(crate) fn kind_ahead(&self) -> Option<(&'a str, usize)> {
        static KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""kind":""#));
        let at = self.scanner.at();
        let rest = self.scanner.text().get(at..)?;
        let found = KEY.find(rest.as_bytes())?;
        let rest = rest.get(found + KEY.needle().len()..)?;
        let kind = rest.get(..memchr::memchr(b'"', rest.as_bytes())?)?;
        Some((kind, at + found))
    }
}

/// An object whose members are all skipped.
pub(crate) struct Ignored;

impl Wire for Ignored {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let more = reader.scanner.object()?;
        Self::members(reader, more)
    }
}

impl Members for Ignored {
    fn members(reader: &mut Reader<'_>, mut more: bool) -> Result<Self, Stop> {
        while more {
            reader.scanner.key()?;
            reader.scanner.value()?;
            more = reader.scanner.more_members()?;
        }
        Ok(Self)
    }
}

impl Wire for Text {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        Ok(match reader.scanner.plain_string(&mut reader.says)? {
            Some(span) => reader.piece(span),
            None => reader.says.as_str().into(),
        })
    }
}

impl Wire for Json {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let span = reader.scanner.value()?;
        Ok(Self::new(reader.piece(span)))
    }
}

impl Json {
    /// Returns the decoded string if the value is a JSON string.
    pub fn as_text(&self) -> Option<Text> {
        decode(self.text()).ok()
    }

    /// Returns a member of a JSON object. Returns `None` if the value is not an object or has no
    /// such member.
    pub fn get(&self, key: &str) -> Option<Self> {
        let members: BTreeMap<Text, Self> = decode(self.text()).ok()?;
        members.get(key).cloned()
    }
}

impl Wire for Value {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        let json = reader.scanner.value()?.of(reader.scanner.text());
        serde_json::from_str(json)
            .or_else(|_| reader.scanner.stop_at("JSON is nested too deeply", at))
    }
}

impl Wire for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let yes = reader.scanner.word("true");
        if yes || reader.scanner.word("false") {
            return Ok(yes);
        }
        reader.scanner.stop("expected true or false")
    }
}

impl Wire for i64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        let negative = reader.scanner.word("-");
        let number = reader.scanner.whole().and_then(|number| {
            if negative {
                0_i64.checked_sub_unsigned(number)
            } else {
                number.try_into().ok()
            }
        });
        number.map_or_else(|| reader.scanner.stop_at("expected a whole number", at), Ok)
    }
}

impl Wire for i32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        let number = i64::read(reader)?;
        Self::try_from(number).or_else(|_| reader.scanner.stop_at("expected a whole number", at))
    }
}

impl Wire for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        match reader.scanner.whole() {
            Some(number) => Ok(number),
            None => reader.scanner.stop_at("expected a whole number from 0", at),
        }
    }
}

impl Wire for f64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        const EXPECTED: &str = "expected a number";
        if !matches!(reader.scanner.peek(), Some(b'-' | b'0'..=b'9')) {
            return reader.scanner.stop(EXPECTED);
        }
        let at = reader.scanner.at();
        let number = reader.scanner.number()?;
        match number.parse() {
            Ok(number) if f64::is_finite(number) => Ok(number),
            _ => reader.scanner.stop_at(EXPECTED, at),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        if reader.scanner.word("null") {
            return Ok(None);
        }
        T::read(reader).map(Some)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        T::read(reader).map(Self::new)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let mut items = Self::new();
        let mut more = reader.scanner.array()?;
        while more {
            items.push(T::read(reader)?);
            more = reader.scanner.more_items()?;
        }
        Ok(items)
    }
}

impl Wire for (u64, u64) {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        match *Vec::read(reader)? {
            [first, last] => Ok((first, last)),
            _ => reader.scanner.stop_at("expected two numbers", at),
        }
    }
}

impl<T: Wire> Wire for BTreeMap<Text, T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let mut members = Self::new();
        let mut more = reader.scanner.object()?;
        while more {
            let name = reader.name()?;
            members.insert(name, T::read(reader)?);
            more = reader.scanner.more_members()?;
        }
        Ok(members)
    }
}
