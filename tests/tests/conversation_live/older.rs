//! Actions that wait for approval, but are older than the events that a handle holds, on the real
//! server.

use openhands::{
    Conversation,
    conversation::{ErrorKind, PendingAction},
    protocol::config::ConfirmationPolicy,
    testkit::Script,
};
use tokio::time::timeout;

use super::{
    live::LONG,
    stage::{Scene, Stage, act, asks, fails, runs},
};

/// More than a page of the log.
const MANY: usize = 130;

/// Logs many events after the action, and leaves a policy that asks for nothing.
async fn bury(scene: &Scene) {
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

async fn waiting(stage: &Stage, name: &str) -> (Scene, Vec<PendingAction>) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, name, ConfirmationPolicy::always(), script).await;
    scene.near.send("Go.").await.unwrap();
    let pending = asks(&scene.near).await;
    bury(&scene).await;
    (scene, pending)
}

/// A handle that begins with the newest events knows the action, and its approval executes it.
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

/// A handle that begins with the newest events follows the branch that the server follows.
pub(crate) async fn an_older_action_of_another_branch(stage: &Stage) {
    let (scene, _) = waiting(stage, "older-branch").await;
    let events = scene.near.events();
    let message = events.of_kind("MessageEvent").next().unwrap();
    scene.near.navigate(message.id()).await.unwrap();
    let attached = attach_live(&scene).await;
    assert!(attached.approvals().pending().is_empty());
    assert!(runs(&attached).await.is_finished());
    scene.shows(&["run", "run"], &[]).await;
}
