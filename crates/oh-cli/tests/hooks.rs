//! `oh hooks`, without a server.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Creates a project with these hooks.
fn project(hooks: &str) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join(".openhands")).unwrap();
    fs::write(place.path().join(".openhands/hooks.json"), hooks).unwrap();
    place
}

/// Runs `oh hooks` in a directory; returns its exit code, its output and its errors.
fn hooks(place: &Path, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_oh"))
        .arg("hooks")
        .args(arguments)
        .current_dir(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A guard that denies `rm`, and a hook that only observes.
const GUARD: &str = r#"{"hooks": {
    "PreToolUse": [{"matcher": "terminal", "hooks": [
        {"type": "command", "command": "! grep -q 'rm -rf' || { echo 'never rm' >&2; exit 2; }"}]}],
    "PostToolUse": [{"hooks": [{"type": "command", "command": "cat; exit 2"}]}],
    "Stop": [{"hooks": [{"type": "prompt", "prompt": "Are the tests green?"}]}]}}"#;

#[test]
fn check_fails_for_settings_without_effect() {
    let place = project(GUARD);
    let (code, output, errors) = hooks(place.path(), &["check"], "");
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.contains("3 hooks, no errors"), "{output}");

    let doubtful = r#"{"PreToolUse": [
        {"matcher": "github_search", "hooks": [{"command": "x"}]}]}"#;
    let place = project(doubtful);
    let (code, output, _) = hooks(place.path(), &["check"], "");
    assert_eq!(code, Some(0));
    assert!(output.starts_with("warning: pre_tool_use[0]: "), "{output}");
    let (_, output, _) = hooks(place.path(), &["check", "--tool", "github_search"], "");
    assert!(!output.contains("warning"), "{output}");

    let misspelt = r#"{"Stop": [{"hooks": [{"command": "x", "timout\u001b": 3}]}]}"#;
    let place = project(misspelt);
    let (code, output, errors) = hooks(place.path(), &["check"], "");
    assert_eq!(code, Some(3), "{output}");
    assert!(
        output.starts_with("error: ") && output.contains("timout"),
        "{output}"
    );
    assert!(!output.contains('\u{1b}'), "{output:?}");
    assert!(errors.contains("1 errors"), "{errors}");
    let (code, output, _) = hooks(place.path(), &["check", "--json"], "");
    let finding: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &finding["severity"]), (Some(3), &json!("error")));
}

#[test]
fn a_file_that_the_server_rejects_is_reported_with_its_place() {
    let place = project("{\n\"Stop\": [,]}");
    for arguments in [&["check"][..], &["dry-run", "--event", "Stop"]] {
        let (code, output, errors) = hooks(place.path(), arguments, "");
        assert_eq!((code, &*output), (Some(3), ""), "{errors}");
        assert!(errors.contains(".openhands/hooks.json: "), "{errors}");
        assert!(errors.contains("line 2"), "{errors}");
        let (code, _, errors) = hooks(Path::new("/"), arguments, "");
        assert_eq!(code, Some(3), "{errors}");
        assert!(
            errors.contains(".openhands/hooks.json: No such file"),
            "{errors}"
        );
    }
}

#[test]
fn dry_run_ends_with_the_verdict() {
    let place = project(GUARD);
    let run = |arguments: &[&str], stdin: &str| {
        let all = [&["dry-run", "--event"], arguments].concat();
        hooks(place.path(), &all, stdin)
    };
    let (code, output, _) = run(
        &[
            "PreToolUse",
            "--tool",
            "terminal",
            "--input",
            r#"{"command": "rm -rf x"}"#,
        ],
        "",
    );
    assert_eq!(code, Some(5), "{output}");
    assert!(
        output.contains("PreToolUse is denied: never rm"),
        "{output}"
    );

    // The same from stdin, in the spelling of the file, for a program.
    let (code, output, _) = run(
        &[
            "pre_tool_use",
            "--tool",
            "terminal",
            "--input",
            "-",
            "--json",
        ],
        r#"{"command": "rm -rf x"}"#,
    );
    assert_eq!(code, Some(5), "{output}");
    let verdict: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(verdict["denied"], true);
    assert_eq!(verdict["feedback"], "never rm");
    assert_eq!(verdict["hooks"][0]["exit_code"], 2);

    let (code, output, _) = run(&["PreToolUse", "--tool", "terminal"], "");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("PreToolUse is allowed"), "{output}");
    let (code, output, _) = run(&["PreToolUse", "--tool", "file_editor"], "");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("no hook matches"), "{output}");

    // A hook after a tool gets the response, and cannot deny.
    let (code, output, _) = run(
        &[
            "PostToolUse",
            "--tool",
            "terminal",
            "--response",
            r#"{"exit_code": 7}"#,
        ],
        "",
    );
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(r#""exit_code":7"#), "{output}");

    let (code, output, _) = run(&["Stop"], "");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("No LLM configured"), "{output}");
    let (code, output, _) = run(&["Stop", "--reply", r#"{"decision": "deny"}"#], "");
    assert_eq!(code, Some(5), "{output}");
}

#[test]
fn input_that_does_not_fit_the_event_is_rejected() {
    let place = project(GUARD);
    for (arguments, expected) in [
        (&["PreCompact"][..], "invalid value 'PreCompact'"),
        (&["PreToolUse"], "PreToolUse needs --tool NAME"),
        (&["Stop", "--tool", "terminal"], "Stop has no tool"),
        (&["Stop", "--message", "x"], "Stop has no message"),
        (&["Stop", "--input", "{}"], "--tool"),
        (
            &["PreToolUse", "--tool", "t", "--response", "{}"],
            "has no response",
        ),
        (
            &["PreToolUse", "--tool", "t", "--input", "rm"],
            "--input is not valid JSON",
        ),
        (
            &["PreToolUse", "--tool", "t", "--input", "[]"],
            "--input must be a JSON object",
        ),
        (
            &[
                "PostToolUse",
                "--tool",
                "t",
                "--input",
                "-",
                "--response",
                "-",
            ],
            "only one of",
        ),
    ] {
        let all = [&["dry-run", "--event"], arguments].concat();
        let (code, output, errors) = hooks(place.path(), &all, "");
        assert_eq!((code, &*output), (Some(2), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
    let missing = [
        "dry-run",
        ".openhands/hooks.json",
        "--event",
        "Stop",
        "--dir",
        "none",
    ];
    let (code, _, errors) = hooks(place.path(), &missing, "");
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("none is not a directory"), "{errors}");
}
