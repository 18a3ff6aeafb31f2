//! Scenes on the real server for requests, apart from runs and approvals, that make it execute
//! actions: condensing, and starting a child.

use openhands::{
    conversation::ErrorKind,
    protocol::calls::conversations::{Condense, Isolation, StartChild},
    testkit::{Gate, Script, Step},
};

use super::{
    approvals::always,
    stage::{Scene, Stage, act, asks, fails, never, runs, until},
};

/// Condensing executes no action that waits, and none that a run may still propose.
pub(crate) async fn condensing_approves_nothing(stage: &Stage) {
    let gate = Gate::new();
    let summary = Step::text("A summary.");
    let script = Script::new().step(act("a").hold(&gate)).step(summary);
    let scene = Scene::start(stage, "condense", always(), script.finish("Done.")).await;
    let near = &scene.near;
    near.send("Go.").and_run().await.unwrap();
    gate.arrived(1).await;
    fails(near.agent().condense().await, ErrorKind::Conflict);
    gate.open();
    asks(near).await;
    fails(
        near.agent().condense().await,
        ErrorKind::PendingConfirmation,
    );
    // The other client has not proposed the action, and has no state of the run.
    fails(
        scene.other.agent().condense().await,
        ErrorKind::PendingConfirmation,
    );
    scene.shows(&["run"], &[]).await;
    // Without these checks, the server executes what nobody has approved. Its status stays.
    let condense = Condense::new(near.id());
    stage.client().call(&condense).await.unwrap();
    scene.shows(&["run"], &["a"]).await;
    assert!(runs(near).await.is_finished());
    scene.shows(&["run", "run"], &["a"]).await;
}

/// No child is started that would not ask for approval, although its parent does.
pub(crate) async fn children_without_the_policy_of_their_parent(stage: &Stage) {
    let script = Script::new().step(act("child")).finish("Done.");
    let scene = Scene::start(stage, "child", never(), script).await;
    let near = &scene.near;
    near.approvals().set_policy(always()).await.unwrap();
    // The other client has not set the policy itself.
    for client in [near, &scene.other] {
        let child = client.children().start("Go.").isolation(Isolation::Shared);
        fails(child.await, ErrorKind::Conflict);
    }
    scene.shows(&[], &[]).await;
    // Without this check, the server executes what nobody has approved.
    let child = StartChild::new(near.id(), "Go.").isolation(Isolation::Shared);
    stage.client().call(&child).await.unwrap();
    until(|| scene.ran() == ["child"]).await;
    assert!(scene.sent(near.id()).is_empty());
}
