//! Compares the configuration with the server's own Python: the same fields, the same values.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod full;
mod kinds;
mod live;
mod presets;
mod rules;
mod schema;
mod sources;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use openhands::process::Provisioner;
use serde_json::Value;

/// Runs a program with the server's interpreter and returns its last line.
async fn python(program: &str, input: &Value) -> Value {
    let environment = Provisioner::new().provision().await.unwrap();
    let mut child = Command::new(environment.python())
        .args(["-c", &format!("{}\n{program}", openhands_tests::TIDY)])
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

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
