//! Long tests, with the real server: many starts, kills at random moments, restarts of the engine.
//! Short forms of them are in `cleanup` and `restarts`.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use openhands::{
    prelude::*,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use openhands_tests::containers::{builder, containers, eventually, image, output};
use serde_json::json;

use super::{
    engines::Private,
    owners::{Owner, act, chance, role},
    work::agent,
};

/// Copies the image under test to an engine.
fn copy_image(engine: &Private) {
    let mut save = Command::new("docker");
    let mut saving = save
        .args(["save", &image()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut load = engine.docker();
    load.arg("load").stdin(saving.stdout.take().unwrap());
    output(&mut load);
    assert!(saving.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_fifty_starts_and_stops_leave_nothing() {
    let engine = Private::start(&[]);
    copy_image(&engine);
    let before = (engine.contents(), engine.processes());
    for number in 0..50 {
        let server = engine.builder(&image()).await.start().await.unwrap();
        match number % 3 {
            0 => drop(server),
            1 => _ = server.shutdown(Duration::from_secs(10)).await.unwrap(),
            _ => _ = server.shutdown(Duration::ZERO).await.unwrap(),
        }
        assert_eq!(engine.contents(), before.0, "start {number}");
        if number % 10 == 9 {
            println!("{} starts", number + 1);
        }
    }
    eventually("the end of all processes", || {
        (engine.contents(), engine.processes()) == before
    });
}

#[test]
fn soak_an_owner_killed_ten_times_at_random_moments() {
    let test = "soak_an_owner_killed_ten_times_at_random_moments";
    if let Some(way) = role() {
        return act(builder(test), &way);
    }
    let mut chance = chance();
    for _ in 0..10 {
        let moment = Duration::from_millis(chance.pick(0..=20_000));
        let owner = Owner::start(&format!("soak::{test}"), "kill").prints("BEGINS");
        thread::sleep(moment);
        println!(
            "killed after {moment:?}, {} containers",
            containers(test).len()
        );
        owner.kill();
        assert_eq!(containers(test), [""; 0], "{moment:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_a_run_goes_on_while_its_engine_restarts() {
    let gate = Gate::new();
    let script = Script::new()
        .step(Step::call(
            "terminal",
            json!({"command": "echo one > made.txt"}),
        ))
        .step(Step::call("terminal", json!({"command": "echo two >> made.txt"})).hold(&gate))
        .finish("done");
    let model = ScriptedModel::start(script).await.unwrap();
    let mut engine = Private::start(&["--live-restore"]);
    copy_image(&engine);
    let before = engine.contents();
    let server = engine.builder(&image()).await.start().await.unwrap();
    let conversation = Conversation::builder(&server, agent(&model));
    let conversation = conversation.start().await.unwrap();
    conversation.send("Go.").await.unwrap();
    let run = tokio::spawn(conversation.run().into_future());
    gate.arrived(1).await;
    engine.end();
    gate.open();
    let outcome = run.await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    engine.begin();
    let read = server.execute("cat /workspace/made.txt").await.unwrap();
    assert_eq!(read.stdout(), "one\ntwo\n");
    conversation.close().await.unwrap();
    let report = server.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(report.success(), "{report}");
    assert_eq!(engine.contents(), before);
}
