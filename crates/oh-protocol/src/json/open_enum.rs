//! Enums that preserve unknown values.

/// Declares an enum that keeps unknown values as strings.
///
/// Every variant maps to one string in JSON. `Other` keeps any other string unchanged, so that
/// decoding and encoding returns the same text.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $wire:literal ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
            /// A value that this version does not support, as sent by the server.
            Other(Box<str>),
        }

        impl $name {
            /// Returns the value's string in JSON.
            pub fn as_str(&self) -> &str {
                match self { $( Self::$variant => $wire, )+ Self::Other(other) => other }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text { $( $wire => Self::$variant, )+ other => Self::Other(other.into()) }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::json::wire::Wire for $name {
            fn read(
                reader: &mut $crate::json::wire::Reader<'_>,
            ) -> Result<Self, $crate::json::scan::Stop> {
                reader.word().map(|word| Self::from(&*word))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Words;
                impl serde::de::Visitor<'_> for Words {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a string for ", stringify!($name)))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok($name::from(text))
                    }
                }
                deserializer.deserialize_str(Words)
            }
        }
    };
}
pub(crate) use open_enum;
