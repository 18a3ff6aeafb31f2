//! Macros that declare configuration types, each a builder over [`Fields`](super::fields::Fields).

/// Declares a configuration type by its fields.
///
/// Each line declares a setter: its documentation, its flavour, the name of the field in JSON,
/// `/method` if the method has a different name, the type, and the rule for the value. `by_hand`
/// lists the JSON fields whose setters are written below the declaration.
///
/// Flavours: `value` takes a value; `text` a string; `secret` a secret; `address` a URL or source.
/// `seconds` takes a `Duration` and sends seconds with a fraction; `whole_seconds` rounds up.
/// `nullable`, `nullable_seconds` and `nullable_whole_seconds` take an `Option` and send `None` as
/// `null`. `model` takes another configuration
/// type. `list` replaces the whole list; `hidden` does the same and never shows the list. `each`
/// appends an item; `named` appends an item with a unique name; `entry`, `json` and `secrets` add
/// an entry to a map.
macro_rules! model {
    (
        $(#[$meta:meta])*
        pub struct $name:ident;
        by_hand: [$($hand:literal),* $(,)?];
        $(
            $(#[doc = $doc:literal])*
            $flavour:ident $field:ident $(/ $method:ident)? $(: $ty:ty)?
                $(where $ok:expr => $rule:literal)?;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone)]
        #[must_use]
        pub struct $name {
            fields: $crate::config::fields::Fields,
        }

        impl $name {
            /// The JSON names of all fields that this version supports.
            pub const FIELDS: &'static [&'static str] = &[$($hand,)* $(stringify!($field),)*];

            $(
                $crate::config::model::setter! {
                    [$(#[doc = $doc])*] $flavour $field [$($method)?] [$($ty)?] [$($ok => $rule)?]
                }
            )*

            /// Creates the configuration from JSON in the server's form, such as a response or a
            /// settings file. Values are never shown, and only checked for masked secrets.
            ///
            /// # Errors
            ///
            /// Returns an error if `json` is not an object.
            pub fn from_json(json: serde_json::Value) -> $crate::Result<Self> {
                let fields = $crate::config::fields::Fields::from_json(stringify!($name), json)?;
                Ok(Self { fields })
            }

            /// Sets any field by its JSON name, for fields of a newer server. Replaces a value from
            /// a typed method. The value is not checked and never shown.
            pub fn set(
                mut self,
                field: impl Into<String>,
                value: impl Into<serde_json::Value>,
            ) -> Self {
                let value = $crate::config::fields::Field::hidden(value.into());
                self.fields.put(field.into(), value);
                self
            }

            /// Returns the value of a field, by its JSON name. Returns `None` if the field is not
            /// set or its value is not a `T`.
            ///
            /// Values have the server's form: times are seconds, and other configurations are
            /// objects. Secrets are replaced by text that no configuration accepts as a secret; to
            /// read a secret, serialize the configuration.
            pub fn get<T: serde::de::DeserializeOwned>(&self, field: &str) -> Option<T> {
                serde_json::from_value(self.fields.get(field)?.readable(field)?).ok()
            }

            /// Checks the configuration against the server's rules, before anything is sent.
            ///
            /// # Errors
            ///
            /// Returns an error for the first invalid value, with its path and the rule.
            pub fn check(&self) -> $crate::Result<()> {
                self.fields.check()
            }
        }

        impl From<$name> for $crate::config::fields::Field {
            fn from(model: $name) -> Self {
                Self::Object(model.fields)
            }
        }

        /// Serializes to the server's form, with secrets in plain text. Intended for request bodies
        /// only.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.fields.serialize(to)
            }
        }

        /// Deserializes from the server's form, like [`from_json`](Self::from_json).
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let json = <serde_json::Value as serde::Deserialize>::deserialize(from)?;
                Self::from_json(json).map_err(serde::de::Error::custom)
            }
        }

        /// Configurations are equal if their JSON is, secrets included.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.fields == other.fields
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.fields.fmt(f)
            }
        }
    };
}

/// Declares one setter of [`model!`].
macro_rules! setter {
    ([$($doc:tt)*] value $field:ident [] [$ty:ty] [$($ok:expr => $rule:literal)?]) => {
        $($doc)*
        pub fn $field(mut self, $field: $ty) -> Self {
            let field = $crate::config::fields::Field::present(&$field);
            $( let field = $crate::config::model::ruled(field, $ok, $rule); )?
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] text $field:ident [] [] [$($ok:expr => $rule:literal)?]) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<String>) -> Self {
            let $field = $field.into();
            let field = $crate::config::fields::Field::plain(&$field);
            $( let field = $crate::config::model::ruled(field, $ok, $rule); )?
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] nullable $field:ident [] [$ty:ty] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<Option<$ty>>) -> Self {
            let field = match $field.into() {
                Some(value) => $crate::config::fields::Field::present(value),
                None => $crate::config::fields::Field::plain(()),
            };
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] seconds $field:ident [] [] []) => {
        $crate::config::model::setter! { [$($doc)*] seconds $field [$field] [] [] }
    };
    ([$($doc:tt)*] seconds $field:ident [$method:ident] [] []) => {
        $($doc)*
        pub fn $method(mut self, $method: std::time::Duration) -> Self {
            let field = $crate::config::fields::Field::seconds($method);
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] whole_seconds $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: std::time::Duration) -> Self {
            let field = $crate::config::fields::Field::whole_seconds($field);
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] nullable_seconds $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<Option<std::time::Duration>>) -> Self {
            let field = match $field.into() {
                Some(time) => $crate::config::fields::Field::seconds(time),
                None => $crate::config::fields::Field::plain(()),
            };
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] nullable_whole_seconds $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<Option<std::time::Duration>>) -> Self {
            let field = match $field.into() {
                Some(time) => $crate::config::fields::Field::whole_seconds(time),
                None => $crate::config::fields::Field::plain(()),
            };
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] secret $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<secrecy::SecretString>) -> Self {
            let field = $crate::config::fields::Field::secret($field);
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] address $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<String>) -> Self {
            let field = $crate::config::fields::Field::address($field);
            self.fields.put(stringify!($field), field);
            self
        }
    };
    ([$($doc:tt)*] model $field:ident [] [$ty:ty] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl Into<$ty>) -> Self {
            self.fields.put(stringify!($field), $field.into());
            self
        }
    };
    ([$($doc:tt)*] list $field:ident [] [$ty:ty] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl IntoIterator<Item = impl Into<$ty>>) -> Self {
            let items = $field.into_iter().map(Into::<$ty>::into);
            self.fields.put(stringify!($field), items.collect::<$crate::config::fields::Field>());
            self
        }
    };
    ([$($doc:tt)*] hidden $field:ident [] [] []) => {
        $($doc)*
        pub fn $field(mut self, $field: impl IntoIterator<Item = impl Into<String>>) -> Self {
            let items: Vec<String> = $field.into_iter().map(Into::into).collect();
            self.fields.put(
                stringify!($field),
                $crate::config::fields::Field::hidden(items.into()),
            );
            self
        }
    };
    ([$($doc:tt)*] each $field:ident [$method:ident] [$ty:ty] []) => {
        $($doc)*
        pub fn $method(mut self, $method: impl Into<$ty>) -> Self {
            self.fields.push(stringify!($field), $method.into());
            self
        }
    };
    ([$($doc:tt)*] named $field:ident [$method:ident] [$ty:ty] []) => {
        $($doc)*
        pub fn $method(mut self, $method: impl Into<$ty>) -> Self {
            self.fields.push_named(stringify!($field), $method.into());
            self
        }
    };
    ([$($doc:tt)*] entry $field:ident [$method:ident] [$ty:ty] []) => {
        $($doc)*
        pub fn $method(mut self, name: impl Into<String>, $method: impl Into<$ty>) -> Self {
            self.fields.insert(stringify!($field), name, $method.into());
            self
        }
    };
    ([$($doc:tt)*] json $field:ident [$method:ident] [] []) => {
        $($doc)*
        pub fn $method(
            mut self,
            name: impl Into<String>,
            value: impl Into<serde_json::Value>,
        ) -> Self {
            let value = $crate::config::fields::Field::hidden(value.into());
            self.fields.insert(stringify!($field), name, value);
            self
        }
    };
    ([$($doc:tt)*] secrets $field:ident [$method:ident] [] []) => {
        $($doc)*
        pub fn $method(
            mut self,
            name: impl Into<String>,
            value: impl Into<secrecy::SecretString>,
        ) -> Self {
            let value = $crate::config::fields::Field::secret(value);
            self.fields.insert(stringify!($field), name, value);
            self
        }
    };
}

/// Returns the field if its rule is kept, or else a refused field with the rule.
pub(super) fn ruled(
    field: super::fields::Field,
    kept: bool,
    rule: &'static str,
) -> super::fields::Field {
    if kept {
        return field;
    }
    super::fields::Field::refused(rule)
}

pub(super) use {model, setter};
