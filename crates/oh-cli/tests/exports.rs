//! Long runs, as text and as files.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

const ID: &str = "4b2b295f-30aa-4cd2-9d8b-7e314cdfb4b2";

/// Returns an event of a run whose agent executes commands.
fn event(number: usize) -> Value {
    let mut event = json!({"id": format!("event-{number}"), "timestamp": "2026-11-28T10:00:00"});
    let more = match number % 2 {
        0 => json!({"kind": "ActionEvent", "source": "agent", "tool_name": "terminal",
            "tool_call_id": format!("call-{number}"), "thought": [], "summary": "counts",
            "action": {"kind": "TerminalAction", "command": format!("echo {number}")}}),
        _ => json!({"kind": "ObservationEvent", "source": "environment", "tool_name": "terminal",
            "tool_call_id": format!("call-{}", number - 1),
            "action_id": format!("event-{}", number - 1),
            "observation": {"kind": "TerminalObservation", "exit_code": 0,
                "content": [{"type": "text", "text": format!("line {number}")}]}}),
    };
    let fields = event.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    event
}

/// Creates the record of a run. Returns its events as JSON lines.
fn recorded(state: &Path, events: usize) -> String {
    let place = state.join("runs").join(ID);
    fs::create_dir_all(&place).unwrap();
    let record = json!({"schema": 1, "conversation": ID, "status": "finished", "task": "Count.",
        "directory": "/", "server_version": "1.58.2", "model": "m", "started": 1, "seconds": 1.0,
        "tokens": 0, "events": events});
    fs::write(place.join("run.json"), record.to_string()).unwrap();
    let mut lines = String::new();
    for number in 0..events {
        writeln!(lines, "{}", event(number)).unwrap();
    }
    fs::write(place.join("events.jsonl"), &lines).unwrap();
    lines
}

fn output(state: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_oh"))
        .args(arguments)
        .env("OH_STATE_DIR", state)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn long_runs_are_exported_whole_and_in_order() {
    for events in [1_000, 20_000] {
        let state = tempfile::tempdir().unwrap();
        let lines = recorded(state.path(), events);
        assert!(output(state.path(), &["export", ID, "jsonl"]) == lines);
        for arguments in [
            &["export", ID, "html"][..],
            &["export", ID, "md"],
            &["show", ID],
        ] {
            let text = output(state.path(), arguments);
            // Each command and each line of output, once and in order.
            let mut rest = &*text;
            for number in (1..events).step_by(2) {
                let line = format!("line {number}");
                let Some(place) = rest.find(&line) else {
                    panic!("{arguments:?}: `{line}` is missing or misplaced");
                };
                rest = &rest[place + line.len()..];
            }
            let count = text.matches("echo 998").count();
            assert_eq!(count, if events > 1_000 { 6 } else { 1 }, "{arguments:?}");
        }
    }
}
