//! Scenes on the real server in which something ends: a closed handle, a replaced or deleted log,
//! sockets that fall silent, and a killed server that is not restarted.

use std::{
    future::IntoFuture,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    Client, Conversation, Event, RunStatus, WorkspaceExt,
    conversation::{ErrorKind, LinkStatus},
    process::Status,
    testkit::{Script, ScriptedModel},
    workspace,
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    approvals::always,
    live::{LONG, agent, log, reads},
    policies::POLICY,
    stage::{Scene, Stage, act, asks, ends, never, running, runs, until, within},
};

/// A command that waits until the directory contains the file `go`.
const WAITS: &str = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo a >> ran";

/// A close during a run, also from inside a callback, ends every wait, and the run goes on.
pub(crate) async fn closing_during_a_run(stage: &Stage) {
    let script = Script::new()
        .call("terminal", json!({ "command": WAITS }))
        .finish("Done.");
    let scene = Scene::start(stage, "closing", never(), script).await;
    let inside = Conversation::attach(&scene.client(), scene.near.id());
    let inside = inside.await.unwrap();
    // The callback closes its own handle when the tool starts.
    let own = Arc::new(Mutex::new(Some(inside.clone())));
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let _callback = inside.on_event_blocking(move |event: &Event| {
        if event.kind() == "ActionEvent"
            && let Some(own) = own.lock().unwrap().take()
        {
            let begun = Instant::now();
            let result = tokio::runtime::Handle::current().block_on(own.close());
            _ = closed.send((result.is_ok(), begun.elapsed()));
        }
    });
    scene.near.send("Go.").and_run().await.unwrap();
    let waits = tokio::spawn(inside.join().into_future());
    let (ok, took) = timeout(LONG, was_closed.recv()).await.unwrap().unwrap();
    assert!(ok);
    println!("closed from inside a callback in {took:?}");
    let error = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    until(|| scene.directory.join("begun").exists()).await;
    let waits = running(&scene.near);
    let begun = Instant::now();
    scene.near.close().await.unwrap();
    println!("closed during a run in {:?}", begun.elapsed());
    assert_eq!(scene.near.link().status(), LinkStatus::Ended);
    let error = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    std::fs::write(scene.directory.join("go"), "").unwrap();
    scene.shows(&["run"], &["a"]).await;
    // The sockets are closed on the wire. The server closes connections of requests after a while.
    until(|| scene.proxy.open() == 0).await;
}

/// Another client deletes a conversation and creates a new one with the same id.
pub(crate) async fn another_log_under_the_id(stage: &Stage) {
    let script = Script::new().finish("Done.").finish("Done.");
    let scene = Scene::start(stage, "replaced", never(), script).await;
    let id = scene.near.id();
    scene.near.send("Go.").await.unwrap();
    assert!(ends(running(&scene.near)).await.is_finished());
    let before = log(scene.other.client(), id).await;
    scene.other.clone().delete().await.unwrap();
    let directory = scene.directory.display().to_string();
    let workspace = scene.other.client().workspace(directory);
    let again = Conversation::builder(&workspace, agent(&scene.model)).id(id);
    let again = again.start().await.unwrap();
    again.send("Something else.").await.unwrap();
    let error = timeout(LONG, running(&scene.near)).await.unwrap().unwrap();
    let error = error.unwrap_err();
    let known = [ErrorKind::Replaced, ErrorKind::Gone];
    assert!(known.contains(&error.kind()), "{error}");
    // The mirror contains no event of the other log, and no run was started there.
    let held: Vec<_> = scene
        .near
        .events()
        .iter()
        .map(|it| it.id().to_owned())
        .collect();
    assert!(before.starts_with(&held) || held == before, "{held:?}");
    assert_eq!(scene.sent(id), ["run"]);
    assert!(ends(running(&again)).await.is_finished());
    again.delete().await.unwrap();
}

/// A process deletes a conversation, and creates another one with its id. Nothing of the first one
/// applies to the second: neither its run, nor its policy that never asks.
pub(crate) async fn a_reused_id(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let script = script.step(act("b")).finish("Done.");
    let scene = Scene::start(stage, "reused", never(), script).await;
    let old = &scene.near;
    old.approvals().set_policy(never()).await.unwrap();
    old.send("Go.").await.unwrap();
    assert!(runs(old).await.is_finished());
    scene.shows(&["run"], &["a"]).await;
    let deleted = within("a deletion", old.clone().delete()).await;
    deleted.unwrap();
    let directory = scene.directory.display().to_string();
    let workspace = scene.client().workspace(directory);
    let new = Conversation::builder(&workspace, agent(&scene.model)).id(old.id());
    let new = new.confirmation_policy(always()).ambiguous_after(LONG);
    let new = within("a start", new.start().into_future()).await.unwrap();
    new.send("Go.").await.unwrap();
    // No run is in progress.
    let joined = within("no run", new.join().into_future()).await.unwrap();
    assert_eq!(joined.status(), RunStatus::Idle, "{joined}");
    asks(&new).await;
    assert_eq!(scene.proxy.requests_to("POST", POLICY).len(), 1);
    assert_eq!(scene.sent(old.id()), ["run", "run"]);
    assert_eq!(scene.ran(), ["a"]);
}

/// A sandbox that was paused and moved leaves sockets that are open but silent.
pub(crate) async fn sockets_that_fall_silent(stage: &Stage) {
    let script = Script::new()
        .call("terminal", json!({ "command": WAITS }))
        .finish("Done.");
    let scene = Scene::start(stage, "silent", never(), script).await;
    let attached = Conversation::attach(&scene.client(), scene.near.id())
        .silence_after(Duration::from_millis(500));
    let attached = timeout(LONG, attached).await.unwrap().unwrap();
    // While no run is in progress.
    scene.proxy.silence();
    scene.other.send("A message.").await.unwrap();
    let expected = log(scene.other.client(), scene.near.id()).await;
    reads(&attached, &expected).await;
    // During a run.
    let waits = running(&attached);
    until(|| scene.directory.join("begun").exists()).await;
    scene.proxy.silence();
    std::fs::write(scene.directory.join("go"), "").unwrap();
    assert!(ends(waits).await.is_finished());
    let expected = log(scene.other.client(), scene.near.id()).await;
    reads(&attached, &expected).await;
    scene.shows(&["run"], &["a"]).await;
}

/// A killed server that is not restarted ends every wait: at once through its own handle,
/// and after `unreachable_after` through another client.
#[tokio::test]
async fn a_permanently_killed_server_ends_every_wait() {
    let script = || {
        Script::new()
            .call("terminal", json!({"command": "touch begun; sleep 600"}))
            .finish("Done.")
    };
    let model = ScriptedModel::start(script()).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let directory = server.workspace_dir().to_owned();
    let workspace = server.workspace(directory.display().to_string());
    let conversation = Conversation::builder(&workspace, agent(&model));
    // Longer than the test: only the supervisor can end this wait.
    let conversation = conversation.unreachable_after(LONG * 100).start();
    let conversation = conversation.await.unwrap();
    let client = Client::builder(format!("http://{}", server.address()));
    let client = client.session_api_key(server.session_api_key().clone());
    let stranger = Conversation::attach(&client.build().unwrap(), conversation.id())
        .unreachable_after(Duration::from_secs(1));
    let stranger = stranger.await.unwrap();
    conversation.send("Sleep.").and_run().await.unwrap();
    until(|| directory.join("begun").exists()).await;
    let waits = [running(&conversation), running(&stranger)];
    let command = "touch started; sleep 600";
    let command = tokio::spawn(async move { workspace.execute(command).await });
    until(|| directory.join("started").exists()).await;
    let mut kill = Command::new("kill");
    let killed = kill.args(["-9", &server.pid().to_string()]).status();
    assert!(killed.unwrap().success());
    let begun = Instant::now();
    let mut status = server.status();
    let exited = status.wait_for(|status| matches!(status, Status::Exited(_)));
    timeout(LONG, exited).await.unwrap().unwrap();
    println!("the supervisor knew after {:?}", begun.elapsed());
    for wait in waits {
        let outcome = ends(wait).await;
        assert_eq!(outcome.status(), RunStatus::ServerGone, "{outcome}");
        println!("a run ended after {:?}: {outcome}", begun.elapsed());
    }
    let error = timeout(LONG, command).await.unwrap().unwrap().unwrap_err();
    println!("a command ended after {:?}: {error}", begun.elapsed());
    let gone = workspace::ErrorKind::ServerGone;
    assert_eq!(error.kind(), gone, "{error}");
    // A later run ends with the same status.
    let late = ends(running(&conversation)).await;
    assert_eq!(late.status(), RunStatus::ServerGone, "{late}");
}
