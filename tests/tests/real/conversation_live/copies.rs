//! Scenes on the real server with children and forks of a conversation: the policy and the client
//! tools of the original apply to them from the start.

use std::{
    future::{IntoFuture as _, pending},
    sync::atomic::Ordering,
};

use openhands::{
    Conversation,
    conversation::{ClientTool, ClientToolCall, ErrorKind},
    protocol::{ConversationId, calls::conversations::Isolation},
    testkit::{Fault, Script},
};
use serde_json::json;

use super::{
    approvals::always,
    live::{LONG, llm},
    policies::many_responses,
    stage::{Scene, Stage, act, asks, fails, never, until, within},
    unclear::{EVENTS, counted, with},
};

/// Another program has set a policy, and the events of the original do not arrive. No child is
/// started without this policy, and a fork has it before its run.
pub(crate) async fn a_policy_that_has_not_arrived(stage: &Stage) {
    let script = Script::new().step(act("a")).finish("Done.");
    let scene = Scene::start(stage, "unseen", never(), script).await;
    let (near, other) = (&scene.near, &scene.other);
    near.send("Go.").await.unwrap();
    let sockets = format!("/sockets/session/{}", near.id());
    scene.proxy.inject(Fault::stall().on(sockets));
    let knows = || near.state().confirmation_policy().as_deref() == Some("AlwaysConfirm");
    other.approvals().set_policy(always()).await.unwrap();
    assert!(!knows());
    let child = near.children().start("Go.").isolation(Isolation::Shared);
    let child = within("a child", child.into_future()).await;
    fails(child, ErrorKind::Conflict);
    // The check has fetched this policy, but not the next one.
    other.approvals().set_policy(never()).await.unwrap();
    within("the newest event", near.ready()).await.unwrap();
    other.approvals().set_policy(always()).await.unwrap();
    assert!(!knows());
    let fork = near.branches().fork();
    let fork = fork.llm(llm(&scene.model, "openai/scripted"));
    let copy = within("a fork", fork.into_future()).await.unwrap();
    asks(&copy).await;
    assert_eq!(scene.sent(copy.id()), ["run"]);
    scene.shows(&[], &[]).await;
    copy.delete().await.unwrap();
}

/// The result of a client tool starts no run of a fork before the fork has its settings.
pub(crate) async fn a_fork_without_its_settings(stage: &Stage) {
    let (id, copy_id) = (ConversationId::random(), ConversationId::random());
    // The user answers in the copy only.
    let tool = ClientTool::new("ask_me", "Asks the user.", move |call: ClientToolCall| {
        let answers = call.conversation_id() == copy_id;
        async move {
            if !answers {
                pending::<()>().await;
            }
            Ok("An answer.")
        }
    });
    let script = Script::new()
        .call("ask_me", json!({}))
        .finish("Asked.")
        .step(act("a"))
        .finish("Done.");
    let scene = Scene::start_with(stage, "fork-tool", never(), script, |builder| {
        builder.id(id).client_tool(tool.clone())
    });
    let scene = scene.await;
    scene.near.send("Go.").and_run().await.unwrap();
    let status = || scene.other.state().execution_status().to_string();
    until(|| status() == "finished").await;
    scene.near.approvals().set_policy(always()).await.unwrap();
    let original = Conversation::attach(&scene.client(), id).ambiguous_after(LONG);
    let original = original.client_tool(tool).resume_client_tools();
    let original = within("attaching", original.into_future()).await.unwrap();
    let switch = format!("/api/conversations/{copy_id}/switch_llm");
    scene.proxy.inject(Fault::hang().on(&switch).named("slow"));
    let fork = original.branches().fork().id(copy_id);
    let fork = fork.llm(llm(&scene.model, "openai/scripted"));
    let forking = tokio::spawn(fork.into_future());
    until(|| scene.proxy.requests_to("POST", &switch).len() == 1).await;
    // A result would have been sent before the last of these requests, and would start a run.
    many_responses(&scene).await;
    let of_copy = || {
        let events = format!("/api/conversations/{copy_id}/events");
        let results = scene.proxy.requests_to("POST", &events).len();
        (results, scene.sent(copy_id))
    };
    assert_eq!(of_copy(), (0, Vec::new()));
    scene.proxy.lift("slow");
    let copy = within("a fork", forking).await.unwrap().unwrap();
    // The result starts a run, which the policy stops.
    until(|| copy.approvals().pending().len() == 1).await;
    assert_eq!(of_copy(), (1, vec!["run"]));
    scene.shows(&["run"], &[]).await;
    copy.delete().await.unwrap();
}

/// The client tools of a child are executed with the handlers of its parent, each call once.
pub(crate) async fn client_tools_of_a_child(stage: &Stage) {
    let (tool, called) = counted("ask_me");
    let script = Script::new()
        .call("ask_me", json!({}))
        .step(act("a"))
        .forever(|s| s.finish("Done."));
    let scene = Scene::start_with(stage, "child-tool", never(), script, |builder| {
        builder.client_tool(tool)
    });
    let scene = scene.await;
    let child = scene.near.children().start("Go.");
    let child = child.isolation(Isolation::Shared).into_future();
    let child = within("a child", child).await.unwrap();
    let outcome = within("the end of a child", child.join().into_future()).await;
    let outcome = outcome.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert_eq!(with(&scene, EVENTS, "An answer.").len(), 1);
    let events = child.events();
    let results = events
        .of_kind("MessageEvent")
        .filter(|event| String::from_utf8_lossy(event.raw()).contains("An answer."));
    assert_eq!(results.count(), 1);
    assert_eq!(scene.sent(scene.near.id()), ["child"]);
    assert_eq!(scene.ran(), ["a"]);
}
