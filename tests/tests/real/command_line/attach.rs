//! Watching and steering a run of another program.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use openhands::{
    Conversation, ConversationId, LocalServer,
    secrecy::ExposeSecret as _,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use serde_json::{Value, json};

use super::{LONG, Running, asked, oh, on, terminal::Pty};

/// Creates a command that attaches to a run.
fn attach(home: &Path, model: &ScriptedModel, server: &LocalServer, id: &str) -> Command {
    let mut command = oh(home, model);
    command
        .env("SESSION_API_KEY", server.session_api_key().expose_secret())
        .args(["attach", id]);
    command
}

fn attached(home: &Path, model: &ScriptedModel, server: &LocalServer, id: &str) -> Running {
    let mut command = attach(home, model, server, id);
    Running::start(command.args(["--json", "--tail", "1000"]))
}

/// Returns the next line of this type, and keeps the events before it.
fn until(running: &Running, kind: &str, events: &mut Vec<Value>) -> Value {
    let end = Instant::now() + LONG;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = running.lines.recv_timeout(left).expect(kind);
        if line["type"] == "event" {
            events.push(line.clone());
        }
        if line["type"] == kind {
            return line;
        }
    }
}

fn id_of(line: &Value) -> String {
    line["conversation"].as_str().unwrap().to_owned()
}

fn touch(name: &str) -> Step {
    Step::call("terminal", json!({"command": format!("touch {name}")}))
}

async fn model(script: Script) -> ScriptedModel {
    let builder = ScriptedModel::builder().script(script);
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_see_each_event_once_and_approve_only_named_actions() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .step(touch("one"))
        .step(touch("two"))
        .finish("Done.")
        .step(touch("three"))
        .finish("Done again.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    on(&mut command, &server, "Touch files.").args(["--confirm", "always"]);
    let (mut first, mut by_first, mut by_second) =
        (Running::start(&mut command), Vec::new(), Vec::new());
    let id = id_of(&until(&first, "started", &mut by_first));
    let one = until(&first, "approval_requested", &mut by_first);
    let mut second = attached(home.path(), &model, &server, &id[..8]);
    let started = until(&second, "started", &mut by_second);
    assert_eq!(id_of(&started), id);
    assert_eq!(until(&second, "approval_requested", &mut by_second), one);
    // The answer of the first program to a question that the second one has answered is late.
    let answer = |line: &Value| json!({"actions": [line["actions"][0]["id"]], "approve": true});
    for wrong in [
        json!({"actions": ["another"], "approve": true}),
        json!({"actions": [], "approve": true}),
        json!({"approve": true}),
        json!({"message": "Go on.", "approve": true}),
        json!({"pause": false}),
        json!("yes"),
    ] {
        second.answer(&wrong.to_string());
        until(&second, "input_rejected", &mut by_second);
    }
    // A message while an action waits would change what is approved.
    second.answer(&json!({"message": "Faster."}).to_string());
    until(&second, "input_rejected", &mut by_second);
    assert!(!server.workspace_dir().join("one").exists());
    second.answer(&answer(&one).to_string());
    until(&second, "approval_closed", &mut by_second);
    until(&first, "approval_closed", &mut by_first);
    let two = until(&first, "approval_requested", &mut by_first);
    assert_eq!(until(&second, "approval_requested", &mut by_second), two);
    for running in [(&mut first, &mut by_first), (&mut second, &mut by_second)] {
        running.0.answer(&answer(&one).to_string());
        until(running.0, "input_rejected", running.1);
    }
    assert!(!server.workspace_dir().join("two").exists());
    first.answer(&answer(&two).to_string());
    until(&second, "approval_closed", &mut by_second);
    let ended = until(&second, "run_ended", &mut by_second);
    assert_eq!(ended["exit_code"], 0, "{ended}");
    let seen = until(&first, "ended", &mut by_first);
    assert_eq!(seen["answer"], "Done.");
    assert_eq!(first.end().0, 0);

    // The next message is sent by the second program, and nobody else is there.
    second.answer(&json!({"message": "Once more."}).to_string());
    let three = until(&second, "approval_requested", &mut by_second);
    second.answer(&answer(&three).to_string());
    let ended = until(&second, "run_ended", &mut by_second);
    assert_eq!(ended["status"], "finished");
    second.close_input();
    let (code, last, errors) = second.end();
    assert_eq!(
        (code, &last["answer"]),
        (0, &json!("Done again.")),
        "{errors}"
    );

    let seqs: Vec<_> = by_second
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert!(by_second.starts_with(&by_first), "{by_first:?}");
    // Nobody else recorded the rest.
    let recorded = home.path().join("state/runs").join(&id);
    let events = fs::read_to_string(recorded.join("events.jsonl")).unwrap();
    assert_eq!(events.lines().count(), seqs.len());
    assert_eq!(
        fs::read_to_string(recorded.join("final.txt")).unwrap(),
        "Done again."
    );
    let there = |name: &str| server.workspace_dir().join(name).exists();
    assert!(there("one") && there("two") && there("three"));
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_steers_and_leaves_and_the_run_goes_on() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let (held, again, last) = (Gate::new(), Gate::new(), Gate::new());
    let script = Script::new()
        .step(touch("one").hold(&held))
        .step(touch("two").hold(&again))
        .step(touch("three").hold(&last))
        .finish("Done.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    let first = Running::start(on(&mut command, &server, "Touch."));
    let id = id_of(&first.line("started"));
    asked(&model, 1).await;

    let mut second = attached(home.path(), &model, &server, &id);
    second.line("event");
    second.answer(r#"{"pause": true}"#);
    held.open();
    assert_eq!(second.line("run_ended")["status"], "paused");
    // The program of the run ends when another one pauses.
    assert_eq!(first.end().0, 130);
    second.answer(r#"{"run": true}"#);
    asked(&model, 2).await;
    second.answer(r#"{"interrupt": true}"#);
    assert_eq!(second.line("run_ended")["exit_code"], 130);
    second.answer(r#"{"message": "Go on."}"#);
    asked(&model, 3).await;
    second.signal("INT");
    let (code, ended, errors) = second.end();
    assert_eq!((code, &ended["type"]), (130, &json!("ended")), "{errors}");
    assert_eq!(ended["record"]["status"], "running");

    // Without somebody who can type, the exit code is that of the run.
    let mut third = attached(home.path(), &model, &server, &id);
    third.line("event");
    third.close_input();
    let mut plain = attach(home.path(), &model, &server, &id);
    let plain = plain
        .args(["--tail", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let plain = plain.spawn().unwrap();
    again.open();
    last.open();
    let (code, ended, errors) = third.end();
    assert_eq!((code, &ended["answer"]), (0, &json!("Done.")), "{errors}");
    let plain = plain.wait_with_output().unwrap();
    let (shown, errors) = (
        String::from_utf8(plain.stdout).unwrap(),
        String::from_utf8(plain.stderr).unwrap(),
    );
    assert!(
        plain.status.success() && shown.contains("Done."),
        "{shown}{errors}"
    );
    assert!(!shown.contains("Go on."), "{shown}");
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_cannot_go_on_says_why() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new().step(touch("one").hold(&Gate::new()));
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    let running = Running::start(on(&mut command, &server, "Touch."));
    let id = id_of(&running.line("started"));
    asked(&model, 1).await;

    let mut swapped: Vec<char> = id.chars().collect();
    swapped.swap(2, 3);
    let swapped: String = swapped.into_iter().collect();
    let output = |command: &mut Command| command.output().unwrap();
    // Equal characters would be the same id.
    if swapped != id {
        let unknown = output(&mut attach(home.path(), &model, &server, &swapped));
        let errors = String::from_utf8(unknown.stderr).unwrap();
        assert_eq!(unknown.status.code(), Some(2), "{errors}");
        assert!(errors.contains(&format!("near are {id}")), "{errors}");
    }
    let mut wrong = attach(home.path(), &model, &server, &id);
    let wrong = output(wrong.env("SESSION_API_KEY", "wrong"));
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(3), "{errors}");

    // A closed output is no failure, and not worth a message.
    let mut closed = attach(home.path(), &model, &server, &id);
    let mut closed = closed
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(closed.stdout.take());
    let closed = closed.wait_with_output().unwrap();
    let errors = String::from_utf8(closed.stderr).unwrap();
    assert!(closed.status.success(), "{errors}");

    let attached = attached(home.path(), &model, &server, &id);
    attached.line("event");
    let identity: ConversationId = id.parse().unwrap();
    let conversation = Conversation::attach(server.client(), identity)
        .await
        .unwrap();
    conversation.delete().await.unwrap();
    let (code, _, errors) = attached.end();
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("conversation"), "{errors}");
    running.end();
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_with_a_command_and_talks() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .step(touch("one"))
        .step(touch("two"))
        .finish("Both are there.")
        .finish("Nothing to add.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    let first = Running::start(on(&mut command, &server, "Touch.").args(["--confirm", "always"]));
    let id = id_of(&first.line("started"));
    first.line("approval_requested");
    let mut person = Pty::start(&attach(home.path(), &model, &server, &id), 100, 40);
    person.shows("/reject [REASON]");
    // Only the command approves. A message would change what is approved.
    person.press("y\n");
    person.shows("waits for approval");
    person.press("/approve all\n");
    person.shows("is no command here");
    assert!(!server.workspace_dir().join("one").exists());
    person.press("/approve\n");
    let second = first.line("approval_requested");
    assert!(second.to_string().contains("touch two"), "{second}");
    person.shows("touch two");
    person.press("/reject Not the second one.\n");
    person.shows("Both are there.");
    person.shows("oh: finished");
    assert_eq!(first.end().0, 0);
    person.press("Anything else?\n");
    person.shows("Nothing to add.");
    person.press("/quit\n");
    let (code, lines, _) = person.end();
    assert_eq!(code, 0, "{lines:#?}");
    let there = |name: &str| server.workspace_dir().join(name).exists();
    assert!(there("one") && !there("two"));
    server.shutdown(LONG).await.unwrap();
}
