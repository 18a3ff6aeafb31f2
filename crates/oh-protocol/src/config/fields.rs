//! The common representation of all configuration types: named fields, and the path to an invalid
//! value. Contains no specific configuration type.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

pub(crate) use super::field::Field;
use crate::{Error, Result};

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

    pub(super) fn refusal(&self) -> Option<(String, &str)> {
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
    fn a_refused_value_is_found_by_its_path_and_is_in_no_request() {
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
    fn a_later_value_replaces_a_refused_one() {
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
}
