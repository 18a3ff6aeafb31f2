//! Runs to their end.

use std::{fs, process::Command};

use openhands::{
    secrecy::ExposeSecret as _,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use serde_json::{Value, json};

use super::{Running, oh, on};

async fn model(script: Script) -> ScriptedModel {
    let builder = ScriptedModel::builder().script(script);
    builder.start().await.unwrap()
}

/// Returns what the command writes to stdout, if it succeeds.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

// The only test with an own server of `oh`, which takes long to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_a_record_and_can_be_continued() {
    let home = openhands_tests::home();
    let place = home.path().join("work");
    fs::create_dir(&place).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&place)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        output(git.args(arguments))
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "begin"]);
    let script = Script::new()
        .call("terminal", json!({"command": "echo written > new.txt"}))
        .finish("All done.")
        .finish("Done again.");
    let model = model(script).await;

    let mut command = oh(home.path(), &model);
    command
        .args(["run", "Write a file.", "--json"])
        .current_dir(&place);
    let running = Running::start(&mut command);
    let started = running.line("started");
    let id = started["conversation"].as_str().unwrap().to_owned();
    let (code, last, errors) = running.end();
    assert_eq!(code, 0, "{errors}");
    assert_eq!(last["type"], "ended");
    assert_eq!(last["answer"], "All done.");
    assert_eq!(last["record"]["status"], "finished");

    let record = home.path().join("state/runs").join(&id);
    assert_eq!(started["record"], record.to_str().unwrap());
    assert_eq!(
        fs::read_to_string(record.join("final.txt")).unwrap(),
        "All done."
    );
    let patch = fs::read_to_string(record.join("patch.diff")).unwrap();
    assert!(patch.contains("+written"), "{patch}");
    let stored: Value =
        serde_json::from_slice(&fs::read(record.join("run.json")).unwrap()).unwrap();
    assert_eq!(stored, last["record"]);
    let count = |text: &str| text.lines().count();
    let events = fs::read_to_string(record.join("events.jsonl")).unwrap();
    assert_eq!(
        count(&events),
        last["record"]["events"].as_u64().unwrap() as usize
    );

    let listed = output(oh(home.path(), &model).arg("ls"));
    assert!(
        listed.contains(&id) && listed.contains("finished"),
        "{listed}"
    );
    let shown = output(oh(home.path(), &model).args(["show", &id[..8]]));
    assert!(shown.contains("All done."), "{shown}");
    let export = |format| output(oh(home.path(), &model).args(["export", &id, format]));
    assert_eq!(export("jsonl"), events);
    assert!(export("md").contains("All done."));
    let page = export("html");
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("All done."),
        "{page}"
    );

    // Without a model: the conversation has its own.
    let mut command = oh(home.path(), &model);
    command.env_remove("LLM_MODEL").env_remove("LLM_API_KEY");
    command.args(["run", "Once more.", "--json", "--resume", &id[..8]]);
    let running = Running::start(&mut command);
    let first = running.line("event");
    assert!(
        first["seq"].as_u64().unwrap() as usize >= count(&events),
        "{first}"
    );
    let (code, last, errors) = running.end();
    assert_eq!(code, 0, "{errors}");
    assert_eq!(last["answer"], "Done again.");
    let all = fs::read_to_string(record.join("events.jsonl")).unwrap();
    assert!(all.starts_with(&events), "{all}");

    output(oh(home.path(), &model).args(["rm", &id]));
    assert!(!record.exists());
    assert_eq!(output(oh(home.path(), &model).arg("ls")), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_how_the_run_ended() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let broken = model(Script::new().forever(|s| s.fail(401, "no such key"))).await;
    let endless =
        model(Script::new().forever(|s| s.call("terminal", json!({"command": "echo on"})))).await;
    let ends = |model: &ScriptedModel, options: &[&str]| {
        let mut command = oh(home.path(), model);
        let mut running = Running::start(on(&mut command, &server, "Work.").args(options));
        running.close_input();
        let (code, last, errors) = running.end();
        (code, last["record"]["error"].to_string(), errors)
    };
    let (code, error, errors) = ends(&broken, &[]);
    assert_eq!(code, 4, "{errors}");
    assert!(error.contains("LLM"), "{error}");
    let (code, error, errors) = ends(&endless, &["--max-iterations", "2"]);
    assert_eq!(code, 7, "{error} {errors}");
    let never = Step::finish("Never.").hold(&Gate::new());
    let silent = model(Script::new().step(never)).await;
    let (code, _, errors) = ends(&silent, &["--timeout", "3"]);
    assert_eq!(code, 8, "{errors}");
    let (code, _, errors) = ends(&endless, &["--confirm", "always"]);
    assert_eq!(code, 9, "{errors}");

    let mut command = oh(home.path(), &endless);
    command.env_remove("LLM_MODEL");
    let (code, _, errors) = Running::start(on(&mut command, &server, "Work.")).end();
    assert_eq!(code, 3, "{errors}");
    assert!(
        errors.contains("LLM_MODEL") && errors.contains("--model"),
        "{errors}"
    );
    let mut command = oh(home.path(), &endless);
    on(&mut command, &server, "Work.").env("SESSION_API_KEY", "wrong");
    let files = home.path().join("files");
    let (code, _, errors) = Running::start(command.arg("--output-dir").arg(&files)).end();
    assert_eq!(code, 3, "{errors}");
    assert!(!files.exists());
    server.shutdown(super::LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_are_asked_in_the_stream_and_answered_on_stdin() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .call("terminal", json!({"command": "touch rejected"}))
        .call("terminal", json!({"command": "touch approved"}))
        .call("terminal", json!({"command": "touch later"}))
        .finish("Done.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Touch files.").args(["--confirm", "always"]);
    let mut running = Running::start(&mut command);
    let first = running.line("approval_requested");
    assert_eq!(first["actions"][0]["tool"], "terminal");
    let id = |line: &Value| line["actions"][0]["id"].clone();
    running
        .answer(&json!({"actions": [id(&first)], "approve": false, "reason": "No."}).to_string());
    assert_eq!(
        running.line("approval_closed")["actions"],
        json!([id(&first)])
    );
    let second = running.line("approval_requested");
    for early_or_wrong in [
        "approve everything".to_owned(),
        json!({"actions": [id(&first)], "approve": true}).to_string(),
    ] {
        running.answer(&early_or_wrong);
        running.line("input_rejected");
    }
    running.answer(&json!({"actions": [id(&second)], "approve": true}).to_string());
    let third = running.line("approval_requested");
    running.signal("INT");
    let (code, last, errors) = running.end();
    assert_eq!(code, 130, "{errors}");
    assert_eq!(last["record"]["status"], "waiting for confirmation");

    // The action still waits. A message would change what the approval means.
    let conversation = &last["record"]["conversation"];
    let resumed = |arguments: &[&str]| {
        let mut command = oh(home.path(), &model);
        command.env("SESSION_API_KEY", server.session_api_key().expose_secret());
        let id = conversation.as_str().unwrap();
        Running::start(
            command
                .args(["run", "--json", "--resume", id])
                .args(arguments),
        )
    };
    let (code, _, errors) = resumed(&["And more."]).end();
    assert_eq!(code, 9, "{errors}");
    let mut running = resumed(&[]);
    assert_eq!(id(&running.line("approval_requested")), id(&third));
    running.answer(&json!({"actions": [id(&third)], "approve": true}).to_string());
    let (code, last, errors) = running.end();
    assert_eq!((code, &last["answer"]), (0, &json!("Done.")), "{errors}");
    let there = |name: &str| server.workspace_dir().join(name).exists();
    assert!(there("approved") && there("later") && !there("rejected"));
    server.shutdown(super::LONG).await.unwrap();
}
