//! The common representation of all configuration types: named fields, each with a value that may
//! be secret or invalid.

use std::{borrow::Cow, fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{Error, Result, redact, time::whole_seconds};

/// The server's mask for a secret. Sending the mask back would remove the real secret.
pub(crate) const MASK: &str = "**********";

/// The key of the object that replaces a refused value in the serialized form.
pub(crate) const REFUSED: &str = "oh-protocol: refused value";

pub(crate) const MASKED: &str = "the server's mask `**********` is not a secret: set the real \
                                 value, or omit the field";

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

    /// Creates a field with a number of seconds, which may have a fraction.
    pub(crate) fn seconds(time: Duration) -> Self {
        Self::plain(time.as_secs_f64())
    }

    /// Creates a field with a number of whole seconds, rounded up.
    pub(crate) fn whole_seconds(time: Duration) -> Self {
        Self::plain(whole_seconds(time))
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

    /// Returns the JSON of the field with this name, without secrets. Returns `None` for a refused
    /// value.
    pub(crate) fn readable(&self, name: &str) -> Option<Value> {
        Some(match self {
            Self::Plain(value) => value.clone(),
            Self::Hidden(value) => {
                let mut whole = serde_json::json!({ name: value });
                redact::json(&mut whole);
                whole[name].take()
            }
            Self::Secret(_) => MASK.into(),
            Self::Address(text) | Self::Endpoint(text) => redact::url(text).into(),
            Self::List(items) => items
                .iter()
                .filter_map(|item| item.readable(name))
                .collect(),
            Self::Object(fields) => {
                let entries = fields.entries.iter();
                let entries = entries
                    .filter_map(|(name, field)| Some((name.to_string(), field.readable(name)?)));
                Value::Object(entries.collect())
            }
            Self::Refused(_) => return None,
        })
    }

    /// Returns the path of the first refused value below this one, and the reason.
    fn refusal(&self) -> Option<(String, &str)> {
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
    mask_path(value).is_some()
}

/// Returns the path of the server's mask in a value, such as `.llm.api_key`.
fn mask_path(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (text == MASK).then(String::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let path = mask_path(item)?;
            Some(format!("[{index}]{path}"))
        }),
        Value::Object(entries) => entries.iter().find_map(|(name, value)| {
            let path = mask_path(value)?;
            Some(format!(".{name}{path}"))
        }),
        _ => None,
    }
}

/// Checks that free-form JSON does not contain the server's mask, which would remove the real
/// secret. `name` is the name of the value in the error.
pub(crate) fn check_unmasked(name: &str, value: &Value) -> Result<()> {
    match mask_path(value) {
        Some(path) => Err(Error::invalid(format!("{name}{path}: {MASKED}"))),
        None => Ok(()),
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

/// Named fields in the order in which they were first set. A later value replaces an earlier one.
#[derive(Clone)]
pub(crate) struct Fields {
    of: &'static str,
    entries: Vec<(Cow<'static, str>, Field)>,
}

impl Fields {
    /// Creates an empty set of fields for a type with this name. An empty name means a map.
    pub(crate) fn of(name: &'static str) -> Self {
        Self {
            of: name,
            entries: Vec::new(),
        }
    }

    /// Creates fields from a JSON object. None of the values may be shown.
    pub(crate) fn from_json(name: &'static str, json: Value) -> Result<Self> {
        let Value::Object(entries) = json else {
            return Err(Error::invalid(format!("{name}: must be a JSON object")));
        };
        let hide = |(name, value): (String, _)| (name.into(), Field::hidden(value));
        Ok(Self {
            of: name,
            entries: entries.into_iter().map(hide).collect(),
        })
    }

    pub(crate) fn put(&mut self, name: impl Into<Cow<'static, str>>, field: impl Into<Field>) {
        *self.slot(name.into()) = field.into();
    }

    /// Sets the first field and returns `self`, for builders.
    pub(crate) fn with(mut self, name: &'static str, field: impl Into<Field>) -> Self {
        self.put(name, field);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        let found = self.entries.iter().find(|(known, _)| known == name);
        found.map(|(_, field)| field)
    }

    /// Removes a field and returns it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Field> {
        let at = self.entries.iter().position(|(known, _)| known == name)?;
        Some(self.entries.remove(at).1)
    }

    pub(crate) fn fields_mut(&mut self) -> impl Iterator<Item = &mut Field> {
        self.entries.iter_mut().map(|(_, field)| field)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| &**name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Field::text)
    }

    /// Returns the list with this name, if it exists.
    pub(crate) fn list(&mut self, name: &str) -> Option<&mut Vec<Field>> {
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, Field::List(items))) => Some(items),
            _ => None,
        }
    }

    /// Appends an item to the list with this name.
    pub(crate) fn push(&mut self, name: &'static str, item: impl Into<Field>) {
        let slot = self.slot(name.into());
        let mut items = match std::mem::replace(slot, Field::Plain(Value::Null)) {
            Field::List(items) => items,
            Field::Plain(Value::Array(items)) => items.into_iter().map(Field::Plain).collect(),
            Field::Hidden(Value::Array(items)) => items.into_iter().map(Field::Hidden).collect(),
            _ => Vec::new(),
        };
        items.push(item.into());
        *slot = Field::List(items);
    }

    /// Appends an object to the list with this name. The `name` of the object must be unique in the
    /// list.
    pub(crate) fn push_named(&mut self, list: &'static str, item: impl Into<Field>) {
        let item = item.into();
        let double = item.name().filter(|name| match self.get(list) {
            Some(Field::List(items)) => items.iter().any(|other| other.name() == Some(name)),
            Some(Field::Plain(Value::Array(items)) | Field::Hidden(Value::Array(items))) => {
                items.iter().any(|other| other["name"] == **name)
            }
            _ => false,
        });
        let item = match double {
            Some(name) => Field::refused(format!("the name `{name}` is already in use")),
            None => item,
        };
        self.push(list, item);
    }

    /// Adds an entry to the map with this name.
    pub(crate) fn insert(
        &mut self,
        name: &'static str,
        key: impl Into<String>,
        value: impl Into<Field>,
    ) {
        let slot = self.slot(name.into());
        let mut map = match std::mem::replace(slot, Field::Plain(Value::Null)) {
            Field::Object(fields) => fields,
            Field::Plain(json) | Field::Hidden(json) => {
                Self::from_json("", json).unwrap_or_else(|_| Self::of(""))
            }
            _ => Self::of(""),
        };
        map.put(key.into(), value);
        *slot = Field::Object(map);
    }

    fn slot(&mut self, name: Cow<'static, str>) -> &mut Field {
        let known = self.entries.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            self.entries.push((name, Field::Plain(Value::Null)));
            self.entries.len() - 1
        });
        &mut self.entries[index].1
    }

    /// Returns an error for the first value that breaks a rule, with its path.
    pub(crate) fn check(&self) -> Result<()> {
        match self.refusal() {
            Some((path, why)) => Err(Error::invalid(format!(
                "{}: {why}",
                path.strip_prefix('.').unwrap_or(&path)
            ))),
            None => Ok(()),
        }
    }

    fn refusal(&self) -> Option<(String, &str)> {
        self.entries.iter().find_map(|(name, field)| {
            let (path, why) = field.refusal()?;
            let name = if name.is_empty() { "\"\"" } else { name };
            Some((format!(".{name}{path}"), why))
        })
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, field) in &self.entries {
            map.serialize_entry(name, field)?;
        }
        map.end()
    }
}

/// Fields are equal if the server would get the same JSON, in any order of the names.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        match (serde_json::to_value(self), serde_json::to_value(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of.is_empty() {
            let entries = self.entries.iter().map(|(name, field)| (name, field));
            return f.debug_map().entries(entries).finish();
        }
        let mut shown = f.debug_struct(self.of);
        for (name, field) in &self.entries {
            shown.field(name, field);
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_invalid_value_is_reported_by_path_and_never_sent() {
        let inner = Fields::of("I").with("key", Field::secret(" ********** "));
        let mut fields = Fields::of("F");
        fields.put("fine", Field::plain(1));
        fields.push("list", Field::plain(2));
        fields.push("list", Field::Object(inner));
        let error = fields.check().unwrap_err().to_string();
        assert!(
            error.starts_with("list[1].key: the server's mask"),
            "{error}"
        );
        // `json!` would panic if serialization returned an error.
        let body = json!({"in": [fields]});
        assert!(body["in"][0]["list"][1]["key"].is_object(), "{body}");
        let request = crate::Request::new(http::Method::POST, "/x").json(&body);
        assert_eq!(request.unwrap_err().kind(), crate::ErrorKind::Encode);
    }

    #[test]
    fn a_later_value_replaces_an_invalid_one() {
        let mut fields = Fields::of("F").with("key", Field::secret("**********"));
        fields.put("key", Field::secret("real"));
        fields.check().unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"key":"real"}"#);
    }

    #[test]
    fn lists_and_maps_that_were_set_whole_can_grow() {
        let mut fields = Fields::of("F");
        fields.put("list", Field::plain(["a"]));
        fields.push("list", Field::plain("b"));
        fields.put("map", Field::hidden(json!({"a": 1})));
        fields.insert("map", "b", Field::plain(2));
        let wire = serde_json::to_value(&fields).unwrap();
        assert_eq!(wire, json!({"list": ["a", "b"], "map": {"a": 1, "b": 2}}));
    }

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
