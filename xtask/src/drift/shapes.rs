//! The shapes of recorded fixtures: which fields each kind of message has, and of which types.
//! Values are left out, because ids, times and texts differ with each record.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::compare::{Fields, Part};

/// Returns the shapes of all fixtures in a directory, by file and kind.
pub(crate) fn of_directory(directory: &Path) -> Result<Part, String> {
    let failed = |error| format!("cannot read {}: {error}", directory.display());
    let mut shapes = Part::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&path).map_err(failed)?;
        let documents = match name.ends_with(".jsonl") {
            true => text.lines().collect(),
            false => vec![text.as_str()],
        };
        add(&name, &documents, &mut shapes)?;
    }
    Ok(shapes)
}

/// Adds the shapes of the documents of a file.
fn add(file: &str, documents: &[&str], shapes: &mut Part) -> Result<(), String> {
    for document in documents {
        let value: Value =
            serde_json::from_str(document).map_err(|error| format!("{file}: {error}"))?;
        let fields = shapes
            .entry(format!("{file} {}", kind(&value)).trim_end().to_owned())
            .or_default();
        add_value("", &value, fields);
    }
    Ok(())
}

/// Returns the kind of a message: the request that it answers, its type, the kinds of its event.
fn kind(value: &Value) -> String {
    let event = value.get("event").unwrap_or(value);
    let parts = [
        &value["operation"],
        &value["status"],
        &value["type"],
        &event["kind"],
        &event["action"]["kind"],
        &event["observation"]["kind"],
        &event["key"],
    ];
    let parts = parts.into_iter().filter_map(|part| match part {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// Adds the types of a value and of all values in it. A path has several types if values differ.
fn add_value(path: &str, value: &Value, fields: &mut Fields) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = fields.entry(path.to_owned()).or_default();
    let mut all: BTreeSet<&str> = types.split(" | ").filter(|one| !one.is_empty()).collect();
    all.insert(name);
    *types = all.into_iter().collect::<Vec<_>>().join(" | ");
    match value {
        Value::Array(items) => {
            for item in items {
                add_value(&format!("{path}[]"), item, fields);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let name = if is_id(name) { "*" } else { name };
                let path = match path {
                    "" => name.to_owned(),
                    path => format!("{path}.{name}"),
                };
                add_value(&path, member, fields);
            }
        }
        _ => {}
    }
}

/// Returns whether a name is a value, such as an id.
fn is_id(name: &str) -> bool {
    name.len() >= 32 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_kind_share_a_shape_and_values_do_not_count() {
        let mut shapes = Part::new();
        let lines = [
            r#"{"type":"event","event":{"kind":"A","id":"1","note":null}}"#,
            r#"{"type":"event","event":{"kind":"A","id":"2","note":"x","list":[{"n":1}]}}"#,
            r#"{"type":"event","event":{"kind":"B"}}"#,
        ];
        add("frames.jsonl", &lines, &mut shapes).unwrap();
        let names: Vec<_> = shapes.keys().collect();
        assert_eq!(names, ["frames.jsonl event A", "frames.jsonl event B"]);
        let fields = &shapes["frames.jsonl event A"];
        assert_eq!(fields["event.note"], "null | string");
        assert_eq!(fields["event.list[].n"], "number");
    }

    #[test]
    fn a_changed_type_changes_the_shape() {
        let shape = |line: &str| {
            let mut shapes = Part::new();
            add("file.json", &[line], &mut shapes).unwrap();
            shapes
        };
        assert_eq!(shape(r#"{"a":1}"#), shape(r#"{"a":2}"#));
        assert_ne!(shape(r#"{"a":1}"#), shape(r#"{"a":"1"}"#));
        let id = "0a6f1f1e-7a6e-4c0e-9a56-2f2f6d5a1b2c";
        let other = id.replace('0', "1");
        assert_eq!(
            shape(&format!(r#"{{"{id}":1}}"#)),
            shape(&format!(r#"{{"{other}":1}}"#))
        );
    }
}
