//! Fields of generated types: those of the document, joined with what the plan says about them.

use serde_json::Value;

use super::{
    schema::{Property, Shape},
    terms::{Field, Kind, Module},
};
use crate::Result;

/// A field of a generated type.
pub(super) struct Member {
    pub(super) field: &'static Field,
    pub(super) property: Property,
}

impl Member {
    /// Joins the properties of a type with the fields of the plan. Each must have the other.
    pub(super) fn join(
        what: &str,
        properties: Vec<Property>,
        fields: &'static [Field],
    ) -> Result<Vec<Self>> {
        let mut properties = properties;
        let mut members = Vec::new();
        for field in fields {
            let found = properties.iter().position(|it| it.name == field.json);
            let at = found.ok_or_else(|| format!("{what}: no longer has `{}`", field.json))?;
            let property = properties.remove(at);
            if field.kind != Kind::Omitted {
                members.push(Self { field, property });
            }
        }
        match properties.first() {
            None => Ok(members),
            Some(new) => Err(format!("{what}: the plan does not have `{}`", new.name)),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.field.name
    }

    /// Returns whether the field may be absent.
    pub(super) fn is_optional(&self) -> bool {
        !self.property.required
    }

    /// Returns whether `Option` is part of the type.
    pub(super) fn is_option(&self, request: bool) -> bool {
        self.property.nullable || request && self.is_optional()
    }

    /// Returns whether the value is shown only in part, or not at all.
    pub(super) fn is_hidden(&self, module: &Module) -> bool {
        match self.field.kind {
            Kind::Plain => rust(&self.property.shape, module).contains("Value"),
            kind => matches!(kind, Kind::Address),
        }
    }

    /// Returns the type without `Option`.
    pub(super) fn inner(&self, module: &Module) -> String {
        match self.field.kind {
            Kind::Seconds => "std::time::Duration".to_owned(),
            Kind::Is(path) => path.to_owned(),
            Kind::Entries(path) => format!("std::collections::BTreeMap<String, {path}>"),
            _ => rust(&self.property.shape, module),
        }
    }

    /// Returns the type of the field.
    pub(super) fn of(&self, module: &Module, request: bool) -> String {
        let inner = self.inner(module);
        match self.is_option(request) && !self.is_map() {
            true => format!("Option<{inner}>"),
            false => inner,
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.field.kind, Kind::Entries(_))
    }

    /// Returns the attributes for serde, of a field of a type in a body.
    pub(super) fn attributes(&self) -> String {
        let mut all = Vec::new();
        if self.field.name != self.field.json {
            all.push(format!("rename = {:?}", self.field.json));
        }
        match &self.property.default {
            _ if self.property.required && !self.property.nullable => {}
            // A boolean that is true unless it is given.
            Value::Bool(true) if !self.property.nullable => {
                all.push("default = \"yes\"".to_owned());
            }
            _ => all.push("default".to_owned()),
        }
        if self.property.nullable {
            all.push("skip_serializing_if = \"Option::is_none\"".to_owned());
        }
        match all.is_empty() {
            true => String::new(),
            false => format!("#[serde({})]\n", all.join(", ")),
        }
    }

    /// Returns the parameter of a constructor and the value that it becomes.
    pub(super) fn parameter(&self, module: &Module) -> (String, String) {
        let name = self.name();
        let inner = self.inner(module);
        match (&self.property.shape, self.field.kind) {
            (_, Kind::Is(path)) => (format!("{name}: {path}"), name.to_owned()),
            (Shape::Text, _) => (
                format!("{name}: impl Into<String>"),
                format!("{name}: {name}.into()"),
            ),
            (Shape::List(item), _) => (
                format!("{name}: impl IntoIterator<Item = {}>", rust(item, module)),
                format!("{name}: {name}.into_iter().collect()"),
            ),
            _ => (format!("{name}: {inner}"), name.to_owned()),
        }
    }

    /// Returns the setter of a field that may be absent. In a request, `Option` is how the field is
    /// stored even if the value may not be null.
    pub(super) fn setter(&self, module: &Module, request: bool) -> String {
        let (name, inner) = (self.name(), self.inner(module));
        let wrap = |value: String| match self.is_option(request) {
            true => format!("Some({value})"),
            false => value,
        };
        let (parameters, set) = match (&self.property.shape, self.field.kind) {
            (_, Kind::Entries(path)) => (
                format!("name: impl Into<String>, {name}: impl Into<{path}>"),
                format!("self.{name}.insert(name.into(), {name}.into());"),
            ),
            (Shape::Text, Kind::Plain | Kind::Address) => (
                format!("{name}: impl Into<String>"),
                format!("self.{name} = {};", wrap(format!("{name}.into()"))),
            ),
            (Shape::List(item), _) => {
                let item = rust(item, module);
                let items = format!("{name}.into_iter().map(Into::into).collect()");
                (
                    format!("{name}: impl IntoIterator<Item = impl Into<{item}>>"),
                    format!("self.{name} = {};", wrap(items)),
                )
            }
            _ => (
                format!("{name}: {inner}"),
                format!("self.{name} = {};", wrap(name.to_owned())),
            ),
        };
        format!("pub fn {name}(mut self, {parameters}) -> Self {{ {set} self }}\n\n")
    }
}

/// Returns the Rust type of a shape. A type that is not in the plan is any JSON.
fn rust(shape: &Shape, module: &Module) -> String {
    match shape {
        Shape::Text => "String".to_owned(),
        Shape::Integer => "i64".to_owned(),
        Shape::Number => "f64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::List(item) => format!("Vec<{}>", rust(item, module)),
        Shape::Json => "serde_json::Value".to_owned(),
        Shape::Named(schema) => {
            let known = module.types.iter().find(|it| it.schema == schema);
            known.map_or("serde_json::Value".to_owned(), |it| it.name.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[Field {
        json: "name",
        name: "name",
        docs: "The name.",
        kind: Kind::Plain,
    }];

    fn property(name: &str) -> Property {
        Property {
            name: name.to_owned(),
            shape: Shape::Text,
            required: true,
            nullable: false,
            default: Value::Null,
            not_empty: false,
        }
    }

    #[test]
    fn the_plan_and_the_document_must_have_the_same_fields() {
        assert!(Member::join("T", vec![property("name")], FIELDS).is_ok());
        let new = vec![property("name"), property("new")];
        let fault = Member::join("T", new, FIELDS).err().unwrap();
        assert_eq!(fault, "T: the plan does not have `new`");
        let fault = Member::join("T", Vec::new(), FIELDS).err().unwrap();
        assert_eq!(fault, "T: no longer has `name`");
    }
}
