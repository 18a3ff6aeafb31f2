//! Compares the configuration with the server's own Python: the same fields, the same values.

mod full;
mod kinds;
mod live;
mod presets;
mod rules;
mod schema;
mod sources;

use openhands_tests::python;
use serde_json::Value;

/// Records where `ours` differs from `theirs`. Fields that only `theirs` has do not count.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                let theirs = theirs.get(key).unwrap_or(&Value::Null);
                differences(&format!("{path}.{key}"), value, theirs, found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                differences(&format!("{path}[{index}]"), ours, theirs, found);
            }
        }
        // Python writes 1 for 1.0 or the other way round.
        (Value::Number(ours), Value::Number(theirs)) if ours.as_f64() == theirs.as_f64() => {}
        _ if ours == theirs => {}
        _ => found.push(format!("{path}: {ours} here, {theirs} there")),
    }
}
