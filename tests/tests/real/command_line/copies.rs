//! Questions to a run, its events and its patch, and work that continues it or a copy of it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use openhands::{
    LocalServer,
    secrecy::ExposeSecret as _,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use serde_json::{Value, json};

use super::{LONG, Running, asked, oh, on};

const REACHED: &str = r#"{"score": 1.0, "complete": true, "missing": ""}"#;
const MISSED: &str = r#"{"score": 0.25, "complete": false, "missing": "the end"}"#;

async fn model(script: Script) -> ScriptedModel {
    let builder = ScriptedModel::builder().script(script);
    builder.start().await.unwrap()
}

/// Runs a command. Returns its exit code, stdout and stderr.
fn ended(command: &mut Command) -> (i32, String, String) {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, errors) = (text(output.stdout), text(output.stderr));
    assert!(
        !out.contains("canary") && !errors.contains("canary"),
        "{out}{errors}"
    );
    (output.status.code().unwrap(), out, errors)
}

fn keyed(home: &Path, model: &ScriptedModel, server: &LocalServer) -> Command {
    let mut command = oh(home, model);
    command.env("SESSION_API_KEY", server.session_api_key().expose_secret());
    command
}

/// Runs the agent to its end, and returns the id.
fn finished(command: &mut Command) -> String {
    let running = Running::start(command);
    let id = running.line("started")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    let (code, _, errors) = running.end();
    assert_eq!(code, 0, "{errors}");
    id
}

fn git(directory: &Path) {
    for words in [
        "init --quiet",
        "commit --quiet --allow-empty --message begin",
    ] {
        let mut git = Command::new("git");
        git.current_dir(directory)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        assert_eq!(ended(git.args(words.split(' '))).0, 0);
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_read_asked_and_copied() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    git(server.workspace_dir());
    let script = Script::new()
        .call("terminal", json!({"command": "echo written > new.txt"}))
        .finish("Done.")
        .text("An answer.")
        .finish("Copied.")
        .finish("And again.");
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    let id = finished(on(&mut command, &server, "Write a file."));
    let verb = |words: &[&str]| ended(keyed(home.path(), &model, &server).args(words));
    let recorded = |id: &str| {
        let events = home.path().join("state/runs").join(id).join("events.jsonl");
        lines(&fs::read_to_string(events).unwrap())
    };

    let (code, patch, errors) = verb(&["diff", &id]);
    assert!(code == 0 && patch.contains("+written"), "{patch}{errors}");
    fs::write(server.workspace_dir().join("later.txt"), "later\n").unwrap();
    assert_eq!(verb(&["diff", &id]).1, patch);
    let (_, live, errors) = verb(&["diff", &id, "--live"]);
    assert!(
        live.contains("+written") && live.contains("+later"),
        "{live}{errors}"
    );

    let events = lines(&verb(&["events", &id]).1);
    let plain: Vec<_> = events.iter().map(|line| line["event"].clone()).collect();
    assert_eq!(plain, recorded(&id));
    let (code, followed, errors) = verb(&["events", &id, "--follow"]);
    assert_eq!((code, lines(&followed)), (0, events.clone()), "{errors}");
    let (_, actions, _) = verb(&["events", &id, "--kind", "ActionEvent"]);
    let actions = lines(&actions);
    assert_eq!(actions.len(), 2);
    assert!(
        actions
            .iter()
            .all(|line| line["event"]["kind"] == "ActionEvent")
    );

    let (code, answer, errors) = verb(&["ask", &id, "What is this?"]);
    assert_eq!((code, &*answer), (0, "An answer.\n"), "{errors}");
    let seqs = |id: &str| {
        let (_, all, errors) = verb(&["events", id, "--server", server.url().as_str()]);
        assert_eq!(errors, "");
        lines(&all)
            .iter()
            .map(|line| line["seq"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let before = seqs(&id);
    assert_eq!(before, (0..events.len() as u64).collect::<Vec<_>>());

    // The whole run is copied, and then its beginning.
    let (code, whole, errors) = verb(&["fork", &id]);
    assert_eq!(code, 0, "{errors}");
    let whole = whole.trim();
    let ids = |id: &str| {
        recorded(id)
            .iter()
            .map(|event| event["id"].clone())
            .collect::<Vec<_>>()
    };
    assert!(ids(whole).starts_with(&ids(&id)));
    let shown = verb(&["show", whole]).1;
    assert!(shown.contains("Done."), "{shown}");
    let event = actions[0]["event"]["id"].as_str().unwrap();
    let words = [
        "fork",
        &id,
        "Do it differently.",
        "--from",
        &event[..13],
        "--json",
    ];
    let (code, out, errors) = verb(&words);
    assert_eq!(code, 0, "{errors}");
    let out = lines(&out);
    let (started, last) = (&out[0], out.last().unwrap());
    assert_eq!(last["answer"], "Copied.", "{last}");
    let part = started["conversation"].as_str().unwrap();
    assert!(part != id && part != whole);
    assert!(ids(part).contains(&json!(event)));
    assert!(
        !recorded(part)
            .iter()
            .any(|event| event.to_string().contains("\"Done.\""))
    );
    let (code, _, errors) = verb(&["run", "--resume", whole, "Once more."]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(seqs(&id), before);
    let listed = verb(&["ls"]).1;
    assert!(
        [&*id, whole, part].iter().all(|id| listed.contains(id)),
        "{listed}"
    );

    for (words, expected) in [
        (["fork", &*id, "--from", "ffffffff"], 2),
        (["ask", &*id, " ", "--"], 2),
        (["diff", "ffffffff", "--live", "--"], 2),
        (["events", "ffffffff", "--follow", "--"], 2),
    ] {
        let (code, _, errors) = verb(&words);
        assert_eq!(code, expected, "{words:?} {errors}");
    }
    let mut wrong = keyed(home.path(), &model, &server);
    let (code, _, errors) = ended(
        wrong
            .env("SESSION_API_KEY", "no")
            .args(["ask", &id, "What?"]),
    );
    assert_eq!(code, 3, "{errors}");
    server.shutdown(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_shows_its_rounds_and_ends_with_its_outcome() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let never = Gate::new();
    // The agent and the judge use the same model in turns.
    let script = Script::new()
        .finish("Ready.")
        .text("I have begun.")
        .text(MISSED)
        .text("I am done.")
        .text(REACHED)
        .text("I have begun again.")
        .text(MISSED)
        .step(Step::text("Never.").hold(&never));
    let model = model(script).await;
    let mut command = oh(home.path(), &model);
    let id = finished(on(&mut command, &server, "Be ready."));
    let goal = |words: &[&str]| {
        let mut command = keyed(home.path(), &model, &server);
        command.args(["goal", &id, "Reach the end."]).args(words);
        command
    };
    let (code, out, errors) = ended(&mut goal(&["--max-iterations", "5"]));
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.contains("I have begun.") && out.contains("I am done."),
        "{out}"
    );
    assert!(
        errors.contains("round 1 of 5: 0.25; missing: the end"),
        "{errors}"
    );
    assert!(errors.contains("round 2 of 5: 1.00\n"), "{errors}");
    assert!(errors.contains("complete after 2 rounds"), "{errors}");
    let (code, out, errors) = ended(&mut goal(&["--max-iterations", "1", "--json"]));
    assert_eq!(code, 7, "{errors}");
    let lines = lines(&out);
    let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap();
    assert_eq!(lines[0]["type"], "started");
    assert_eq!(of("goal_round")["missing"], "the end");
    let capped = json!({"type": "goal_ended", "status": "capped", "rounds": 1});
    assert_eq!(*of("goal_ended"), capped);
    assert_eq!(lines.last().unwrap()["record"]["exit_code"], 7);
    let requests = model.requests().len();
    let mut stopped = goal(&[]);
    stopped.stdout(Stdio::piped()).stderr(Stdio::piped());
    let stopped = stopped.spawn().unwrap();
    asked(&model, requests + 1).await;
    let pid = stopped.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = stopped.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("interrupted after"), "{errors}");
    let shown = ended(keyed(home.path(), &model, &server).args(["show", &id])).1;
    assert!(shown.contains("I am done."), "{shown}");
    server.shutdown(LONG).await.unwrap();
}

// The only test of copies with a private server, which takes long to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_private_run_uses_its_server() {
    let home = openhands_tests::home();
    let work = home.path().join("work");
    fs::create_dir(&work).unwrap();
    let model = model(Script::new().finish("Done.").finish("Copied.")).await;
    let mut command = oh(home.path(), &model);
    let id = finished(command.args(["run", "Work.", "--json", "--dir"]).arg(&work));
    let verb = |words: &[&str]| ended(oh(home.path(), &model).args(words));
    let (code, out, errors) = verb(&["fork", &id, "Go on.", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let out = lines(&out);
    assert_eq!(out.last().unwrap()["answer"], "Copied.");
    let copy = out[0]["conversation"].as_str().unwrap();
    let (code, _, errors) = verb(&["rm", &id]);
    assert!(code == 3 && errors.contains(copy), "{errors}");
    let conversations = home
        .path()
        .join("state/runs")
        .join(&id)
        .join("server/conversations");
    let count = || fs::read_dir(&conversations).unwrap().count();
    assert_eq!(count(), 2);
    assert_eq!(verb(&["rm", copy]).0, 0);
    assert_eq!(count(), 1);
    assert_eq!(verb(&["rm", &id]).0, 0);
    assert_eq!(verb(&["ls"]).1, "");
}
