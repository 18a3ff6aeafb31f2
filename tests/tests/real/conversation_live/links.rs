//! Scenes on the real server that check a link's guarantees, behind a proxy that plays the part of
//! any intermediary.

use std::fs;

use openhands::{
    Conversation, RunOutcome, WorkspaceExt,
    conversation::LinkStatus,
    protocol::config::ConfirmationPolicy,
    testkit::{self, Fault, Script, fake::UpgradeRefusal},
    workspace::ErrorKind,
};
use serde_json::json;
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet, time::timeout};

use super::{
    live::{LONG, log, reads},
    stage::{Scene, Stage, act, asks, never, runs, until},
};

const SESSION: &str = "/sockets/session/{id}";

/// A gateway refuses sockets with a status.
pub(crate) async fn sockets_that_a_gateway_refuses(stage: &Stage) {
    let refused = |status| refused(stage, UpgradeRefusal::Status(status));
    tokio::join!(refused(403), refused(404), refused(426), refused(502));
}

/// A gateway answers socket requests with neither a refusal nor a socket.
pub(crate) async fn sockets_that_a_gateway_answers_oddly(stage: &Stage) {
    let refused = |how| refused(stage, how);
    tokio::join!(
        refused(UpgradeRefusal::Status(200)),
        refused(UpgradeRefusal::Status(400)),
        refused(UpgradeRefusal::NoAcceptKey),
        refused(UpgradeRefusal::Close)
    );
}

/// Checks that a conversation without sockets keeps its guarantees by REST, and reports why it has
/// no socket.
async fn refused(stage: &Stage, how: UpgradeRefusal) {
    let script = Script::new().step(act("a")).finish("Done.");
    let always = ConfirmationPolicy::always();
    let scene = Scene::start(stage, &format!("{how:?}"), always, script).await;
    let gateway = Fault::refuse_upgrade(how).named("gateway");
    scene.proxy.inject(gateway);
    let attached = Conversation::attach(&scene.client(), scene.near.id());
    let attached = timeout(LONG, attached).await.unwrap().unwrap();
    until(|| attached.link().status() == LinkStatus::Polling).await;
    assert!(attached.link().last_error().is_some());
    let (errors, mut refusals) = unbounded_channel();
    let callback = attached.on_error(move |error| _ = errors.send(error.kind()));
    attached.send("Go.").await.unwrap();
    let pending = asks(&attached).await;
    attached.approvals().approve(&pending).await.unwrap();
    let outcome = runs(&attached).await;
    assert!(outcome.is_finished(), "{outcome}");
    scene.shows(&["run", "approve"], &["a"]).await;
    let expected = log(scene.other.client(), scene.near.id()).await;
    assert_eq!(attached.events().len(), expected.len(), "{how:?}");
    reads(&attached, &expected).await;
    assert_eq!(attached.link().status(), LinkStatus::Polling);
    // Missed events are fetched at once, and counted.
    scene.other.send("Another.").await.unwrap();
    let before = attached.events().len();
    let added = timeout(LONG, attached.reconcile()).await.unwrap().unwrap();
    let expected = log(scene.other.client(), scene.near.id()).await;
    assert_eq!(attached.events().len(), expected.len());
    assert_eq!(before + added, expected.len());
    let added = timeout(LONG, attached.reconcile()).await.unwrap();
    assert_eq!(added.unwrap(), 0, "nothing is missing");
    // The next attempt to open a socket is refused, too.
    timeout(LONG, refusals.recv()).await.unwrap().unwrap();
    callback.stop();
    // The client has not tried the socket for old servers.
    let legacy = scene.proxy.requests_to("GET", "/sockets/events/{id}");
    assert!(legacy.is_empty(), "{legacy:?}");
    if how == UpgradeRefusal::Status(403) {
        // When sockets can be opened again, the client uses one.
        scene.proxy.lift("gateway");
        until(|| attached.link().status() == LinkStatus::Live).await;
        scene.other.send("More.").await.unwrap();
        let expected = log(scene.other.client(), scene.near.id()).await;
        reads(&attached, &expected).await;
    }
}

/// Events too large for a frame arrive, although each connection carries only one of them.
pub(crate) async fn large_events_through_cuts(stage: &Stage) {
    const LARGE: usize = 4_500_000;
    let scene = Scene::start(stage, "large", never(), Script::new()).await;
    let texts = ["a", "b", "c"].map(|letter| letter.repeat(LARGE));
    for text in texts {
        scene.other.send(text).await.unwrap();
        scene.other.send("A small one.").await.unwrap();
    }
    scene
        .proxy
        .links(|_| testkit::Link::new().cut_after(6_000_000));
    scene.proxy.cut();
    let expected = log(scene.other.client(), scene.near.id()).await;
    reads(&scene.near, &expected).await;
    let attached = Conversation::attach(&scene.client(), scene.near.id());
    let attached = timeout(LONG, attached).await.unwrap().unwrap();
    reads(&attached, &expected).await;
}

/// Handles in one process share a link, even while a tool holds the server's lock.
pub(crate) async fn handles_of_one_process(stage: &Stage) {
    let command = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo a >> ran";
    let script = Script::new()
        .call("terminal", json!({ "command": command }))
        .finish("Done.");
    let scene = Scene::start(stage, "handles", never(), script).await;
    scene.near.send("Go.").and_run().await.unwrap();
    until(|| scene.directory.join("begun").exists()).await;
    let mut joins = JoinSet::new();
    let mut handles = Vec::new();
    for _ in 0..6 {
        // The same options as those of the near handle.
        let handle = Conversation::attach(scene.near.client(), scene.near.id());
        let handle = handle.ambiguous_after(LONG);
        let handle = timeout(LONG, handle).await.unwrap().unwrap();
        joins.spawn(handle.join().into_future());
        handles.push(handle);
    }
    fs::write(scene.directory.join("go"), "").unwrap();
    while let Some(outcome) = timeout(LONG, joins.join_next()).await.unwrap() {
        let outcome: RunOutcome = outcome.unwrap().unwrap();
        assert!(outcome.is_finished(), "{outcome}");
    }
    let expected = log(scene.other.client(), scene.near.id()).await;
    for handle in &handles {
        reads(handle, &expected).await;
    }
    assert_eq!(scene.proxy.requests_to("GET", SESSION).len(), 1);
    scene.shows(&["run"], &["a"]).await;
}

/// If no connection could be made, the command was not executed.
pub(crate) async fn a_command_over_a_refused_connection(stage: &Stage) {
    let scene = Scene::start(stage, "refused", never(), Script::new()).await;
    let directory = scene.directory.display().to_string();
    let workspace = scene.client().workspace(directory);
    scene.proxy.refuse().await;
    let refused = timeout(LONG, workspace.execute("echo a >> ran"));
    let error = refused.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert_eq!(error.command_id(), None);
    scene.proxy.accept().await.unwrap();
    let output = timeout(LONG, workspace.execute("echo b >> ran"));
    assert_eq!(output.await.unwrap().unwrap().exit_code(), Some(0));
    assert_eq!(scene.ran(), ["b"]);
}
