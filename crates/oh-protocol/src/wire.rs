//! Decodes typed bodies from the server in one pass, with strings that share the input's bytes.
//!
//! [`wire!`] declares a type, and [`tagged!`] declares an enum of types that are distinguished by
//! their `kind`. Unknown data is skipped; [`Event`](crate::Event) keeps the original bytes.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytestring::ByteString;
use memchr::memmem::Finder;
use serde_json::Value;

use crate::{
    Json, Text,
    event::Malformed,
    scan::{Flaw, Quoted, Scanner, Span, Stop},
    whole::Whole,
};

/// A type that can be decoded.
pub(crate) trait Wire: Sized {
    /// Decodes a value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop>;
}

/// An object that can be decoded starting at any of its members.
pub(crate) trait Members: Sized {
    /// Decodes the remaining members. `more` is whether there are any.
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

/// Decodes the rest of an object, starting at the end of a member at `from`.
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

/// Returns whether a name is in a list.
pub(crate) const fn holds(names: &[&str], name: &str) -> bool {
    let (mut at, name) = (0, name.as_bytes());
    while at < names.len() {
        let other = names[at].as_bytes();
        let mut same = 0;
        while same < name.len() && same < other.len() && name[same] == other[same] {
            same += 1;
        }
        if same == name.len() && same == other.len() {
            return true;
        }
        at += 1;
    }
    false
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

    /// Decodes a string that is not kept.
    pub(crate) fn word(&mut self) -> Result<Cow<'a, str>, Stop> {
        let word = self.scanner.string()?;
        Ok(self.plain(word))
    }

    /// Decodes a key and the colon after it.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, Stop> {
        let key = self.scanner.key()?;
        Ok(self.plain(key))
    }

    /// Decodes a key that is kept, and the colon after it.
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

/// Declares public, non-exhaustive structs that can be decoded. A field with `= default` may be
/// missing, null or of the wrong type; all other fields are required. `as "name"` sets the JSON
/// name if it differs.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        $name:ident { $(
            $(#[$fmeta:meta])* $field:ident : $type:ty $(= $default:ident)? $(as $other:literal)?
        ),* $(,)? }
    )+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $type, )*
        }

        impl $crate::wire::Wire for $name {
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::scan::Stop> {
                let more = reader.scanner.object()?;
                <Self as $crate::wire::Members>::members(reader, more)
            }
        }

        impl $crate::wire::Members for $name {
            fn members(
                reader: &mut $crate::wire::Reader<'_>,
                mut more: bool,
            ) -> Result<Self, $crate::scan::Stop> {
                const FIELDS: &[&str] = &[$($crate::wire::name!($field $($other)?)),*];
                const TAGGED: bool = !$crate::wire::holds(FIELDS, "kind");
                let _start = reader.scanner.at();
                let mut kind = 0;
                $( let mut $field: Option<$type> = None; )*
                while more {
                    // Fast path: fields in the declared order, which is the server's.
                    let before = reader.scanner.at();
                    $( if more && reader.scanner.takes(
                        concat!("\"", $crate::wire::name!($field $($other)?), "\":")
                    ) {
                        $field = $crate::wire::field!(
                            reader, $crate::wire::name!($field $($other)?) $(, $default)?
                        );
                        more = reader.scanner.more_members()?;
                    } )*
                    // The kind comes last. It has already been checked if it matters.
                    let at = reader.scanner.at();
                    if TAGGED && more && reader.scanner.takes(r#""kind":"#) {
                        kind = at;
                        reader.scanner.value()?;
                        more = reader.scanner.more_members()?;
                    }
                    if reader.scanner.at() != before {
                        continue;
                    }
                    let key = reader.key()?;
                    $( if key == $crate::wire::name!($field $($other)?) {
                        $field = $crate::wire::field!(
                            reader, $crate::wire::name!($field $($other)?) $(, $default)?
                        );
                    } else )* {
                        if key == "kind" {
                            kind = at;
                        }
                        reader.scanner.value()?;
                    }
                    more = reader.scanner.more_members()?;
                }
                reader.kind = kind;
                Ok(Self { $(
                    $field: $crate::wire::found!(reader, $field, _start $(, $default)?),
                )* })
            }
        }
    )+ };
}

/// Returns the JSON name of a field.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $other:literal) => {
        $other
    };
}

/// Decodes the value of a field. Returns `None` for an optional field that is null or invalid.
macro_rules! field {
    ($reader:ident, $name:expr) => {
        Some($crate::wire::Wire::read($reader)?)
    };
    ($reader:ident, $name:expr, default) => {
        $reader.optional($name)?
    };
}

/// Returns the value of a field after the whole object was decoded.
macro_rules! found {
    ($reader:ident, $field:ident, $start:ident) => {
        match $field {
            Some(value) => value,
            None => {
                const MISSING: &str = concat!("missing field `", stringify!($field), "`");
                return $reader.scanner.stop_at(MISSING, $start);
            }
        }
    };
    ($reader:ident, $field:ident, $start:ident, default) => {
        $field.unwrap_or_default()
    };
}

/// Declares an enum of bodies that are distinguished by their `kind`, with variants for unknown
/// kinds.
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident($type:ty) = $kind:literal ),+ $(,)?
        }
        other { $( $(#[$ometa:meta])* $other:ident if $test:expr ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant($type), )+
            $( $(#[$ometa])* $other($crate::event::Untyped), )*
            /// A kind that this version does not support, with its JSON.
            Unknown($crate::event::Untyped),
            /// A known kind whose body could not be decoded, with its JSON.
            Malformed($crate::event::Malformed),
        }

        impl $name {
            /// All kinds that have a type in this version.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// Returns the kind, which is the name of the server's class.
            pub fn kind(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $kind, )+
                    $( Self::$other(body) => &body.kind, )*
                    Self::Unknown(body) => &body.kind,
                    Self::Malformed(body) => &body.kind,
                }
            }

            /// Returns the reason why the body could not be decoded, if so.
            pub fn malformed(&self) -> Option<&$crate::event::Malformed> {
                match self {
                    Self::Malformed(body) => Some(body),
                    _ => None,
                }
            }
        }

        impl $crate::wire::Wire for $name {
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::scan::Stop> {
                let (begin, flaws) = (reader.scanner.at(), reader.flaws());
                // The kind comes last. The next `kind` in the text usually belongs to this body;
                // decoding the body shows whether that is true.
                if let Some((kind, key)) = reader.kind_ahead() {
                    if let Some(Ok(body)) = Self::body(reader, kind)
                        && reader.kind == key
                    {
                        return Ok(body);
                    }
                    reader.scanner.go(begin);
                    reader.forget(flaws);
                }
                let span = reader.scanner.value()?;
                let end = reader.scanner.at();
                let kind = $crate::scan::kind(span.of(reader.scanner.text())).unwrap_or_default();
                let kind = &*kind;
                reader.scanner.go(begin);
                let read = Self::body(reader, kind);
                let flaw = reader.scanner.flaw();
                reader.scanner.go(end);
                Ok(match read {
                    Some(Ok(body)) => body,
                    Some(Err($crate::scan::Stop)) => {
                        reader.forget(flaws);
                        Self::Malformed($crate::event::Malformed::new(
                            $crate::event::Untyped::new(reader, kind, span),
                            flaw,
                        ))
                    }
                    $( None if $test(kind) => Self::$other($crate::event::Untyped::new(reader, kind, span)), )*
                    None => Self::Unknown($crate::event::Untyped::new(reader, kind, span)),
                })
            }
        }

        impl $name {
            /// Decodes a body of this kind. Returns `None` if the kind has no type.
            fn body(
                reader: &mut $crate::wire::Reader<'_>,
                kind: &str,
            ) -> Option<Result<Self, $crate::scan::Stop>> {
                Some(match kind {
                    $( $kind => <$type as $crate::wire::Wire>::read(reader).map(Self::$variant), )+
                    _ => return None,
                })
            }
        }
    };
}

pub(crate) use {field, found, name, tagged, wire};
