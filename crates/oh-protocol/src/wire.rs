//! Reads the typed bodies of what the server sends: one pass, text shared with its bytes.
//!
//! A type says what it needs by [`wire!`] and, where a `kind` tells several apart, by
//! [`tagged!`]. What it does not know is skipped; how it is kept is [`Event`](crate::Event)'s
//! business.

use std::collections::BTreeMap;

use bytestring::ByteString;
use serde_json::Value;

use crate::{
    Json, Text,
    escape::unescape,
    scan::{Flaw, Scanner, Span, Stop},
};

/// What can be read from the wire.
pub(crate) trait Wire: Sized {
    /// Reads it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop>;
}

/// An object of the wire whose members can be read from any of them on.
pub(crate) trait Members: Sized {
    /// Reads the members that are left; whether there are any is known.
    fn members(reader: &mut Reader<'_>, more: bool) -> Result<Self, Stop>;
}

/// A place in a text, some of which is to be shared.
pub(crate) struct Reader<'a> {
    pub(crate) whole: &'a ByteString,
    pub(crate) scanner: Scanner<'a>,
}

/// Reads a whole text as one value.
pub(crate) fn decode<T: Wire>(whole: &ByteString) -> Result<T, Flaw> {
    let scanner = Scanner::new(whole)?;
    let mut reader = Reader { whole, scanner };
    let value = T::read(&mut reader).and_then(|value| {
        reader.scanner.end()?;
        Ok(value)
    });
    value.map_err(|Stop| reader.scanner.flaw())
}

/// Reads an object of which everything before `from` has been read: the end of a member.
pub(crate) fn decode_rest<T: Members>(whole: &ByteString, from: usize) -> Result<T, Flaw> {
    let mut scanner = Scanner::new(whole)?;
    scanner.rewind(from);
    let mut reader = Reader { whole, scanner };
    let value = reader.scanner.more_members().and_then(|more| {
        let value = T::members(&mut reader, more)?;
        reader.scanner.end()?;
        Ok(value)
    });
    value.map_err(|Stop| reader.scanner.flaw())
}

/// Whether a name is among these.
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
    /// The text that stands somewhere.
    pub(crate) fn piece(&self, span: Span) -> Text {
        Text::piece(self.whole, span.of(self.whole))
    }

    fn value(&mut self) -> Result<&'a str, Stop> {
        self.scanner.value().map(|span| span.of(self.whole))
    }

    fn parsed<T: std::str::FromStr>(&mut self, expected: &'static str) -> Result<T, Stop> {
        let at = self.scanner.at();
        let text = self.value()?;
        text.parse().or_else(|_| self.scanner.stop_at(expected, at))
    }
}

impl Wire for Text {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let quoted = reader.scanner.string()?;
        if quoted.escaped {
            let plain = unescape(quoted.span.of(reader.whole));
            return match plain {
                Some(plain) => Ok(plain.into()),
                None => reader
                    .scanner
                    .stop_at("expected text without broken escapes", quoted.span.start()),
            };
        }
        Ok(reader.piece(quoted.span))
    }
}

impl Wire for Json {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        // What is in it is checked when it is decoded.
        let span = reader.scanner.pass_over()?;
        Ok(Self::new(reader.piece(span)))
    }
}

impl Wire for Value {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let at = reader.scanner.at();
        serde_json::from_str(reader.value()?).or_else(|_| {
            reader
                .scanner
                .stop_at("expected JSON that nests less deeply", at)
        })
    }
}

impl Wire for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        reader.parsed("expected true or false")
    }
}

impl Wire for i64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        reader.parsed("expected a whole number")
    }
}

impl Wire for i32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        reader.parsed("expected a whole number")
    }
}

impl Wire for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        reader.parsed("expected a whole number from 0")
    }
}

impl Wire for f64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        reader.parsed("expected a number")
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        if reader.scanner.null() {
            return Ok(None);
        }
        T::read(reader).map(Some)
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
            let key = String::from_utf8_lossy(reader.scanner.key()?).into_owned();
            members.insert(key.into(), T::read(reader)?);
            more = reader.scanner.more_members()?;
        }
        Ok(members)
    }
}

/// Declares structs of the wire: public, non-exhaustive, documented. A field with `= default` may
/// be missing or null; any other must be there. `as "name"` gives the name on the wire where it
/// is another.
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
                $( let mut $field: Option<$type> = None; )*
                while more {
                    // First what comes in the order that is declared, which is the server's.
                    let before = reader.scanner.at();
                    $( if more && reader.scanner.takes(
                        concat!("\"", $crate::wire::name!($field $($other)?), "\":")
                    ) {
                        $field = $crate::wire::field!(reader $($default)?);
                        more = reader.scanner.more_members()?;
                    } )*
                    // The kind comes last, and has been looked at where it matters.
                    if TAGGED && more && reader.scanner.takes(r#""kind":"#) {
                        reader.scanner.value()?;
                        more = reader.scanner.more_members()?;
                    }
                    if reader.scanner.at() != before {
                        continue;
                    }
                    let key = reader.scanner.key()?;
                    $( if key == $crate::wire::name!($field $($other)?).as_bytes() {
                        $field = $crate::wire::field!(reader $($default)?);
                    } else )* {
                        _ = key;
                        reader.scanner.value()?;
                    }
                    more = reader.scanner.more_members()?;
                }
                Ok(Self { $(
                    $field: $crate::wire::found!(reader, $field, _start $(, $default)?),
                )* })
            }
        }
    )+ };
}

/// The name of a field on the wire.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $other:literal) => {
        $other
    };
}

/// Reads a field's value; nothing for the null of one that may be missing.
macro_rules! field {
    ($reader:ident) => {
        Some($crate::wire::Wire::read($reader)?)
    };
    ($reader:ident default) => {
        $crate::wire::Wire::read($reader)?
    };
}

/// What a field is once the whole object has been read.
macro_rules! found {
    ($reader:ident, $field:ident, $start:ident) => {
        match $field {
            Some(value) => value,
            None => {
                const MISSING: &str = concat!("no `", stringify!($field), "` in the object");
                return $reader.scanner.stop_at(MISSING, $start);
            }
        }
    };
    ($reader:ident, $field:ident, $start:ident, default) => {
        $field.unwrap_or_default()
    };
}

/// Declares an enum of bodies told apart by their `kind`, open for kinds nobody knew.
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
            /// A kind this version has no type for, kept as it came.
            Unknown($crate::event::Untyped),
            /// A known kind whose body does not read, kept as it came.
            Malformed($crate::event::Malformed),
        }

        impl $name {
            /// Every kind that has a type of its own here.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// The kind: the name of the server's class.
            pub fn kind(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $kind, )+
                    $( Self::$other(body) => &body.kind, )*
                    Self::Unknown(body) => &body.kind,
                    Self::Malformed(body) => &body.kind,
                }
            }

            /// Why the body does not read, if it does not.
            pub fn malformed(&self) -> Option<&$crate::event::Malformed> {
                match self {
                    Self::Malformed(body) => Some(body),
                    _ => None,
                }
            }
        }

        impl $crate::wire::Wire for $name {
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::scan::Stop> {
                // The kind is written last, so where the body ends is looked for first.
                let begin = reader.scanner.at();
                let span = reader.scanner.pass_over()?;
                let kind = $crate::scan::kind(span.of(reader.whole)).unwrap_or_default();
                let end = reader.scanner.rewind(begin);
                let read = match kind {
                    $( $kind => <$type as $crate::wire::Wire>::read(reader).map(Self::$variant), )+
                    $( other if $test(other) => {
                        Ok(Self::$other($crate::event::Untyped::new(reader, kind, span)))
                    } )*
                    _ => Ok(Self::Unknown($crate::event::Untyped::new(reader, kind, span))),
                };
                reader.scanner.rewind(end);
                Ok(read.unwrap_or_else(|$crate::scan::Stop| {
                    Self::Malformed($crate::event::Malformed::new(
                        $crate::event::Untyped::new(reader, kind, span),
                        reader.scanner.flaw(),
                    ))
                }))
            }
        }
    };
}

pub(crate) use {field, found, name, tagged, wire};
