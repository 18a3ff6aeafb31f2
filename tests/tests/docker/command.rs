//! The command `oh` with an agent in a container.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use openhands::testkit::{Gate, Script, ScriptedModel, Step};
use openhands_tests::containers::{eventually, image, output};
use serde_json::{Value, json};

use super::runtime::{containers, reachable, removed};

/// Returns a command of `oh` with its own state.
fn oh(home: &Path, model: std::net::SocketAddr) -> Command {
    let program = env::var("OPENHANDS_TEST_OH").expect("`cargo xtask containers` sets it");
    let mut command = Command::new(program);
    command
        .env("OH_STATE_DIR", home.join("state"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("LLM_MODEL", ScriptedModel::MODEL)
        .env("LLM_BASE_URL", format!("http://{model}/v1"))
        .env("LLM_API_KEY", "canary-of-the-model")
        .env("LLM_NUM_RETRIES", "1")
        .current_dir(home.join("work"))
        .stdin(Stdio::null());
    command
}

fn terminal(command: &str) -> Step {
    Step::call("terminal", json!({ "command": command }))
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// Creates a directory with a repository. Its settings would let a git outside of the container
/// create `escaped`.
fn repository(home: &Path) {
    let work = home.join("work");
    fs::create_dir(&work).unwrap();
    let escape = format!("touch {}; false", home.join("escaped").display());
    for words in [
        vec!["init", "--quiet"],
        vec!["commit", "--quiet", "--allow-empty", "--message", "begin"],
        vec!["config", "core.fsmonitor", &escape],
    ] {
        let mut git = Command::new("git");
        git.current_dir(&work);
        output(
            git.args(["-c", "user.name=a", "-c", "user.email=a@b"])
                .args(words),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_works_in_a_container_and_continues_in_another_one() {
    let script = Script::new()
        .step(terminal("hostname > made.txt"))
        .step(Step::finish("Made."))
        .step(terminal("cat made.txt"))
        .step(Step::finish("Read."));
    let model = ScriptedModel::start(script).await.unwrap();
    let address = reachable(&model).await;
    let home = openhands_tests::home();
    repository(home.path());
    let mut run = oh(home.path(), address);
    let image = image();
    run.args(["run", "Go.", "--json", "--sandbox", "docker"]);
    let shown = lines(&output(run.args(["--image", &image])));
    assert_eq!(shown[0]["type"], "starting", "{}", shown[0]);
    let id = shown[0]["conversation"].as_str().unwrap();
    let last = shown.last().unwrap();
    assert_eq!(last["answer"], "Made.", "{last}");
    let place = home.path().join("state/runs").join(id);
    let state = place.join("server").canonicalize().unwrap();
    removed(&state);
    let made = fs::read_to_string(home.path().join("work/made.txt")).unwrap();
    let made = made.trim();
    assert_ne!(made, output(&mut Command::new("hostname")));
    let patch = fs::read_to_string(place.join("patch.diff")).unwrap();
    assert!(patch.contains(made), "{patch}");

    // A command runs in a container, too, and reads the same files.
    let mut exec = oh(home.path(), address);
    let line = "hostname; pwd; cat made.txt";
    let shown = output(exec.args(["exec", "--in", id, "--", "sh", "-c", line]));
    let shown: Vec<_> = shown.lines().collect();
    assert_eq!(shown[1..], ["/workspace", made]);
    assert_ne!(shown[0], made);
    let mut diff = oh(home.path(), address);
    let live = output(diff.args(["diff", id, "--live"]));
    assert!(live.contains(made), "{live}");

    let mut resume = oh(home.path(), address);
    let shown = output(resume.args(["run", "Go on.", "--resume", id, "--json"]));
    let shown = lines(&shown);
    assert_eq!(shown.last().unwrap()["answer"], "Read.");
    removed(&state);
    model.verify().unwrap();
    assert!(!home.path().join("escaped").exists());
    let canary = Command::new("grep")
        .args(["-r", "-l", "canary-of-the-model"])
        .arg(home.path())
        .output();
    assert_eq!(String::from_utf8(canary.unwrap().stdout).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_no_container() {
    let gate = Gate::new();
    let script = Script::new().step(Step::finish("Never.").hold(&gate));
    let model = ScriptedModel::start(script).await.unwrap();
    let address = reachable(&model).await;
    let home = openhands_tests::home();
    repository(home.path());
    let mut run = oh(home.path(), address);
    let image = image();
    let mut child = run
        .args(["run", "Go.", "--sandbox", "docker", "--image", &image])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while model.requests().is_empty() {
        assert_eq!(child.try_wait().unwrap(), None);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let runs = home.path().join("state/runs");
    let run = runs.read_dir().unwrap().next().unwrap().unwrap().path();
    let state = run.join("server").canonicalize().unwrap();
    assert_eq!(containers(&state).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    removed(&state);
    eventually("the keeper ends", || !run.join("server.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_named_and_leaves_no_run() {
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let home = openhands_tests::home();
    repository(home.path());
    let mut run = oh(home.path(), model.address());
    let image = [
        "--sandbox",
        "docker",
        "--image",
        "127.0.0.1:1/no-such-image:1",
    ];
    let failed = run.args(["run", "Go."]).args(image).output().unwrap();
    let errors = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(6), "{errors}");
    assert!(errors.contains("no-such-image"), "{errors}");
    assert!(!errors.contains("canary"), "{errors}");
    let runs = home.path().join("state/runs");
    assert_eq!(runs.read_dir().unwrap().count(), 0);
}
