//! Commands for a server's stored state, without a server.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::{Command, Stdio};

/// Runs `oh` without any state; returns its exit code and its errors.
fn oh(arguments: &[&str]) -> (Option<i32>, String) {
    with(None, arguments)
}

/// Runs `oh` with a variable, without any state; returns its exit code and its errors.
fn with(variable: Option<(&str, &str)>, arguments: &[&str]) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_oh"))
        .args(arguments)
        .env("OH_STATE_DIR", home.path())
        .env_remove("OH_SERVER")
        .envs(variable)
        .env_remove("LLM_MODEL")
        .env_remove("OH_UNSET")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

#[test]
fn without_a_server_that_keeps_state_the_advice_is_to_start_one() {
    for arguments in [
        &["profiles", "ls"][..],
        &["profiles", "show", "a"],
        &["profiles", "rm", "a"],
        &["profiles", "set", "a", "--model", "m"],
        &["secrets", "ls"],
        &["secrets", "set", "A"],
        &["secrets", "rm", "A"],
        &["mcp", "ls"],
        &["mcp", "add", "a", "--", "true"],
        &["mcp", "test", "a"],
        &["mcp", "rm", "a"],
    ] {
        let (code, errors) = oh(arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {errors}");
        assert!(
            errors.contains("start it with `oh up`"),
            "{arguments:?}: {errors}"
        );
    }
}

#[test]
fn incomplete_descriptions_are_rejected() {
    for (arguments, expected, code) in [
        (&["mcp", "add", "a"][..], "required", 2),
        (&["mcp", "add", "--url", "http://h/"], "<NAME>", 2),
        (
            &["mcp", "add", "a", "--url", "http://h/", "--", "true"],
            "cannot be used",
            2,
        ),
        (
            &["mcp", "add", "a", "--env", "B", "--url", "http://h/"],
            "cannot be used",
            2,
        ),
        (
            &["mcp", "add", "a", "--env", "OH_UNSET", "--", "true"],
            "OH_UNSET is not set",
            3,
        ),
        (
            &["mcp", "add", "--file", "/none.json"],
            "cannot use /none.json",
            3,
        ),
        (&["profiles", "set", "a"], "LLM_MODEL", 3),
        // The value of a secret is never an argument.
        (&["secrets", "set", "A", "value"], "unexpected argument", 2),
    ] {
        let (found, errors) = oh(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[test]
fn the_server_of_the_environment_is_used() {
    let server = Some(("OH_SERVER", "http://127.0.0.1:9"));
    let (code, errors) = with(server, &["secrets", "ls"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("127.0.0.1:9"), "{errors}");
}
