//! Scenes on the real server in which a policy is set: while an older one is being set again, with
//! a lost answer, without anybody who waits for the answer, across reconnects, during a goal, and
//! during a run. The policy that was set last applies to the next run.

use std::future::IntoFuture as _;

use openhands::{
    conversation::{ErrorKind, LinkStatus},
    protocol::config::ConfirmationPolicy,
    testkit::{Fault, Gate, Script, Step},
};
use tokio::time::timeout;

use super::{
    approvals::{always, sockets_are_down},
    live::LONG,
    stage::{
        RUN, SOCKETS, Scene, Stage, act, asks, ends, fails, never, running, until, waits, within,
    },
    unclear::{EVENTS, GOAL},
};

pub(crate) const POLICY: &str = "/api/conversations/{id}/confirmation_policy";
const SESSION: &str = "/sockets/session/{id}";

/// Returns how often a policy was sent, with or without an answer.
fn policies(scene: &Scene) -> usize {
    scene.proxy.requests_to("POST", POLICY).len()
}

/// Asserts that no policy was sent after the first run.
pub(crate) fn is_set_before_the_run(scene: &Scene) {
    let requests = scene.proxy.requests();
    let policy = requests.iter().rposition(|seen| seen.is("POST", POLICY));
    let run = requests.iter().position(|seen| seen.is("POST", RUN));
    assert!(policy < run, "{requests:#?}");
}

/// Waits for the responses to requests that wait for nothing. What is sent without waiting would
/// have been sent before the last of them.
pub(crate) async fn many_responses(scene: &Scene) {
    for _ in 0..20 {
        within("a response", scene.near.ready()).await.unwrap();
    }
}

fn set(scene: &Scene, policy: ConfirmationPolicy) -> tokio::task::JoinHandle<()> {
    let approvals = scene.near.approvals();
    tokio::spawn(async move { approvals.set_policy(policy).await.unwrap() })
}

/// The new policy is set while the client is setting an old one again.
pub(crate) async fn an_old_policy_on_its_way(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "old-policy", never(), script).await;
    scene.near.approvals().set_policy(always()).await.unwrap();
    // After a restart, a server can have another policy than the one set last.
    scene.other.approvals().set_policy(never()).await.unwrap();
    scene.proxy.inject(Fault::hang().on(POLICY).named("slow"));
    scene.proxy.cut();
    until(|| policies(&scene) == 2).await;
    let newest = set(&scene, never());
    tokio::task::yield_now().await;
    scene.proxy.lift("slow");
    timeout(LONG, newest).await.unwrap().unwrap();
    scene.near.send("Go.").await.unwrap();
    let outcome = ends(running(&scene.near)).await;
    assert!(outcome.is_finished(), "{outcome}");
    scene.shows(&["run"], &["a"]).await;
}

/// The link reconnects while the new policy is being set.
pub(crate) async fn a_policy_on_its_way(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "policy", never(), script).await;
    scene.near.approvals().set_policy(never()).await.unwrap();
    // The server accepts the new policy, and its answer is late.
    scene
        .proxy
        .inject(Fault::hold_answer().on(POLICY).named("slow"));
    let newest = set(&scene, always());
    let has = || scene.other.state().confirmation_policy();
    until(|| has().as_deref() == Some("AlwaysConfirm")).await;
    let connections = scene.near.link().connections();
    scene.proxy.inject(Fault::cut().on(SOCKETS).times(1));
    scene.other.send("Hello.").await.unwrap();
    let back = || {
        scene.near.link().connections() > connections
            && scene.near.link().status() == LinkStatus::Live
    };
    until(back).await;
    scene.proxy.lift("slow");
    timeout(LONG, newest).await.unwrap().unwrap();
    scene.near.send("Go.").await.unwrap();
    asks(&scene.near).await;
    scene.shows(&["run"], &[]).await;
}

/// The server has lost the policy, and the link is not yet back.
pub(crate) async fn a_policy_that_was_forgotten(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "forgotten", never(), script).await;
    scene.near.approvals().set_policy(always()).await.unwrap();
    sockets_are_down(&scene);
    scene.proxy.cut();
    until(|| scene.near.link().status() != LinkStatus::Live).await;
    // A restarted server falls back to the policy that the conversation was created with, which has
    // the same effect.
    scene.other.approvals().set_policy(never()).await.unwrap();
    scene.near.send("Go.").await.unwrap();
    let run = running(&scene.near);
    until(|| policies(&scene) > 1 || run.is_finished() || scene.answered("POST", RUN) > 0).await;
    scene.proxy.lift("down");
    let outcome = ends(run).await;
    waits(&scene.near, &outcome);
    is_set_before_the_run(&scene);
    scene.shows(&["run"], &[]).await;
}

/// Starts a scene with one command and the policy `never`. A server that loads the conversation
/// again has this policy. In the scenes, the other client sets it instead.
async fn begin(stage: &Stage, name: &str) -> Scene {
    let script = Script::new().step(act("a")).finish("Done.");
    Scene::start(stage, name, never(), script).await
}

/// Runs the agent. The run is sent after the policy, and nothing is executed.
async fn run_asks(scene: &Scene) {
    scene.near.send("Go.").await.unwrap();
    asks(&scene.near).await;
    is_set_before_the_run(scene);
    let policy = || scene.other.state().confirmation_policy();
    until(|| policy().as_deref() == Some("AlwaysConfirm")).await;
    scene.shows(&["run"], &[]).await;
}

/// A policy whose request failed is set nevertheless, and is set again before the next run on a
/// server that has lost it.
pub(crate) async fn a_policy_without_an_answer(stage: &Stage) {
    let failures = [
        ("lost", Fault::lost_answer(), 1),
        ("504", Fault::replaced_answer(504), 1),
        ("not-executed", Fault::html(502), 2),
    ];
    for (name, failure, requests) in failures {
        let scene = begin(stage, &format!("policy-{name}")).await;
        let approvals = scene.near.approvals();
        scene.proxy.inject(failure.on(POLICY).times(1));
        let set = within("a policy", approvals.set_policy(always())).await;
        assert!(
            set.is_ok() && policies(&scene) >= requests,
            "{name}: {set:?}"
        );
        // The server loads the conversation again, and loses the policy.
        scene.other.approvals().set_policy(never()).await.unwrap();
        let before = policies(&scene);
        let connections = scene.near.link().connections();
        scene.proxy.cut();
        until(|| scene.near.link().connections() > connections).await;
        run_asks(&scene).await;
        assert!(policies(&scene) > before);
    }
}

/// A policy is set although its caller no longer waits, and no run overtakes it.
pub(crate) async fn a_policy_whose_caller_has_left(stage: &Stage) {
    let scene = begin(stage, "policy-left").await;
    scene.near.send("Go.").await.unwrap();
    scene.proxy.inject(Fault::hang().on(POLICY).named("slow"));
    let set = tokio::spawn(scene.near.approvals().set_policy(always()));
    until(|| policies(&scene) == 1).await;
    set.abort();
    assert!(set.await.unwrap_err().is_cancelled());
    let run = running(&scene.near);
    // A run that did not wait would have been sent before the last of these requests.
    many_responses(&scene).await;
    assert_eq!(scene.answered("POST", RUN), 0);
    scene.proxy.lift("slow");
    waits(&scene.near, &ends(run).await);
    scene.shows(&["run"], &[]).await;
    is_set_before_the_run(&scene);
}

/// A policy that was set again for one connection does not count as set for the next one.
pub(crate) async fn a_policy_across_two_reconnects(stage: &Stage) {
    let scene = begin(stage, "policy-twice").await;
    scene.near.approvals().set_policy(always()).await.unwrap();
    sockets_are_down(&scene);
    scene.proxy.cut();
    until(|| scene.near.link().status() != LinkStatus::Live).await;
    scene.other.approvals().set_policy(never()).await.unwrap();
    // The server accepts the policy for the first connection, and its answer is late.
    let held = Fault::hold_answer().on(POLICY).named("held").times(1);
    scene.proxy.inject(held);
    let before = policies(&scene);
    scene.proxy.lift("down");
    until(|| policies(&scene) > before).await;
    let policy = || scene.other.state().confirmation_policy();
    until(|| policy().as_deref() == Some("AlwaysConfirm")).await;
    // The server loses the policy again, and the near client reconnects.
    scene.other.approvals().set_policy(never()).await.unwrap();
    let connections = scene.near.link().connections();
    scene.proxy.inject(Fault::cut().on(SOCKETS).times(1));
    scene.other.send("Hello.").await.unwrap();
    let back = || {
        scene.near.link().connections() > connections
            && scene.near.link().status() == LinkStatus::Live
    };
    until(back).await;
    scene.proxy.lift("held");
    run_asks(&scene).await;
    assert!(policies(&scene) > before + 1);
}

/// A policy with a lost response is not repeated over the newer policy of another program.
pub(crate) async fn a_newer_policy_of_another_program(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "policy-newer", always(), script).await;
    // The gateway gives up on the policy after another program has set a newer one.
    let gives_up = Fault::replaced_answer(504).on(POLICY).times(1);
    scene.proxy.inject(gives_up);
    let held = Fault::hold_answer().on(POLICY).named("held").times(1);
    scene.proxy.inject(held);
    let older = set(&scene, never());
    let policy = || scene.other.state().confirmation_policy();
    until(|| policy().as_deref() == Some("NeverConfirm")).await;
    scene.other.approvals().set_policy(always()).await.unwrap();
    scene.proxy.lift("held");
    within("a policy", older).await.unwrap();
    scene.near.send("Go.").await.unwrap();
    asks(&scene.near).await;
    let sent = scene.proxy.requests_to("POST", POLICY);
    let never = |body: String| body.contains("NeverConfirm");
    let nevers = sent.iter().filter(|seen| never(seen.json().to_string()));
    assert_eq!(nevers.count(), 1, "{sent:#?}");
    scene.shows(&["run"], &[]).await;
}

/// A policy that may ask and a goal exclude each other, also when the policy is set again: the
/// next round of the goal would execute what waits.
pub(crate) async fn a_policy_and_a_goal(stage: &Stage) {
    let (working, judging) = (Gate::new(), Gate::new());
    let reached = || Step::text(r#"{"score": 1.0, "complete": true, "missing": ""}"#);
    let script = Script::new()
        .step(act("a").hold(&working))
        .finish("Done.")
        .step(reached())
        .step(act("b"))
        .finish("Done.")
        .step(reached().hold(&judging))
        .step(act("c"))
        .finish("Done.");
    let scene = Scene::start(stage, "policy-goal", never(), script).await;
    let (near, other) = (&scene.near, &scene.other);
    // The policy waits until the goal has started, and finds it.
    scene.proxy.inject(Fault::hang().on(GOAL).named("slow"));
    let goal = tokio::spawn(near.goals().start("Reach it.").into_future());
    until(|| scene.proxy.requests_to("POST", GOAL).len() == 1 || goal.is_finished()).await;
    let policy = tokio::spawn(near.approvals().set_policy(always()));
    many_responses(&scene).await;
    assert_eq!(policies(&scene), 0);
    scene.proxy.lift("slow");
    let goal = within("a goal", goal).await.unwrap().unwrap();
    let policy = within("a policy", policy).await.unwrap();
    fails(policy, ErrorKind::Conflict);
    assert_eq!(policies(&scene), 0);
    working.open();
    within("the end of a goal", goal.ended()).await.unwrap();
    scene.shows(&["goal"], &["a"]).await;

    // Another program lifts a policy and starts a goal. The near client reconnects.
    near.approvals().set_policy(always()).await.unwrap();
    other.approvals().set_policy(never()).await.unwrap();
    let goal = other.goals().start("Reach it again.").into_future();
    let goal = within("a goal", goal).await.unwrap();
    within("a judge", judging.arrived(1)).await;
    let dials = || scene.proxy.requests_to("GET", SESSION).len();
    let before = dials();
    scene.proxy.cut();
    until(|| dials() > before).await;
    let run = within("a run", near.run().into_future()).await;
    fails(run, ErrorKind::Conflict);
    assert_eq!(policies(&scene), 1);
    scene.shows(&["goal"], &["a", "b"]).await;
    judging.open();
    within("the end of a goal", goal.ended()).await.unwrap();
    near.send("Go.").await.unwrap();
    asks(near).await;
    assert_eq!(policies(&scene), 2);
    scene.shows(&["goal", "run"], &["a", "b"]).await;
}

/// A message and a policy do not wait for the response to a run. The policy applies to this run.
pub(crate) async fn a_run_without_a_response(stage: &Stage) {
    let scene = begin(stage, "policy-run").await;
    let near = &scene.near;
    near.send("Go.").await.unwrap();
    scene.proxy.inject(Fault::hang().on(RUN).named("slow"));
    let run = running(near);
    until(|| scene.proxy.requests_to("POST", RUN).len() == 1 || run.is_finished()).await;
    let message = near.send("Wait.").into_future();
    within("a message", message).await.unwrap();
    let policy = near.approvals().set_policy(always());
    within("a policy", policy).await.unwrap();
    assert_eq!(scene.answered("POST", RUN), 0);
    assert_eq!(scene.answered("POST", EVENTS), 2);
    assert_eq!(policies(&scene), 1);
    scene.proxy.lift("slow");
    waits(near, &ends(run).await);
    scene.shows(&["run"], &[]).await;
}
