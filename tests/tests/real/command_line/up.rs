//! The background server.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use openhands::testkit::{Script, ScriptedModel};
use serde_json::Value;

use super::{LONG, Running, oh};

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until nothing is left of the background server but its state.
fn gone(home: &Path) {
    let end = Instant::now() + LONG;
    let lock = || fs::File::open(home.join("state/up/server/lock")).unwrap();
    let gone = || !home.join("state/up/server.json").exists() && lock().try_lock().is_ok();
    while !gone() {
        assert!(Instant::now() < end, "the background server is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// One test, because the background server takes long to start.
#[tokio::test(flavor = "multi_thread")]
async fn the_background_server_serves_runs_and_keeps_them() {
    let home = openhands_tests::home();
    let place = home.path().join("work");
    fs::create_dir(&place).unwrap();
    let script = Script::new().finish("One.").finish("Two.").finish("Three.");
    let model = ScriptedModel::builder().script(script);
    let model = model.start().await.unwrap();
    let oh = || oh(home.path(), &model);
    let status = || -> Value {
        let output = run(oh().args(["status", "--json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(status()["running"], false);
    assert!(run(oh().arg("down")).status.success());

    // Two at once: both succeed, and one server is running.
    let (mut first, mut second) = (oh(), oh());
    let mut first = first
        .arg("up")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let second = run(second.args(["up", "--idle", "0"]));
    assert!(first.wait().unwrap().success());
    assert!(second.status.success(), "{}", text(&second.stderr));
    let state = status();
    assert_eq!(state["running"], true);
    assert_eq!(text(&second.stdout).trim(), state["url"].as_str().unwrap());

    // A run uses it. Another program joins.
    let in_place = |arguments: &[&str]| {
        let mut command = oh();
        command.args(arguments).arg("--json").current_dir(&place);
        Running::start(&mut command).end()
    };
    let (code, last, errors) = in_place(&["run", "Work."]);
    assert_eq!((code, &last["answer"]), (0, &"One.".into()), "{errors}");
    let id = last["record"]["conversation"].as_str().unwrap().to_owned();
    assert_eq!(last["record"]["background"], true);
    let (code, last, errors) = in_place(&["run", "More work."]);
    assert_eq!((code, &last["answer"]), (0, &"Two.".into()), "{errors}");
    let other = last["record"]["conversation"].as_str().unwrap();
    assert_eq!(status()["conversations"], 2);
    assert!(run(oh().args(["rm", other])).status.success());
    assert_eq!(status()["conversations"], 1);

    // Killed: everything ends, but the conversation is kept.
    let pid = status()["pid"].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    gone(home.path());
    assert_eq!(status()["running"], false);
    let (code, last, errors) = in_place(&["run", "Again.", "--resume", &id]);
    assert_eq!((code, &last["answer"]), (0, &"Three.".into()), "{errors}");
    gone(home.path());

    // Ends by itself.
    let up = run(oh().args(["up", "--idle", "1"]));
    assert!(up.status.success(), "{}", text(&up.stderr));
    gone(home.path());
    let log = fs::read_to_string(home.path().join("state/up/log")).unwrap();
    assert!(log.contains("no work"), "{log}");
    assert!(run(oh().arg("down")).status.success());

    // Removed with its conversation, although the server is not running.
    let conversations = home.path().join("state/up/server/conversations");
    assert_eq!(fs::read_dir(&conversations).unwrap().count(), 1);
    assert!(run(oh().args(["rm", &id])).status.success());
    assert_eq!(fs::read_dir(&conversations).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_server_that_cannot_start_is_reported() {
    let home = openhands_tests::home();
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let mut command = oh(home.path(), &model);
    let empty = home.path().join("cache");
    command
        .arg("up")
        .env("OPENHANDS_CACHE_DIR", &empty)
        .env("OPENHANDS_OFFLINE", "1");
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(3));
    let errors = text(&output.stderr);
    assert!(errors.contains("OPENHANDS_OFFLINE"), "{errors}");
    assert!(!home.path().join("state/up/alive").exists());
}
