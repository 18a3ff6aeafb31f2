//! Runs in a sandbox of a cluster, which is a fake one. Its pods are real servers.

use std::{fs, path::Path, process::Command, time::Duration};

use openhands::testkit::{
    Gate, Script, ScriptedModel, Step,
    kubernetes::{FakeCluster, Pod},
};
use openhands_tests::containers::eventually;
use serde_json::{Value, json};

use super::{asked, oh};

/// Starts a cluster whose pods are dormant servers.
async fn cluster() -> FakeCluster {
    let pods = || async {
        let home = openhands_tests::home();
        let server = openhands_tests::server(&home)
            .secret_key(FakeCluster::INIT_KEY)
            .deferred_init(true)
            .start()
            .await
            .unwrap();
        Pod::at(server.address()).owning((server, home))
    };
    FakeCluster::builder().pods(pods).start().await.unwrap()
}

/// Returns a run in a sandbox, whose agent works in the directory `work`.
fn run(home: &Path, model: &ScriptedModel, cluster: &FakeCluster, pool: &str) -> Command {
    let config = home.join("kubeconfig");
    fs::write(&config, cluster.kubeconfig()).unwrap();
    let work = home.join("work");
    fs::create_dir_all(&work).unwrap();
    let mut command = oh(home, model);
    command
        .env("KUBECONFIG", config)
        .env("OH_INIT_KEY", FakeCluster::INIT_KEY)
        .args(["run", "Go.", "--json", "--sandbox", "kubernetes"])
        .args(["--pool", pool, "--dir"])
        .arg(work);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_claims_a_sandbox_and_removes_it() {
    let script = Script::new()
        .call("terminal", json!({"command": "echo made >made.txt"}))
        .finish("Made.");
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let cluster = cluster().await;
    let output = run(home.path(), &model, &cluster, "agents")
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(!errors.contains("has no key"), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["answer"], "Made.");
    assert!(home.path().join("work/made.txt").exists());
    assert_eq!(cluster.claims(), [Value::Null; 0]);

    // The events stay, and the sandbox does not.
    let id = last["record"]["conversation"].as_str().unwrap();
    let verb = |words: &[&str]| oh(home.path(), &model).args(words).output().unwrap();
    assert!(verb(&["show", id]).status.success());
    for words in [
        &["exec", "--in", id, "--", "ls"][..],
        &["run", "--resume", id],
    ] {
        let output = verb(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains("the sandbox of this run"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_pool_is_named_and_leaves_nothing() {
    let model = ScriptedModel::start(Script::new()).await.unwrap();
    let home = openhands_tests::home();
    let cluster = cluster().await;
    let output = run(home.path(), &model, &cluster, "agentz").output();
    let output = output.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("agentz"), "{errors}");
    assert_eq!(cluster.claims(), [Value::Null; 0]);
    let runs = home.path().join("state/runs");
    assert_eq!(runs.read_dir().unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_its_sandbox_for_a_minute() {
    let gate = Gate::new();
    let script = Script::new().step(Step::finish("Never.").hold(&gate));
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let cluster = cluster().await;
    let mut child = run(home.path(), &model, &cluster, "agents")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    asked(&model, 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(cluster.claims().len(), 1);
    cluster.advance(Duration::from_secs(61));
    eventually("the cluster removes the claim", || {
        cluster.claims().is_empty()
    });
    gate.open();
}
