//! Declares configuration types: a builder over [`Fields`](super::fields::Fields) each.

/// Declares a configuration type by its fields.
///
/// Each line is a setter: its documentation, its flavour, the name on the wire, `/method` where
/// the method is called otherwise, the type, and the rule the value must keep.
/// `by_hand` names the wire fields whose setters are written below the declaration.
///
/// Flavours: `value` by value; `text`; `secret`; `address` (URLs and sources); `nullable` takes
/// an `Option`, and `None` is sent as `null`; `model` another configuration type; `list` replaces
/// the whole list, `hidden` too, without ever showing it; `each` appends an item, `named` one
/// with a new name; `entry`, `json` and `secrets` put into a map.
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
            /// The names of its fields on the wire, all that this version knows.
            pub const FIELDS: &'static [&'static str] = &[$($hand,)* $(stringify!($field),)*];

            $(
                $crate::config::model::setter! {
                    [$(#[doc = $doc])*] $flavour $field [$($method)?] [$($ty)?] [$($ok => $rule)?]
                }
            )*

            /// Takes one as the server writes it, such as in an answer or in a file of settings.
            /// Its values are neither checked, but for masks, nor shown.
            ///
            /// # Errors
            ///
            /// When it is no JSON object.
            pub fn from_json(json: serde_json::Value) -> $crate::Result<Self> {
                let fields = $crate::config::fields::Fields::from_json(stringify!($name), json)?;
                Ok(Self { fields })
            }

            /// Sets any field by its name on the wire, as a server newer than this crate may
            /// need. It replaces what a typed method gave, and is not checked. Its value is
            /// never shown.
            pub fn set(
                mut self,
                field: impl Into<String>,
                value: impl Into<serde_json::Value>,
            ) -> Self {
                let value = $crate::config::fields::Field::hidden(value.into());
                self.fields.put(field.into(), value);
                self
            }

            /// Checks the server's rules before anything travels.
            ///
            /// # Errors
            ///
            /// The first value that breaks one: the path to it, and what to change.
            pub fn check(&self) -> $crate::Result<()> {
                self.fields.check()
            }
        }

        impl From<$name> for $crate::config::fields::Field {
            fn from(model: $name) -> Self {
                Self::Object(model.fields)
            }
        }

        /// The wire form, secrets in the clear: for the body of a request and nothing else.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.fields.serialize(to)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.fields.fmt(f)
            }
        }
    };
}

/// One setter of [`model!`].
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

/// The field if its rule is kept, else what the rule says.
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
