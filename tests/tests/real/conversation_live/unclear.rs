//! Scenes on the real server behind a gateway that gives up on requests which the server executes,
//! or on which nobody gets a response. Nothing is executed twice, and the outcome follows the log.

use std::{
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use openhands::{
    Conversation, RunStatus, WorkspaceExt,
    conversation::{ClientTool, ConversationBuilder, Error, ErrorKind},
    protocol::{ConversationId, calls::conversations::Get, config::ConfirmationPolicy},
    testkit::{Fault, Script, Step, fake::Seen},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    live::{LONG, agent, events},
    stage::{
        RESPOND, RUN, SEARCH, SOCKETS, Scene, Stage, act, asks, fails, never, running, runs, until,
        waits, within,
    },
};

pub(crate) const EVENTS: &str = "/api/conversations/{id}/events";
const FORK: &str = "/api/conversations/{id}/fork";
pub(crate) const GOAL: &str = "/api/conversations/{id}/goal";
const INTERRUPT: &str = "/api/conversations/{id}/interrupt";
const NAVIGATE: &str = "/api/conversations/{id}/navigate";
const START: &str = "/api/conversations";

fn always() -> ConfirmationPolicy {
    ConfirmationPolicy::always()
}

/// The server executes the next request to this route, and the gateway responds with this status.
fn gives_up(scene: &Scene, route: &str, status: u16) {
    let fault = Fault::replaced_answer(status).method("POST").on(route);
    scene.proxy.inject(fault.times(1));
}

/// Returns the requests to a route whose body contains this text.
pub(crate) fn with(scene: &Scene, route: &str, text: &str) -> Vec<Seen> {
    let mut seen = scene.proxy.requests_to("POST", route);
    seen.retain(|seen| seen.json().to_string().contains(text));
    seen
}

/// Returns how many user messages of the server's log contain this text.
async fn logged(scene: &Scene, text: &str) -> usize {
    let log = events(scene.other.client(), scene.near.id()).await;
    let bodies = log.iter().map(|event| {
        let body: Value = serde_json::from_slice(event.raw()).unwrap();
        body
    });
    let messages = bodies.filter(|body| {
        body["kind"] == "MessageEvent"
            && body["source"] == "user"
            && body.to_string().contains(text)
    });
    messages.count()
}

/// Makes an unclear result known soon.
fn soon(builder: ConversationBuilder) -> ConversationBuilder {
    builder.ambiguous_after(Duration::from_secs(10))
}

/// Messages, runs, approvals and rejections: the log shows that the server has executed them.
pub(crate) async fn a_gateway_that_gives_up(stage: &Stage) {
    let script = ["a", "b", "c", "d", "e"].iter();
    let script = script.fold(Script::new(), |script, name| script.step(act(name)));
    let scene = Scene::start(stage, "gateway", always(), script.finish("Done.")).await;
    let approvals = scene.near.approvals();
    gives_up(&scene, EVENTS, 502);
    scene.near.send("Go.").await.unwrap();
    gives_up(&scene, RUN, 504);
    let outcome = runs(&scene.near).await;
    let mut pending = waits(&scene.near, &outcome);
    assert!(outcome.report().started(), "{outcome}");
    for status in [502, 504, 520] {
        gives_up(&scene, RESPOND, status);
        approvals.approve(&pending).await.unwrap();
        // The same approval again approves nothing.
        fails(approvals.approve(&pending).await, ErrorKind::Conflict);
        pending = asks(&scene.near).await;
    }
    gives_up(&scene, RESPOND, 524);
    approvals.reject(&pending, "Not this one.").await.unwrap();
    gives_up(&scene, EVENTS, 524);
    scene.near.send("Go on.").await.unwrap();
    gives_up(&scene, RUN, 520);
    let pending = asks(&scene.near).await;
    approvals.approve(&pending).await.unwrap();
    assert!(runs(&scene.near).await.is_finished());
    assert_eq!(
        logged(&scene, "Go.").await + logged(&scene, "Go on.").await,
        2
    );
    assert_eq!(scene.proxy.requests_to("POST", EVENTS).len(), 2);
    let sent = [
        "run", "approve", "approve", "approve", "reject", "run", "approve",
    ];
    scene.shows(&sent, &["a", "b", "c", "e"]).await;
}

/// If the log cannot be read either, the result of a request is unclear. It is not sent again, also
/// not by the next run.
pub(crate) async fn a_gateway_that_gives_up_on_everything(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start_with(stage, "unclear", always(), script, soon).await;
    let approvals = scene.near.approvals();
    scene.near.send("Go.").await.unwrap();
    let pending = asks(&scene.near).await;
    // The near client gets no event and no page after its request.
    scene.proxy.inject(Fault::stall().on(SOCKETS).named("stop"));
    gives_up(&scene, RESPOND, 504);
    let held = Fault::hold_answer().on(RESPOND).named("held");
    scene.proxy.inject(held);
    let approving = tokio::spawn(approvals.approve(&pending));
    until(|| scene.ran() == ["a"] || approving.is_finished()).await;
    scene
        .proxy
        .inject(Fault::html(504).on(SEARCH).named("stop"));
    scene.proxy.lift("held");
    let approved = within("an approval", approving).await.unwrap();
    fails(approved, ErrorKind::Ambiguous);
    scene.proxy.lift("stop");
    scene.proxy.cut();
    let end = within("the end of a run", scene.near.join().into_future()).await;
    assert!(end.unwrap().is_finished());
    scene.shows(&["run", "approve"], &["a"]).await;
}

/// A start creates one conversation, and a fork one copy, which the server is asked for.
pub(crate) async fn a_gateway_that_gives_up_on_new_conversations(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "copies", never(), script).await;
    let ids = async || {
        let list = openhands::conversation::Conversations::of(scene.other.client());
        let mut list = list.list();
        let mut ids = Vec::new();
        while let Some(info) = within("a page of conversations", list.next()).await {
            let info = info.unwrap();
            let here = scene.directory.display().to_string();
            let state = serde_json::to_value(info.state()).unwrap_or_default();
            if state.to_string().contains(&here) {
                ids.push(info.id());
            }
        }
        ids
    };
    assert_eq!(ids().await, [scene.near.id()]);
    // A request to start is safe to repeat, because it contains the id.
    let workspace = scene
        .client()
        .workspace(scene.directory.display().to_string());
    gives_up(&scene, START, 504);
    let started = Conversation::builder(&workspace, agent(&scene.model)).start();
    let started = within("a start", started.into_future()).await.unwrap();
    assert_eq!(ids().await.len(), 2);
    started.send("Go.").await.unwrap();
    assert!(runs(&started).await.is_finished());
    assert_eq!(scene.sent(started.id()), ["run"]);
    for (status, id) in [(502, None), (520, Some(ConversationId::random()))] {
        let before = ids().await;
        gives_up(&scene, FORK, status);
        let fork = started.branches().fork();
        let fork = match id {
            Some(id) => fork.id(id),
            None => fork,
        };
        let copy = within("a fork", fork.into_future()).await;
        let mut new = ids().await;
        new.retain(|id| !before.contains(id));
        match id {
            // The id could be another conversation's.
            Some(id) => {
                let error = copy.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
                assert_eq!((error.conversation_id(), new), (Some(id), vec![id]));
            }
            None => assert_eq!(new, [copy.unwrap().id()]),
        }
    }
    assert_eq!(scene.proxy.requests_to("POST", FORK).len(), 2);
    assert_eq!(scene.ran(), ["a"]);
}

/// A goal is started once, and followed to its end.
pub(crate) async fn a_gateway_that_gives_up_on_a_goal(stage: &Stage) {
    let reached = r#"{"score": 1.0, "complete": true, "missing": ""}"#;
    let script = Script::new().step(act("a")).finish("Done.");
    let script = script.forever(|s| s.text(reached));
    let scene = Scene::start(stage, "unclear-goal", never(), script).await;
    gives_up(&scene, GOAL, 524);
    let goal = scene.near.goals().start("Reach it.").max_iterations(2);
    let goal = within("a goal", goal.into_future()).await.unwrap();
    let end = within("the end of a goal", goal.ended()).await.unwrap();
    assert!(!end.active, "{end:?}");
    assert_eq!(end.iteration, 1, "{end:?}");
    scene.shows(&["goal"], &["a"]).await;
}

/// A navigation that the server has executed is not repeated after another program has navigated.
pub(crate) async fn a_gateway_that_gives_up_on_a_navigation(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "unclear-head", always(), script).await;
    let (near, other) = (&scene.near, &scene.other);
    near.send("Go.").await.unwrap();
    let pending = asks(near).await;
    let events = near.events();
    let message = events.of_kind("MessageEvent").next().unwrap();
    gives_up(&scene, NAVIGATE, 504);
    let held = Fault::hold_answer().on(NAVIGATE).named("held");
    scene.proxy.inject(held);
    let going = tokio::spawn(near.branches().navigate(message.id()));
    let moved = async {
        loop {
            let info = other.client().call(&Get::new(near.id())).await.unwrap();
            let head = info.state().get("leaf_event_id").cloned();
            if head.is_some_and(|head| head.to_value() == message.id()) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    within("a navigation", moved).await;
    // Another program navigates back.
    other.branches().navigate(pending[0].id()).await.unwrap();
    scene.proxy.lift("held");
    let gone = within("a navigation", going).await.unwrap();
    fails(gone, ErrorKind::Ambiguous);
    assert_eq!(scene.proxy.requests_to("POST", NAVIGATE).len(), 1);
    assert_eq!(asks(other).await, pending);
    other.approvals().approve(&pending).await.unwrap();
    assert!(runs(other).await.is_finished());
    scene.shows(&["run"], &["a"]).await;
}

/// A tool of the client whose results are counted.
pub(crate) fn counted(name: &str) -> (ClientTool, Arc<AtomicUsize>) {
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    let tool = ClientTool::new(name, "Asks the user.", move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok("An answer.") }
    });
    (tool, called)
}

/// The result of a client tool arrives once.
pub(crate) async fn a_gateway_that_gives_up_on_a_result(stage: &Stage) {
    let (tool, called) = counted("ask_me");
    // The result waits for the second call, which holds the server's lock.
    let script = Script::new()
        .call("ask_me", json!({}))
        .step(act("a"))
        .forever(|s| s.finish("Done."));
    let scene = Scene::start_with(stage, "unclear-tool", never(), script, |builder| {
        soon(builder).client_tool(tool)
    });
    let scene = scene.await;
    scene.near.send("Go.").await.unwrap();
    gives_up(&scene, EVENTS, 504);
    assert!(runs(&scene.near).await.is_finished());
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert_eq!(with(&scene, EVENTS, "An answer.").len(), 1);
    assert_eq!(logged(&scene, "An answer.").await, 1);
    assert_eq!(scene.ran(), ["a"]);
}

/// A gateway that never lets a result of a client tool pass: the agent gets the reason, and if that
/// is rejected too, the run ends without it.
pub(crate) async fn a_result_that_is_always_rejected(stage: &Stage) {
    for (status, times, sent) in [(422, 1, 1), (413, 1, 1), (403, 5, 5), (422, 1_000, 2)] {
        let (tool, called) = counted("ask_me");
        let script = Script::new()
            .call("ask_me", json!({}))
            .step(act("a"))
            .forever(|s| s.finish("Done."));
        let name = format!("rejected-{status}-{times}");
        let scene = Scene::start_with(stage, &name, never(), script, |builder| {
            builder.client_tool(tool)
        });
        let scene = scene.await;
        scene.near.send("Go.").await.unwrap();
        let rejects = Fault::status(status).method("POST").on(EVENTS).times(times);
        scene.proxy.inject(rejects);
        assert!(runs(&scene.near).await.is_finished());
        assert_eq!(called.load(Ordering::SeqCst), 1);
        let results = scene.proxy.requests_to("POST", EVENTS);
        let rejected = results.iter().filter(|seen| seen.status == status).count();
        assert_eq!(rejected, sent, "{results:#?}");
        // The server's log has the message of the user and, if it was let through, the reason.
        let reason = format!("could not be delivered: {status}");
        let delivered = usize::from(times < 1_000);
        assert_eq!(logged(&scene, &reason).await, delivered, "{name}");
        assert_eq!(logged(&scene, "An answer.").await, 0, "{name}");
        assert_eq!(scene.ran(), ["a"]);
    }
}

/// A budget is kept although interrupts fail: they are repeated until the run has stopped.
pub(crate) async fn a_budget_whose_interrupts_fail(stage: &Stage) {
    let failures = [
        ("502", Fault::html(502), 502),
        ("500", Fault::status(500), 500),
        ("lost", Fault::lost_answer(), 200),
    ];
    for (name, failure, status) in failures {
        let script = Script::new()
            .step(act("a").usage(100, 20).cost(1.25))
            .step(Step::finish("Done.").delay(LONG * 2));
        let name = format!("interrupt-{name}");
        let scene = Scene::start(stage, &name, never(), script).await;
        // More than one call repeats by itself.
        scene.proxy.inject(failure.on(INTERRUPT).times(8));
        scene.near.send("Go.").await.unwrap();
        let outcome = within("the budget", scene.near.run().max_cost(1.0).into_future());
        let outcome = outcome.await.unwrap();
        assert_eq!(outcome.status(), RunStatus::BudgetReached, "{outcome}");
        let interrupts = scene.proxy.requests_to("POST", INTERRUPT);
        match status {
            // The server has executed the first one.
            200 => assert!(!interrupts.is_empty()),
            _ => assert!(interrupts.len() > 8, "{interrupts:#?}"),
        }
        assert_eq!(scene.sent(scene.near.id()), ["run"], "{name}");
        let status = || scene.other.state().execution_status().to_string();
        until(|| status() == "paused").await;
        // The interrupt may come before the command.
        let ran = scene.ran();
        assert!(ran.is_empty() || ran == ["a"], "{ran:?}");
    }
}

/// An approval does not wait behind a request without a response, and a closed handle waits for
/// none.
pub(crate) async fn requests_without_a_response(stage: &Stage) {
    let script = Script::new().step(act("a")).step(act("b")).finish("Done.");
    let scene = Scene::start(stage, "no-response", always(), script).await;
    let id = scene.near.id();
    let approvals = scene.near.approvals();
    scene.near.send("Go.").await.unwrap();
    scene
        .proxy
        .inject(Fault::hold_answer().on(RUN).named("held"));
    let pending = asks(&scene.near).await;
    assert_eq!(scene.answered("POST", RUN), 0);
    let brief = Conversation::attach(&scene.client(), id);
    let brief = brief.ambiguous_after(Duration::from_secs(1)).into_future();
    let brief = within("attaching", brief).await.unwrap();
    let approving = within("an approval", brief.approvals().approve(&pending)).await;
    fails(approving, ErrorKind::Timeout);
    assert_eq!(scene.sent(id), ["run"]);
    scene.proxy.lift("held");
    until(|| scene.answered("POST", RUN) == 1).await;

    // Each request below has no response when its handle is closed.
    let attach = async || {
        let attach = Conversation::attach(&scene.client(), id).ambiguous_after(LONG);
        within("attaching", attach.into_future()).await.unwrap()
    };
    let closed = |result: Result<(), Error>| {
        // The events that the handle has received may show that the server has executed it.
        let kind = result.map_err(|error| error.kind());
        let expected = [ErrorKind::Closed, ErrorKind::Ambiguous];
        assert!(
            kind.is_ok() || kind.is_err_and(|kind| expected.contains(&kind)),
            "{kind:?}"
        );
    };
    let held = |route: &str| {
        let fault = Fault::hold_answer().method("POST").on(route);
        scene.proxy.inject(fault.named("held"));
    };
    let handle = attach().await;
    held(RESPOND);
    let approving = tokio::spawn(handle.approvals().approve(&pending));
    until(|| scene.ran() == ["a"] || approving.is_finished()).await;
    // Another request of this handle waits for the first one.
    let sending = tokio::spawn(handle.send("Wait.").into_future());
    within("closing", handle.close()).await.unwrap();
    closed(within("an approval", approving).await.unwrap());
    let error = within("a message", sending).await.unwrap().unwrap_err();
    closed(Err(error));
    scene.proxy.lift("held");
    let pending = asks(&scene.near).await;

    let handle = attach().await;
    held(EVENTS);
    let message = handle.send("And then?").even_if_pending();
    let sending = tokio::spawn(message.into_future());
    until(|| with(&scene, EVENTS, "And then?").len() == 1 || sending.is_finished()).await;
    within("closing", handle.close()).await.unwrap();
    closed(within("a message", sending).await.unwrap());
    scene.proxy.lift("held");
    approvals.reject(&pending, "No.").await.unwrap();

    let handle = attach().await;
    held(RUN);
    let run = running(&handle);
    until(|| scene.sent(id).len() == 4 || run.is_finished()).await;
    within("closing", handle.close()).await.unwrap();
    let error = within("a run", run).await.unwrap().unwrap_err();
    closed(Err(error));
    scene.proxy.lift("held");
    let outcome = within("the end of a run", scene.near.join().into_future()).await;
    assert!(outcome.unwrap().is_finished());
    assert_eq!(logged(&scene, "And then?").await, 1);
    assert_eq!(logged(&scene, "Wait.").await, 0);
    scene
        .shows(&["run", "approve", "reject", "run"], &["a"])
        .await;
    timeout(LONG, scene.near.close()).await.unwrap().unwrap();
}
