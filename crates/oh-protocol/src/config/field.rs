//! A single configuration value: how it is serialized and displayed, and whether it is valid.

use std::{borrow::Cow, fmt};

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::fields::Fields;
use crate::redact;

/// The server's mask for a secret. Sending the mask back would overwrite the real secret.
const MASK: &str = "**********";

/// The key of the object that replaces a refused value in the serialized form.
pub(crate) const REFUSED: &str = "oh-protocol: refused value";

const MASKED: &str = "the server's mask `**********` is not a secret: set the real value, or omit \
                      the field";

/// A value, and how much of it may be shown.
#[derive(Clone)]
pub(crate) enum Field {
    Plain(Value),
    /// Free-form values that may contain secrets: serialized, but never shown.
    Hidden(Value),
    Secret(SecretString),
    /// A URL or source, shown without its identifying parts.
    Address(String),
    /// A URL whose path may be secret: only the origin is shown.
    Endpoint(String),
    List(Vec<Field>),
    Object(Fields),
    /// A placeholder for a value that breaks a rule, with the rule. Never part of a request.
    Refused(Cow<'static, str>),
}

impl Field {
    /// Creates a field from a value without secrets.
    pub(crate) fn plain(value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) if is_masked(&value) => Self::Refused(MASKED.into()),
            Ok(value) => Self::Plain(value),
            Err(error) => Self::Refused(error.to_string().into()),
        }
    }

    /// Creates a field from a value that must be present. A float that is not finite would be sent
    /// as `null`.
    pub(crate) fn present(value: impl Serialize) -> Self {
        match Self::plain(value) {
            Self::Plain(Value::Null) => Self::Refused("must be a finite number".into()),
            field => field,
        }
    }

    /// Creates a field from free-form JSON, which is never shown.
    pub(crate) fn hidden(value: Value) -> Self {
        if is_masked(&value) {
            return Self::Refused(MASKED.into());
        }
        Self::Hidden(value)
    }

    /// Creates a field from a secret.
    pub(crate) fn secret(value: impl Into<SecretString>) -> Self {
        let value = value.into();
        if value.expose_secret().trim() == MASK {
            return Self::Refused(MASKED.into());
        }
        Self::Secret(value)
    }

    /// Creates a field from a URL or a source of files.
    pub(crate) fn address(value: impl Into<String>) -> Self {
        Self::Address(value.into())
    }

    /// Creates a field from the URL of a service, whose path may be secret.
    pub(crate) fn endpoint(value: impl Into<String>) -> Self {
        Self::Endpoint(value.into())
    }

    pub(crate) fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(why.into())
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(value) | Self::Hidden(value) => value.as_str(),
            Self::Address(text) | Self::Endpoint(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Plain(value) | Self::Hidden(value) => value.as_u64(),
            _ => None,
        }
    }

    /// Returns the `name` of an object.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Object(fields) => fields.text("name"),
            Self::Plain(json) | Self::Hidden(json) => json.get("name")?.as_str(),
            _ => None,
        }
    }

    /// Returns whether an object has a field with this name, ignoring case.
    pub(crate) fn has(&self, name: &str) -> bool {
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        match self {
            Self::Object(fields) => fields.names().any(same),
            Self::Plain(json) | Self::Hidden(json) => {
                let json = json.as_object();
                json.is_some_and(|json| json.keys().any(|other| same(other)))
            }
            _ => false,
        }
    }

    /// Returns the path of the first refused value below this one, and the reason.
    pub(super) fn refusal(&self) -> Option<(String, &str)> {
        match self {
            Self::Refused(why) => Some((String::new(), why)),
            Self::Object(fields) => fields.refusal(),
            Self::List(items) => items.iter().enumerate().find_map(|(index, item)| {
                let (path, why) = item.refusal()?;
                Some((format!("[{index}]{path}"), why))
            }),
            _ => None,
        }
    }
}

/// Returns whether a value contains the server's mask.
fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => text == MASK,
        Value::Array(items) => items.iter().any(is_masked),
        Value::Object(entries) => entries.values().any(is_masked),
        _ => false,
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

impl<T: Into<Field>> FromIterator<T> for Field {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) | Self::Hidden(value) => value.serialize(serializer),
            Self::Secret(secret) => serializer.serialize_str(secret.expose_secret()),
            Self::Address(text) | Self::Endpoint(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Object(fields) => fields.serialize(serializer),
            // An error here would make `serde_json::json!` panic. The server has no field that
            // accepts this object, and no request is created from it.
            Self::Refused(why) => {
                let mut refused = serializer.serialize_map(Some(1))?;
                refused.serialize_entry(REFUSED, why)?;
                refused.end()
            }
        }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => write!(f, "{value}"),
            Self::Hidden(_) => f.write_str("[hidden]"),
            Self::Secret(_) => f.write_str("[secret]"),
            Self::Address(text) => write!(f, "{:?}", redact::url(text)),
            Self::Endpoint(text) => write!(f, "{:?}", redact::origin(text)),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Object(fields) => fields.fmt(f),
            Self::Refused(why) => write!(f, "[invalid: {why}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        let address = Field::address("https://u:ca?nary@h/p?t=canary");
        assert_eq!(
            format!("{address:?}"),
            r#""https://<redacted>@h/p?<redacted>""#
        );
        let endpoint = Field::endpoint("https://h/s/canary/mcp");
        assert_eq!(format!("{endpoint:?}"), r#""https://h/<redacted>""#);
    }

    #[test]
    fn masks_are_found_at_any_depth_of_free_json() {
        let deep = json!({"a": [{"b": "**********"}]});
        for field in [Field::plain(&deep), Field::hidden(deep)] {
            assert!(matches!(field, Field::Refused(_)));
        }
    }
}
