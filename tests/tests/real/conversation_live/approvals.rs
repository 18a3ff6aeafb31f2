//! Scenes on the real server that check that nothing is executed without approval, one for each way
//! in which that once happened. Each scene has its own conversation.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use openhands::{
    Conversation, WorkspaceExt,
    conversation::{ApprovalEvent, Bulk, ClientTool, ErrorKind, LinkStatus, PendingAction},
    protocol::{calls::conversations::StartGoal, config::ConfirmationPolicy},
    testkit::{Fault, Gate, Script, fake::UpgradeRefusal},
};
use serde_json::json;
use tokio::{sync::Notify, time::timeout};

use super::{
    live::{LONG, agent, llm},
    stage::{
        RESPOND, RUN, SEARCH, SOCKETS, Scene, Stage, act, asks, ends, fails, never, running, runs,
        until, waits, within,
    },
};

const NOTHING: [PendingAction; 0] = [];

pub(crate) fn always() -> ConfirmationPolicy {
    ConfirmationPolicy::always()
}

/// Prevents the near client's sockets from opening until the fault is lifted. REST still works.
pub(crate) fn sockets_are_down(scene: &Scene) {
    let refuses = Fault::refuse_upgrade(UpgradeRefusal::Status(502));
    scene.proxy.inject(refuses.named("down"));
}

/// Stops all events to the near client. Its sockets still open and stay open.
fn events_stop(scene: &Scene) {
    scene.proxy.inject(Fault::stall().on(SOCKETS).named("stop"));
}

/// A run after a pause does not execute the action of the paused step.
pub(crate) async fn a_run_after_a_pause(stage: &Stage) {
    let gate = Gate::new();
    let script = Script::new().step(act("a").hold(&gate)).finish("Done.");
    let scene = Scene::start(stage, "pause", always(), script).await;
    scene.near.send("Go.").and_run().await.unwrap();
    within("a request to the model", gate.arrived(1)).await;
    scene.near.pause().await.unwrap();
    // The model request is still in progress. The next run detects this before the model answers.
    let looks = || scene.answered("GET", "/api/conversations/{id}");
    let before = looks();
    let second = running(&scene.near);
    until(|| looks() > before || scene.answered("POST", RUN) > 1 || second.is_finished()).await;
    gate.open();
    let outcome = ends(second).await;
    let pending = waits(&scene.near, &outcome);
    assert!(!outcome.report().started(), "{outcome}");
    scene.shows(&["run"], &[]).await;
    scene.near.approvals().approve(&pending).await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    scene.shows(&["run", "approve"], &["a"]).await;
}

/// A lost answer to a message or a run does not lead to a second run.
pub(crate) async fn lost_answers_to_a_message_and_a_run(stage: &Stage) {
    let gate = Gate::new();
    let script = Script::new().step(act("a").hold(&gate)).finish("Done.");
    let scene = Scene::start(stage, "lost", always(), script).await;
    let lost = |route: &str| Fault::lost_answer().on(route).method("POST").times(1);
    scene.proxy.inject(lost("/api/conversations/{id}/events"));
    scene.near.send("Go.").await.unwrap();
    scene.proxy.inject(lost(RUN));
    let run = running(&scene.near);
    until(|| scene.answered("POST", RUN) > 0).await;
    // The link comes back later than REST.
    sockets_are_down(&scene);
    scene.proxy.cut();
    gate.open();
    // The other client sees that the action waits.
    asks(&scene.other).await;
    scene.proxy.lift("down");
    let outcome = ends(run).await;
    waits(&scene.near, &outcome);
    assert!(outcome.report().started(), "{outcome}");
    // Another run does not change this.
    asks(&scene.near).await;
    scene.shows(&["run"], &[]).await;
}

/// A run after an approval joins the run of the approval.
pub(crate) async fn a_run_after_an_approval(stage: &Stage) {
    run_after_approval(stage, "approval", None).await;
}

/// The same, on a link that delays each event.
pub(crate) async fn a_run_after_an_approval_over_a_slow_link(stage: &Stage) {
    let late = Fault::drip(Duration::from_millis(250)).on(SOCKETS);
    run_after_approval(stage, "approval-slow", Some(late)).await;
}

async fn run_after_approval(stage: &Stage, name: &str, fault: Option<Fault>) {
    let gate = Gate::new();
    let script = Script::new().step(act("a")).step(act("b").hold(&gate));
    let scene = Scene::start(stage, name, always(), script.finish("Done.")).await;
    if let Some(fault) = fault {
        scene.proxy.inject(fault);
    }
    scene.near.send("Go.").await.unwrap();
    let first = asks(&scene.near).await;
    scene.near.approvals().approve(&first).await.unwrap();
    // The run checks the log before the agent proposes its next action.
    let before = scene.answered("GET", SEARCH);
    let run = running(&scene.near);
    until(|| scene.answered("GET", SEARCH) > before || run.is_finished()).await;
    gate.open();
    let outcome = ends(run).await;
    let second = waits(&scene.near, &outcome);
    assert_ne!(second, first);
    scene.shows(&["run", "approve"], &["a"]).await;
}

/// The result of a client tool does not approve the next action.
pub(crate) async fn the_result_of_a_client_tool(stage: &Stage) {
    let (called, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let tool = {
        let (called, answer) = (called.clone(), answer.clone());
        ClientTool::new("ask_me", "Asks the user.", move |_| {
            let (called, answer) = (called.clone(), answer.clone());
            async move {
                called.fetch_add(1, Ordering::SeqCst);
                answer.notified().await;
                Ok("An answer.")
            }
        })
    };
    let long = "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo a >> ran";
    let script = Script::new()
        .call("ask_me", json!({}))
        .call("terminal", json!({ "command": long }))
        .step(act("b"))
        .finish("Done.");
    let scene = Scene::start_with(stage, "tool", always(), script, |builder| {
        builder.client_tool(tool)
    });
    let scene = scene.await;
    let approvals = scene.near.approvals();
    scene.near.send("Go.").await.unwrap();
    let asked = asks(&scene.near).await;
    assert_eq!(asked[0].tool_name(), "ask_me");
    assert_eq!(called.load(Ordering::SeqCst), 0, "nobody approved the call");
    approvals.approve(&asked).await.unwrap();
    let first = asks(&scene.near).await;
    until(|| called.load(Ordering::SeqCst) == 1).await;
    approvals.approve(&first).await.unwrap();
    let run = running(&scene.near);
    until(|| scene.directory.join("begun").exists()).await;
    // The result is sent while a tool holds the server's lock.
    answer.notify_one();
    let requests = || scene.proxy.requests();
    let is_result = |seen: &openhands::testkit::fake::Seen| {
        seen.is("POST", "/api/conversations/{id}/events")
            && seen.json().to_string().contains("An answer.")
    };
    until(|| requests().iter().any(is_result)).await;
    fs::write(scene.directory.join("go"), "").unwrap();
    let outcome = ends(run).await;
    if outcome.is_finished() {
        // The server received it while the model was being asked, and rejected the next action.
        assert!(scene.near.approvals().pending().is_empty());
        assert_eq!(scene.ran(), ["a"], "what was executed");
        let sent = scene.sent(scene.near.id());
        let approved = sent.iter().filter(|sent| **sent == "approve").count();
        assert_eq!(approved, 2, "{sent:?}");
        return;
    }
    let second = waits(&scene.near, &outcome);
    // If the client had started a run for the result, the next check would find it.
    until(|| {
        requests()
            .iter()
            .any(|seen| is_result(seen) && seen.status != 0)
    })
    .await;
    let again = asks(&scene.near).await;
    assert_eq!(again, second);
    scene.shows(&["run", "approve", "approve"], &["a"]).await;
}

/// A message during a replay does not approve the waiting action.
pub(crate) async fn a_message_during_a_replay(stage: &Stage) {
    let gate = Gate::new();
    let script = Script::new().step(act("a").hold(&gate)).finish("Done.");
    let scene = Scene::start(stage, "replay", always(), script).await;
    scene.other.send("Go.").await.unwrap();
    let run = running(&scene.other);
    within("a request to the model", gate.arrived(1)).await;
    until(|| scene.near.state().execution_status().is_running()).await;
    // From here on the near client is connected, but receives nothing.
    events_stop(&scene);
    scene.proxy.cut();
    gate.open();
    let pending = waits(&scene.other, &ends(run).await);
    assert!(scene.near.approvals().pending().is_empty());
    fails(
        scene.near.send("And?").and_run().await,
        ErrorKind::PendingConfirmation,
    );
    fails(
        scene.near.send("And?").await,
        ErrorKind::PendingConfirmation,
    );
    assert_eq!(asks(&scene.near).await, pending);
    // The same holds for a client that attaches now.
    let attached = Conversation::attach(&scene.client(), scene.near.id());
    let attached = timeout(LONG, attached).await.unwrap().unwrap();
    fails(
        attached.send("And?").and_run().await,
        ErrorKind::PendingConfirmation,
    );
    assert_eq!(asks(&attached).await, pending);
    assert_eq!(scene.answered("POST", "/api/conversations/{id}/events"), 0);
    scene.shows(&[], &[]).await;
}

/// An answer to actions that no longer wait has no effect.
pub(crate) async fn stale_answers(stage: &Stage) {
    let script = Script::new().step(act("a")).step(act("b"));
    let scene = Scene::start(stage, "stale", always(), script.finish("Done.")).await;
    let (near, other) = (scene.near.approvals(), scene.other.approvals());
    scene.near.send("Go.").await.unwrap();
    let shown = asks(&scene.near).await;
    // Another client approves the action. The near client does not learn that another action waits
    // now.
    events_stop(&scene);
    assert_eq!(asks(&scene.other).await, shown);
    other.approve(&shown).await.unwrap();
    let next = asks(&scene.other).await;
    assert_eq!(near.pending(), shown, "it has not heard of it");
    fails(near.approve(&shown).await, ErrorKind::Conflict);
    fails(near.reject(&shown, "No.").await, ErrorKind::Conflict);
    // The same if the near client has learned which action waits.
    scene.proxy.heal();
    scene.proxy.cut();
    until(|| near.pending() == next).await;
    fails(near.approve(&shown).await, ErrorKind::Conflict);
    fails(near.reject(&shown, "No.").await, ErrorKind::Conflict);
    fails(near.approve(&NOTHING).await, ErrorKind::Conflict);
    let both = [&shown[..], &next[..]].concat();
    fails(near.approve(&both).await, ErrorKind::Conflict);
    scene.shows(&["run"], &["a"]).await;
    // The same if no action waits any more: the server would treat an empty approval as a run.
    other.reject(&next, "No.").await.unwrap();
    for stale in [&shown, &next] {
        fails(near.approve(stale).await, ErrorKind::Conflict);
        fails(near.reject(stale, "No.").await, ErrorKind::Conflict);
    }
    fails(near.approve(&NOTHING).await, ErrorKind::NothingPending);
    fails(
        near.reject(&NOTHING, "No.").await,
        ErrorKind::NothingPending,
    );
    scene.shows(&["run"], &["a"]).await;
}

/// The answer to an approval is lost.
pub(crate) async fn a_lost_answer_to_an_approval(stage: &Stage) {
    let script = Script::new().step(act("a")).step(act("b"));
    let scene = Scene::start(stage, "lost-approval", always(), script.finish("Done.")).await;
    let approvals = scene.near.approvals();
    scene.near.send("Go.").await.unwrap();
    let first = asks(&scene.near).await;
    scene
        .proxy
        .inject(Fault::lost_answer().on(RESPOND).times(1));
    // The log shows that the server accepted the approval.
    approvals.approve(&first).await.unwrap();
    let second = asks(&scene.near).await;
    fails(approvals.approve(&first).await, ErrorKind::Conflict);
    scene.shows(&["run", "approve"], &["a"]).await;
    approvals.approve(&second).await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    scene
        .shows(&["run", "approve", "approve"], &["a", "b"])
        .await;
}

/// A run while the link is down does not execute an action that waits.
pub(crate) async fn a_run_over_a_link_that_is_down(stage: &Stage) {
    let script = Script::new().step(act("a")).step(act("b"));
    let scene = Scene::start(stage, "down", never(), script.finish("Done.")).await;
    sockets_are_down(&scene);
    scene.proxy.cut();
    until(|| scene.near.link().status() != LinkStatus::Live).await;
    // Another client sets a policy and starts a run in the meantime.
    scene.other.approvals().set_policy(always()).await.unwrap();
    scene.other.send("Go.").await.unwrap();
    let first = asks(&scene.other).await;
    assert_eq!(asks(&scene.near).await, first);
    scene.proxy.lift("down");
    scene.shows(&[], &[]).await;
    // The same while REST is unavailable too.
    scene.proxy.refuse().await;
    let run = running(&scene.near);
    tokio::task::yield_now().await;
    let approvals = scene.other.approvals();
    approvals.approve(&first).await.unwrap();
    let second = asks(&scene.other).await;
    scene.proxy.accept().await.unwrap();
    assert_eq!(waits(&scene.near, &ends(run).await), second);
    scene.shows(&[], &["a"]).await;
}

/// An action of a branch that was left is not pending.
pub(crate) async fn a_branch_that_was_left(stage: &Stage) {
    let script = Script::new().step(act("a")).step(act("b"));
    let scene = Scene::start(stage, "branch", always(), script.finish("Done.")).await;
    let approvals = scene.near.approvals();
    scene.near.send("Go.").await.unwrap();
    let left = asks(&scene.near).await;
    let events = scene.near.events();
    let message = events
        .of_kind("MessageEvent")
        .next()
        .unwrap()
        .id()
        .to_owned();
    scene.near.branches().navigate(message).await.unwrap();
    assert!(approvals.pending().is_empty());
    fails(approvals.approve(&left).await, ErrorKind::Conflict);
    fails(approvals.reject(&left, "No.").await, ErrorKind::Conflict);
    fails(approvals.approve(&NOTHING).await, ErrorKind::NothingPending);
    fails(
        approvals.reject(&NOTHING, "No.").await,
        ErrorKind::NothingPending,
    );
    scene.shows(&["run"], &[]).await;
    let next = asks(&scene.near).await;
    assert_ne!(next, left);
    scene.shows(&["run", "run"], &[]).await;
    // Another client, which has not navigated, sees the same.
    assert_eq!(asks(&scene.other).await, next);
    approvals.approve(&next).await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    scene.shows(&["run", "run", "approve"], &["b"]).await;
}

/// A second client's action begins to wait, and the first client receives the event much later.
pub(crate) async fn a_slow_link(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "slow", never(), script).await;
    // Less than the time after which a silent link is checked.
    let late = Fault::drip(Duration::from_secs(40)).on(SOCKETS);
    scene.proxy.inject(late);
    scene.other.approvals().set_policy(always()).await.unwrap();
    scene.other.send("Go.").await.unwrap();
    let pending = asks(&scene.other).await;
    let approvals = scene.near.approvals();
    assert!(approvals.pending().is_empty() && scene.near.events().is_empty());
    fails(
        scene.near.send("And?").and_run().await,
        ErrorKind::PendingConfirmation,
    );
    fails(
        scene.near.goals().start("Reach it.").await,
        ErrorKind::PendingConfirmation,
    );
    fails(approvals.approve(&NOTHING).await, ErrorKind::Conflict);
    assert_eq!(asks(&scene.near).await, pending);
    scene.shows(&[], &[]).await;
}

/// Checks all other operations on a conversation while an action waits.
pub(crate) async fn every_other_way(stage: &Stage) {
    let script = Script::new()
        .step(act("a"))
        .forever(|s| s.text("Some words."));
    let scene = Scene::start(stage, "other", always(), script).await;
    let near = &scene.near;
    near.send("Go.").await.unwrap();
    let pending = asks(near).await;
    let waiting = ErrorKind::PendingConfirmation;
    fails(near.send("And?").await, waiting);
    fails(near.send("And?").and_run().await, waiting);
    fails(near.send("And?").even_if_pending().and_run().await, waiting);
    near.send("And?").even_if_pending().await.unwrap();
    fails(near.goals().start("Reach it.").await, waiting);
    fails(near.goals().resume().await, waiting);
    let joined = timeout(LONG, near.join()).await.unwrap().unwrap();
    assert_eq!(waits(near, &joined), pending);
    near.title().generate().await.unwrap();
    let other = near
        .title()
        .generate()
        .llm(llm(&scene.model, "openai/scripted"));
    other.await.unwrap();
    near.agent().ask("What is this?").await.unwrap();
    near.title().set("A title").await.unwrap();
    near.settings().set_tags([("kind", "test")]).await.unwrap();
    near.approvals().set_policy(always()).await.unwrap();
    near.settings()
        .switch_llm(llm(&scene.model, "openai/scripted"))
        .await
        .unwrap();
    // A batch with two entries: one resumes the conversation, and one starts a conversation with
    // its id.
    let workspace = scene
        .client()
        .workspace(scene.directory.display().to_string());
    let same = Conversation::builder(&workspace, agent(&scene.model)).id(near.id());
    let batch = Bulk::new().resume(near.clone()).start(same, "Go on.");
    let mut results = batch.run();
    let (mut waited, mut refused) = (0, 0);
    while let Some(result) = timeout(LONG, results.next()).await.unwrap() {
        match result.outcome {
            Ok(outcome) => {
                waits(near, &outcome);
                waited += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), waiting, "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((waited, refused), (1, 1));
    // A fork: the pending action waits in both conversations, and neither executes it.
    let copy = near
        .branches()
        .fork()
        .llm(llm(&scene.model, "openai/scripted"));
    let copy = copy.await.unwrap();
    fails(copy.send("And?").and_run().await, waiting);
    fails(copy.goals().start("Reach it.").await, waiting);
    assert_eq!(asks(&copy).await, pending);
    assert!(scene.sent(copy.id()).is_empty());
    scene.shows(&["run"], &[]).await;
    copy.delete().await.unwrap();
}

/// A goal goes on with its next round while an action waits, and so executes the action. Therefore
/// no goal is started under a policy that asks, or while a run may still propose an action.
pub(crate) async fn goals_that_would_approve(stage: &Stage) {
    let gate = Gate::new();
    let script = Script::new()
        .step(act("a").hold(&gate))
        .step(act("b"))
        .forever(|s| s.text(r#"{"score": 0.0, "complete": false, "missing": "the end"}"#));
    let scene = Scene::start(stage, "goal", always(), script).await;
    let near = &scene.near;
    fails(near.goals().start("Reach it.").await, ErrorKind::Conflict);
    fails(near.goals().resume().await, ErrorKind::Conflict);
    near.send("Go.").and_run().await.unwrap();
    within("a request to the model", gate.arrived(1)).await;
    fails(near.goals().start("Reach it.").await, ErrorKind::Conflict);
    near.pause().await.unwrap();
    fails(near.goals().start("Reach it.").await, ErrorKind::Conflict);
    gate.open();
    let pending = asks(near).await;
    fails(
        near.goals().start("Reach it.").await,
        ErrorKind::PendingConfirmation,
    );
    near.approvals().reject(&pending, "no").await.unwrap();
    scene.shows(&["run", "reject"], &[]).await;
    // Without these checks, the server executes what nobody has approved.
    let goal = StartGoal::new(near.id(), "Reach it.").max_iterations(2);
    stage.client().call(&goal).await.unwrap();
    until(|| scene.ran() == ["b"]).await;
    near.goals().stop().await.unwrap();
    assert_eq!(scene.sent(near.id()), ["run", "reject"]);
}

/// Approvals that are sent as soon as an action waits all have an effect.
pub(crate) async fn approvals_at_once(stage: &Stage) {
    let names: Vec<String> = (0..12).map(|n| format!("a{n}")).collect();
    let script = names
        .iter()
        .fold(Script::new(), |s, name| s.step(act(name)));
    let scene = Scene::start(stage, "at-once", always(), script.finish("Done.")).await;
    let mut events = scene.near.approvals().events();
    scene.near.send("Go.").and_run().await.unwrap();
    for _ in &names {
        let requested = async {
            loop {
                if let ApprovalEvent::Requested(shown) = events.next().await.unwrap() {
                    return shown;
                }
            }
        };
        // A run that fails asks for nothing more.
        let failed = async || {
            let status = || scene.near.state().execution_status().to_string();
            until(|| status() == "error").await;
        };
        let shown = tokio::select! {
            shown = within("a request for approval", requested) => shown,
            () = failed() => panic!("the run has failed"),
        };
        scene.near.approvals().approve(&shown).await.unwrap();
    }
    assert!(runs(&scene.near).await.is_finished());
    let sent: Vec<&str> = std::iter::once("run")
        .chain(names.iter().map(|_| "approve"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.shows(&sent, &names).await;
}
