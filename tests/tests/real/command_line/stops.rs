//! Runs that are stopped.

use std::{fs, path::Path, process::Stdio, time::Instant};

use openhands::{
    Conversation, ConversationId, ExecutionStatus,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use openhands_tests::containers::eventually;
use serde_json::{Value, json};

use super::{Running, asked, oh, on};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_pauses_and_a_second_one_leaves() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let gate = Gate::new();
    let held = Step::call("terminal", json!({"command": "echo one"})).hold(&gate);
    let script = Script::new().step(held).forever(|s| s.finish("Done."));
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let mut command = oh(home.path(), &model);
    let mut running = Running::start(on(&mut command, &server, "Count."));
    let started = running.line("started");
    asked(&model, 1).await;
    running.signal("INT");
    running.note("press Ctrl-C again");
    gate.open();
    let (code, last, errors) = running.end();
    assert_eq!(code, 130, "{errors}");
    assert_eq!(last["record"]["status"], "paused");
    let id = started["conversation"].as_str().unwrap();
    assert!(
        errors.contains(&format!("oh run --resume {id}")),
        "{errors}"
    );

    let mut command = oh(home.path(), &model);
    command
        .env("SESSION_API_KEY", key(&server))
        .args(["run", "--resume", id, "--json"]);
    let (code, last, errors) = Running::start(&mut command).end();
    assert_eq!((code, &last["answer"]), (0, &json!("Done.")), "{errors}");

    let id: ConversationId = id.parse().unwrap();
    let conversation = Conversation::attach(server.client(), id).await.unwrap();
    assert_eq!(
        conversation.state().execution_status(),
        ExecutionStatus::Finished
    );
    conversation.close().await.unwrap();
    server.shutdown(super::LONG).await.unwrap();
}

fn key(server: &openhands::LocalServer) -> String {
    use openhands::secrecy::ExposeSecret as _;
    server.session_api_key().expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_or_impatient_run_ends_with_its_record() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let gate = Gate::new();
    let held = || Step::call("terminal", json!({"command": "echo one"})).hold(&gate);
    let script = Script::new()
        .step(held())
        .step(held())
        .forever(|s| s.finish("Done."));
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let begun = async |before| {
        let mut command = oh(home.path(), &model);
        let running = Running::start(on(&mut command, &server, "Count."));
        running.line("started");
        asked(&model, before + 1).await;
        running
    };
    let running = begun(0).await;
    running.signal("TERM");
    let (code, last, errors) = running.end();
    assert_eq!(
        (code, &last["record"]["status"]),
        (143, &json!("paused")),
        "{errors}"
    );
    let mut running = begun(model.requests().len()).await;
    running.signal("INT");
    running.note("press Ctrl-C again");
    running.signal("INT");
    let (code, last, errors) = running.end();
    assert_eq!(
        (code, &last["record"]["status"]),
        (130, &json!("left")),
        "{errors}"
    );
    gate.open();
    server.shutdown(super::LONG).await.unwrap();
}

/// Returns the processes whose command line contains this text.
fn processes(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(text)).collect()
}

/// Kills runs with a private server, each after another time.
async fn killed_at_random(kills: u64) {
    let home = openhands_tests::home();
    let step = Step::call("terminal", json!({"command": "sleep 1000"}));
    let script = Script::new().forever(|script| script.step(step));
    let model = ScriptedModel::builder().script(script);
    let model = model.start().await.unwrap();
    let (work, tmp) = (home.path().join("work"), home.path().join("tmp"));
    fs::create_dir(&work).unwrap();
    fs::create_dir(&tmp).unwrap();
    let runs = home.path().join("state/runs");
    let state = home.path().join("state").display().to_string();
    let seed = std::process::id();
    for kill in 0..kills {
        // Spread over the start and the first steps of the agent.
        let after = (u64::from(seed) * 7919 + kill * 104_729) % 9000;
        let mut command = oh(home.path(), &model);
        command.env("TMPDIR", &tmp).args(["run", "Sleep.", "--dir"]);
        command
            .arg(&work)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(after)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let what = format!("killed after {after} ms (seed {seed})");
        eventually(&what, || processes(&state).is_empty());
    }
    let run = |words: &[&str]| {
        let output = oh(home.path(), &model).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Runs that had not begun are removed, once no program can be starting them.
    let records = || {
        let listed = run(&["ls", "--json"]);
        let listed = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        listed.collect::<Vec<_>>()
    };
    eventually("only runs with a record stay", || {
        records().len() == runs.read_dir().unwrap().count()
    });
    for record in records() {
        assert_eq!(record["status"], "lost", "seed {seed}");
        run(&["rm", record["conversation"].as_str().unwrap()]);
    }
    assert_eq!(runs.read_dir().unwrap().count(), 0, "seed {seed}");
    let left: Vec<_> = tmp.read_dir().unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?} (seed {seed})");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_killed_at_random_leave_nothing_but_their_records() {
    killed_at_random(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_runs_that_are_killed_at_random_leave_nothing_but_their_records() {
    killed_at_random(40).await;
}

/// Runs `oh` in a separate mount namespace, in which a small disk is mounted at `full`.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_stop_the_agent_and_is_reported() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let script = Script::new()
        .call(
            "terminal",
            json!({"command": "yes | head -c 20000; touch done"}),
        )
        .finish("Done.");
    let model = ScriptedModel::builder().script(script);
    let model = model.start().await.unwrap();
    let full = home.path().join("full");
    fs::create_dir(&full).unwrap();
    let mut inner = oh(home.path(), &model);
    on(&mut inner, &server, "Write much.");
    let mut command = std::process::Command::new("unshare");
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mount = "mount -t tmpfs -o size=16k none \"$0\" && exec \"$@\"";
    command
        .args(["--mount", "--map-root-user", "sh", "-c", mount])
        .arg(&full)
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg("--output-dir")
        .arg(&full);
    let running = Running::start(&mut command);
    let (code, last, errors) = running.end();
    assert_eq!(code, 6, "{errors}");
    assert!(errors.contains("cannot write events.jsonl"), "{errors}");
    assert_eq!(last["record"]["status"], "finished");
    assert_eq!(last["record"]["exit_code"], 6);
    assert_eq!(last["answer"], "Done.");
    assert!(server.workspace_dir().join("done").exists());
    server.shutdown(super::LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_its_record_and_no_process() {
    let home = openhands_tests::home();
    let step = Step::call("terminal", json!({"command": "sleep 1000"}));
    let script = Script::new().step(step).forever(|s| s.finish("Never."));
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let work = home.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut command = oh(home.path(), &model);
    command
        .args(["run", "Sleep.", "--json", "--dir"])
        .arg(&work);
    let mut running = Running::start(&mut command);
    let id = running.line("started")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    while running.line("event")["event"]["kind"] != "ActionEvent" {}
    // The server's port, state and directory are on the command lines of its processes.
    let state = home.path().join("state").display().to_string();
    assert_ne!(processes(&state), [""; 0]);
    // A library of the server creates a directory in /tmp, which is recorded in the state.
    let server = home.path().join("state/runs").join(&id).join("server");
    let files = fs::read_dir(server).unwrap().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let recorded: String = texts.filter(|text| text.starts_with("/tmp/")).collect();
    let outside: Vec<_> = recorded.lines().map(Path::new).collect();
    assert!(outside.iter().any(|path| path.exists()), "{outside:?}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let end = Instant::now() + super::LONG;
    while !processes(&state).is_empty() {
        assert!(Instant::now() < end, "{:?}", processes(&state));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = |arguments: &[&str]| oh(home.path(), &model).args(arguments).output().unwrap();
    let listed = String::from_utf8(output(&["ls"]).stdout).unwrap();
    assert!(listed.contains(&id) && listed.contains("lost"), "{listed}");
    // A closed output is no failure, and not worth a message.
    let mut shown = oh(home.path(), &model);
    let shown = shown
        .args(["export", &id, "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut shown = shown.spawn().unwrap();
    drop(shown.stdout.take());
    let shown = shown.wait_with_output().unwrap();
    assert!(
        shown.status.success() && shown.stderr.is_empty(),
        "{shown:?}"
    );

    let missing = output(&["show", "0000"]);
    let errors = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(errors.contains(&id), "{errors}");
    assert!(output(&["rm", &id[..6]]).status.success());
    assert!(!outside.iter().any(|path| path.exists()), "{outside:?}");
    assert_eq!(
        fs::read_dir(home.path().join("state/runs"))
            .unwrap()
            .count(),
        0
    );
}
