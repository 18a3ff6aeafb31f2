//! Macros that declare types with their decoder.
//!
//! [`wire!`] declares structs, and [`tagged!`] declares an enum of types that are distinguished by
//! their `kind`.

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
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$fmeta])* $(#[serde(rename = $other)])? pub $field: $type, )*
        }

        $crate::json::declare::deserialize!($name);

        impl $crate::json::wire::Wire for $name {
            fn read(
                reader: &mut $crate::json::wire::Reader<'_>,
            ) -> Result<Self, $crate::json::scan::Stop> {
                let more = reader.scanner.object()?;
                <Self as $crate::json::wire::Members>::members(reader, more)
            }
        }

        impl $crate::json::wire::Members for $name {
            fn members(
                reader: &mut $crate::json::wire::Reader<'_>,
                mut more: bool,
            ) -> Result<Self, $crate::json::scan::Stop> {
                const FIELDS: &[&str] = &[$($crate::json::declare::name!($field $($other)?)),*];
                const TAGGED: bool = !$crate::json::declare::holds(FIELDS, "kind");
                let _start = reader.scanner.at();
                let mut kind = 0;
                $( let mut $field: Option<$type> = None; )*
                while more {
                    // Fast path: fields in the declared order, which is the server's.
                    let before = reader.scanner.at();
                    $( if more && reader.scanner.takes(
                        concat!("\"", $crate::json::declare::name!($field $($other)?), "\":")
                    ) {
                        $field = $crate::json::declare::field!(
                            reader, $crate::json::declare::name!($field $($other)?) $(, $default)?
                        );
                        more = reader.scanner.more_members()?;
                    } )*
                    // The kind comes last. Where the kind matters, it has already been checked.
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
                    $( if key == $crate::json::declare::name!($field $($other)?) {
                        $field = $crate::json::declare::field!(
                            reader, $crate::json::declare::name!($field $($other)?) $(, $default)?
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
                    $field: $crate::json::declare::found!(reader, $field, _start $(, $default)?),
                )* })
            }
        }
    )+ };
}

/// Implements `Deserialize` with the same decoder as for events. Supports only the deserializers of
/// serde_json, like [`Json`](crate::Json).
macro_rules! deserialize {
    ($name:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let json = <$crate::Json as serde::Deserialize>::deserialize(deserializer)?;
                $crate::json::wire::decode(json.text()).map_err(serde::de::Error::custom)
            }
        }
    };
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
        Some($crate::json::wire::Wire::read($reader)?)
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

/// Declares an enum of bodies that are distinguished by their `kind`, with further variants for
/// unknown kinds and invalid bodies.
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident($type:ty) = $kind:literal ),+ $(,)?
        }
        other { $( $(#[$ometa:meta])* $other:ident if $test:expr ),* $(,)? }
    ) => {
        $(#[$meta])*
        ///
        /// Serializes to its JSON, with the kind. The default is an unknown body without a kind.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant($type), )+
            $( $(#[$ometa])* $other($crate::json::untyped::Untyped), )*
            /// A kind that this version does not support, with its JSON.
            Unknown($crate::json::untyped::Untyped),
            /// A known kind whose body could not be decoded, with its JSON.
            Malformed($crate::json::untyped::Malformed),
        }

        impl $name {
            /// All kinds that have a type in this version.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// Returns the kind: the name of the server's class.
            pub fn kind(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $kind, )+
                    $( Self::$other(body) => &body.kind, )*
                    Self::Unknown(body) => &body.kind,
                    Self::Malformed(body) => &body.kind,
                }
            }

            /// Returns the original body and the reason, if the body could not be decoded.
            pub fn malformed(&self) -> Option<&$crate::json::untyped::Malformed> {
                match self {
                    Self::Malformed(body) => Some(body),
                    _ => None,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Unknown($crate::json::untyped::Untyped::default())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(body) => {
                        $crate::json::untyped::Tagged { body, kind: $kind }.serialize(serializer)
                    } )+
                    $( Self::$other(body) => body.json.serialize(serializer), )*
                    Self::Unknown(body) => body.json.serialize(serializer),
                    Self::Malformed(body) => body.json.serialize(serializer),
                }
            }
        }

        $crate::json::declare::deserialize!($name);

        impl $crate::json::wire::Wire for $name {
            fn read(
                reader: &mut $crate::json::wire::Reader<'_>,
            ) -> Result<Self, $crate::json::scan::Stop> {
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
                let json = span.of(reader.scanner.text());
                let kind = $crate::json::scan::kind(json).unwrap_or_default();
                let kind = &*kind;
                reader.scanner.go(begin);
                let read = Self::body(reader, kind);
                let flaw = reader.scanner.flaw();
                reader.scanner.go(end);
                Ok(match read {
                    Some(Ok(body)) => body,
                    Some(Err($crate::json::scan::Stop)) => {
                        reader.forget(flaws);
                        Self::Malformed($crate::json::untyped::Malformed::new(
                            $crate::json::untyped::Untyped::new(kind, reader.piece(span)),
                            flaw,
                        ))
                    }
                    $( None if $test(kind) => {
                        let json = reader.piece(span);
                        Self::$other($crate::json::untyped::Untyped::new(kind, json))
                    } )*
                    None => {
                        let json = reader.piece(span);
                        Self::Unknown($crate::json::untyped::Untyped::new(kind, json))
                    }
                })
            }
        }

        impl $name {
            /// Decodes a body of this kind. Returns `None` if the kind has no type.
            fn body(
                reader: &mut $crate::json::wire::Reader<'_>,
                kind: &str,
            ) -> Option<Result<Self, $crate::json::scan::Stop>> {
                Some(match kind {
                    $( $kind => {
                        <$type as $crate::json::wire::Wire>::read(reader).map(Self::$variant)
                    } )+
                    _ => return None,
                })
            }
        }
    };
}

pub(crate) use {deserialize, field, found, name, tagged, wire};
