//! Reads the OpenAPI document: operations, and the shapes of their data.

use serde_json::{Map, Value};

use crate::Result;

/// The document, or the part of it that is needed.
pub(super) struct Document(Value);

/// The shape of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Text,
    Integer,
    Number,
    Bool,
    /// A type with this name in the document.
    Named(String),
    List(Box<Shape>),
    /// Any JSON.
    Json,
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// Whether the value may be null.
    pub(super) nullable: bool,
    /// The default. Null if there is none.
    pub(super) default: Value,
    /// Whether an empty text is invalid.
    pub(super) not_empty: bool,
}

/// Where a parameter belongs.
#[derive(PartialEq)]
pub(super) enum Place {
    Path,
    Query,
}

impl Document {
    pub(super) fn new(json: Value) -> Self {
        Self(json)
    }

    /// Returns the operation with this method and route.
    fn operation(&self, operation: &str) -> Result<&Value> {
        let (method, route) = operation
            .split_once(' ')
            .ok_or_else(|| format!("`{operation}` must be a method and a route"))?;
        let found = &self.0["paths"][route][method.to_lowercase()];
        match found.is_object() {
            true => Ok(found),
            false => Err(format!("the document does not have {operation}")),
        }
    }

    /// Returns the parameters of an operation, all of which must be required.
    pub(super) fn parameters(&self, operation: &str) -> Result<Vec<(Place, Property)>> {
        let given = self.operation(operation)?["parameters"].as_array();
        let mut parameters = Vec::new();
        for parameter in given.into_iter().flatten() {
            let place = match parameter["in"].as_str() {
                Some("path") => Place::Path,
                Some("query") => Place::Query,
                other => return Err(format!("{operation}: a parameter in {other:?}")),
            };
            let name = parameter["name"].as_str().unwrap_or_default();
            let property = property(name, &parameter["schema"], true)?;
            if parameter["required"] != true || property.shape != Shape::Text {
                return Err(format!("{operation}: {name} must be a required text"));
            }
            parameters.push((place, property));
        }
        Ok(parameters)
    }

    /// Returns the name of the type of an operation's body.
    pub(super) fn body(&self, operation: &str) -> Result<Option<String>> {
        let content = &self.operation(operation)?["requestBody"]["content"];
        named(&content["application/json"]["schema"])
    }

    /// Returns the name of the type of an operation's response.
    pub(super) fn response(&self, operation: &str) -> Result<Option<String>> {
        let responses = self.operation(operation)?["responses"].as_object();
        let mut responses = responses.into_iter().flatten();
        let success = responses.find(|(status, _)| status.starts_with('2'));
        let schema = success.map(|(_, it)| &it["content"]["application/json"]["schema"]);
        schema.map_or(Ok(None), named)
    }

    /// Returns the fields of a type.
    pub(super) fn properties(&self, schema: &str) -> Result<Vec<Property>> {
        let found = &self.0["components"]["schemas"][schema];
        let fields = found["properties"]
            .as_object()
            .ok_or_else(|| format!("the document does not have the object {schema}"))?;
        let required = found["required"].as_array();
        let is_required = |name: &str| {
            let mut required = required.into_iter().flatten();
            required.any(|other| other == name)
        };
        let read = |(name, schema): (&String, &Value)| property(name, schema, is_required(name));
        fields.iter().map(read).collect()
    }

    /// Returns the part of the document that these operations need, without texts for people.
    pub(super) fn cut(&self, operations: &[&str], types: &[&str]) -> Result<Value> {
        let mut paths = Map::new();
        let mut schemas = Map::new();
        for operation in operations {
            let (method, route) = operation.split_once(' ').unwrap_or_default();
            let found = self.operation(operation)?;
            let kept = ["parameters", "requestBody", "responses"];
            let kept = kept.map(|name| (name.to_owned(), found[name].clone()));
            let path = paths.entry(route).or_insert_with(|| Map::new().into());
            path[method.to_lowercase()] = kept.into_iter().collect::<Map<_, _>>().into();
            for name in [self.body(operation)?, self.response(operation)?] {
                schemas.extend(name.map(|name| self.schema(&name)));
            }
        }
        schemas.extend(types.iter().map(|name| self.schema(name)));
        let mut cut = serde_json::json!({
            "info": self.0["info"], "paths": paths, "components": {"schemas": schemas},
        });
        without_texts(&mut cut);
        Ok(cut)
    }

    fn schema(&self, name: &str) -> (String, Value) {
        let found = self.0["components"]["schemas"][name].clone();
        (name.to_owned(), found)
    }
}

/// Removes the texts for people, at every depth.
fn without_texts(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A schema may have a property with such a name, whose value is an object.
            fields.retain(|name, value| {
                let text = matches!(name.as_str(), "description" | "title" | "summary");
                let internal = name.starts_with("openhands_settings");
                !(value.is_null() || internal || text && value.is_string())
            });
            fields.values_mut().for_each(without_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(without_texts),
        _ => {}
    }
}

/// Returns the name of a type that a schema refers to.
fn named(schema: &Value) -> Result<Option<String>> {
    match &schema["$ref"] {
        Value::Null if schema.is_null() => Ok(None),
        Value::String(path) => Ok(path.rsplit('/').next().map(str::to_owned)),
        _ => Err(format!("a body must have a name: {schema}")),
    }
}

fn property(name: &str, schema: &Value, required: bool) -> Result<Property> {
    let default = schema["default"].clone();
    let (schema, nullable) = match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([schema, null]) if null["type"] == "null" => (schema, true),
        Some(_) => return Err(format!("{name}: not supported: {schema}")),
        None => (schema, false),
    };
    Ok(Property {
        name: name.to_owned(),
        shape: shape(schema),
        required,
        nullable,
        default,
        not_empty: schema["minLength"].as_u64() > Some(0),
    })
}

fn shape(schema: &Value) -> Shape {
    if let Ok(Some(name)) = named(schema) {
        return Shape::Named(name);
    }
    match schema["type"].as_str() {
        Some("string") => Shape::Text,
        Some("integer") => Shape::Integer,
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Bool,
        Some("array") => Shape::List(Box::new(shape(&schema["items"]))),
        _ => Shape::Json,
    }
}
