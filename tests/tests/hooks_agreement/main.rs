//! Compares patterns, rules and verdicts with the server's own Python, on tables and on random
//! input. Both sides must agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod rules;
mod verdicts;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use openhands::{
    HookMatcher,
    hooks::{ErrorKind, matches},
    process::Provisioner,
};
use serde_json::{Value, json};

/// Returns the last line that a program prints in the server's Python.
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
    let input = input.to_string();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

const PATTERNS: [&str; 45] = [
    "*",
    "",
    "terminal",
    "Terminal",
    "/terminal/",
    "/term/",
    "term",
    "term.*",
    "/.*nal/",
    "Edit|Write",
    "/Edit|Write/",
    "file_(edit|read)",
    "[",
    "/[/",
    "*foo",
    "a**",
    "//",
    "/",
    "///",
    "(?i)TERMINAL",
    "^terminal$",
    "^terminal\\Z",
    "a|ab",
    "\\w+",
    "mcp__.*__x",
    ".",
    "(?!terminal).*",
    ".*(?<!Write)",
    "(.)\\1",
    "(?P<x>.)(?P=x)",
    "(?:ab?)++",
    "(?>a|ab)",
    "a{1,2}+",
    "a{2}{3}",
    "\\**",
    "\\pL+",
    "(?<n>a)",
    "a(?i)b",
    "[a&&b]",
    "(?#all).*",
    "(?x) terminal # only",
    "\\d",
    "\\s",
    "(?a)\\w+",
    "\\u0061b",
];
const TOOLS: [Option<&str>; 22] = [
    None,
    Some("terminal"),
    Some("TERMINAL"),
    Some("terminal\n"),
    Some("browser"),
    Some("Edit"),
    Some("EditWrite"),
    Some("file_edit"),
    Some("["),
    Some("*foo"),
    Some("a**"),
    Some("***"),
    Some("//"),
    Some("/"),
    Some("ab"),
    Some("aa"),
    Some("aaa"),
    Some("mcp__é__x"),
    Some("٣"),
    Some("\u{1c}"),
    Some("a&b"),
    Some(""),
];

#[tokio::test]
async fn patterns_agree_with_the_server() {
    let table: Vec<_> = PATTERNS
        .iter()
        .flat_map(|pattern| TOOLS.iter().map(move |tool| (*pattern, *tool)))
        .collect();
    let asked = json!({"table": table, "seed": 9, "count": 40_000});
    let theirs = python(include_str!("patterns.py"), &asked).await;
    let theirs: Vec<(String, Option<String>, Value)> = serde_json::from_value(theirs).unwrap();
    assert!(theirs.len() > 40_000);
    let (mut undecided, mut matched) = (0, 0);
    for (index, (pattern, tool, theirs)) in theirs.iter().enumerate() {
        let about = format!("pattern {pattern:?}, tool {tool:?}");
        match matches(&HookMatcher::new(pattern), tool.as_deref()) {
            Ok(ours) => assert_eq!(json!(ours), *theirs, "{about}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{about}");
                assert!(index >= table.len(), "{about}: {error}");
                // `\B` and `\z` differ between Python versions. Patterns with them are always
                // undecided and do not count.
                undecided += usize::from(!pattern.contains(r"\B") && !pattern.contains(r"\z"));
            }
        }
        matched += usize::from(*theirs == true);
    }
    assert!(matched > theirs.len() / 50, "only {matched} match at all");
    assert!(undecided < theirs.len() / 100, "{undecided} are left open");
}
