//! Scenes on the real server with actions that wait for approval although they are older than the
//! events that a handle holds.

use openhands::{
    Conversation,
    conversation::{ErrorKind, PendingAction},
    protocol::config::ConfirmationPolicy,
    testkit::{Fault, Script},
};
use tokio::time::timeout;

use super::{
    live::LONG,
    stage::{SOCKETS, Scene, Stage, act, asks, fails, runs, until},
};

/// A number of events that exceeds a page of the log.
const MANY: usize = 130;

/// Logs many events after the action, and ends with a policy that never asks.
pub(crate) async fn bury(scene: &Scene) {
    let approvals = scene.other.approvals();
    for n in 0..MANY {
        let policy = match n % 2 {
            0 => ConfirmationPolicy::always(),
            _ => ConfirmationPolicy::never(),
        };
        approvals.set_policy(policy).await.unwrap();
    }
}

async fn attach_live(scene: &Scene) -> Conversation {
    let attach = Conversation::attach(&scene.client(), scene.near.id()).live();
    let attached = timeout(LONG, attach).await.unwrap().unwrap();
    assert!(attached.events().len() < 10, "{}", attached.events().len());
    attached
}

fn status(conversation: &Conversation) -> String {
    conversation.state().execution_status().to_string()
}

async fn waiting(stage: &Stage, name: &str) -> (Scene, Vec<PendingAction>) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, name, ConfirmationPolicy::always(), script).await;
    scene.near.send("Go.").await.unwrap();
    let pending = asks(&scene.near).await;
    bury(&scene).await;
    (scene, pending)
}

/// Checks that a handle that starts with the newest events has the pending action, and that its
/// approval executes it.
pub(crate) async fn an_older_action(stage: &Stage) {
    let (scene, pending) = waiting(stage, "older").await;
    let attached = attach_live(&scene).await;
    assert_eq!(attached.approvals().pending(), pending);
    assert_eq!(asks(&attached).await, pending);
    fails(
        attached.send("And?").and_run().await,
        ErrorKind::PendingConfirmation,
    );
    scene.shows(&["run"], &[]).await;
    attached.approvals().approve(&pending).await.unwrap();
    assert!(runs(&attached).await.is_finished());
    scene.shows(&["run", "approve"], &["a"]).await;
}

/// Checks that a handle that starts with the newest events follows the same branch as the server.
pub(crate) async fn an_older_action_of_another_branch(stage: &Stage) {
    let (scene, _) = waiting(stage, "older-branch").await;
    let events = scene.near.events();
    let message = events.of_kind("MessageEvent").next().unwrap();
    scene.near.branches().navigate(message.id()).await.unwrap();
    let attached = attach_live(&scene).await;
    assert!(attached.approvals().pending().is_empty());
    assert!(runs(&attached).await.is_finished());
    scene.shows(&["run", "run"], &[]).await;
}

/// Checks an action that nobody approved and that another client has navigated back to. Only a
/// request shows the navigation.
pub(crate) async fn a_navigation_of_another_client(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "navigated", ConfirmationPolicy::always(), script).await;
    scene.near.send("Go.").await.unwrap();
    let pending = asks(&scene.near).await;
    let approvals = scene.near.approvals();
    approvals.reject(&pending, "No.").await.unwrap();
    let never = ConfirmationPolicy::never();
    approvals.set_policy(never).await.unwrap();
    scene
        .other
        .branches()
        .navigate(pending[0].id())
        .await
        .unwrap();
    assert_eq!(asks(&scene.near).await, pending);
    // The same holds while the conversation is paused.
    scene.near.pause().await.unwrap();
    until(|| *status(&scene.near) == *"paused").await;
    assert_eq!(asks(&scene.near).await, pending);
    fails(
        scene.near.send("And?").and_run().await,
        ErrorKind::PendingConfirmation,
    );
    scene.shows(&["run", "reject"], &[]).await;
    scene.near.approvals().approve(&pending).await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    scene.shows(&["run", "reject", "approve"], &["a"]).await;
}

/// Checks that a handle has the pending action before the server sends the state, which a busy
/// server sends late.
pub(crate) async fn an_older_action_over_a_silent_socket(stage: &Stage) {
    let (scene, pending) = waiting(stage, "older-silent").await;
    scene.proxy.inject(Fault::hang().on(SOCKETS).named("late"));
    let attached = attach_live(&scene).await;
    assert_eq!(attached.approvals().pending(), pending);
    scene.proxy.lift("late");
    scene.proxy.cut();
    assert_eq!(asks(&attached).await, pending);
    scene.shows(&["run"], &[]).await;
}
