//! Policies, and the actions that wait for approval because of them.

use openhands::{
    Conversation, LocalServer, RunOutcome,
    conversation::ErrorKind,
    protocol::{
        config::{ConfirmationPolicy, SecurityAnalyzer},
        event::SecurityRisk,
    },
    testkit::{Script, Step},
};
use serde_json::json;

use super::{agent, finishes, llm, model, next, outcome, started, workspace};

pub(super) async fn pending_actions_come_as_a_stream_and_are_answered(server: &LocalServer) {
    let no = json!({"command": "echo no", "summary": "says no"});
    let script = Script::new()
        .step(Step::call("terminal", no).and_call("think", json!({"thought": "hm"})))
        .repeat(2, |s| s.call("terminal", json!({"command": "echo yes"})))
        .forever(|s| s.finish("Done."));
    let model = model(script).await;
    let conversation = started(server, &model).await;
    conversation
        .set_confirmation_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    let mut pending = conversation.pending();
    conversation.send("Go.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert!(
        matches!(ended, RunOutcome::WaitingForConfirmation(_)),
        "{ended}"
    );
    let first = next(&mut pending).await.unwrap();
    let tools: Vec<_> = first
        .actions()
        .iter()
        .map(|it| it.tool_name().to_owned())
        .collect();
    assert_eq!(tools, ["terminal", "think"]);
    assert_eq!(first.actions()[0].summary(), Some("says no"));
    assert_eq!(first.actions()[0].risk(), SecurityRisk::Unknown);
    assert!(first.actions()[0].action().is_some());
    // Neither a message nor a run approves it by the way.
    let error = conversation.send("And?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    let error = conversation.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    first.reject("Not that.").await.unwrap();
    assert!(conversation.pending_actions().is_empty());
    // A fork does not inherit the policy on the server: this handle sets it again.
    let fork = conversation.fork().llm(llm(&model)).await.unwrap();
    fork.send("Go.").await.unwrap();
    let ended = outcome(&fork).await;
    assert!(
        matches!(ended, RunOutcome::WaitingForConfirmation(_)),
        "{ended}"
    );
    fork.reject("Enough.").await.unwrap();
    fork.close().await.unwrap();

    let ended = outcome(&conversation).await;
    assert!(
        matches!(ended, RunOutcome::WaitingForConfirmation(_)),
        "{ended}"
    );
    let second = next(&mut pending).await.unwrap();
    assert_eq!(second.actions().len(), 1);
    second.confirm().await.unwrap();
    finishes(&conversation).await;
    conversation.close().await.unwrap();
    assert!(next(&mut pending).await.is_none(), "it ends with the link");
}

pub(super) async fn a_policy_asks_for_risky_actions_only(server: &LocalServer) {
    let terminal = |command: &str, risk: &str| json!({"command": command, "security_risk": risk, "summary": "tries it"});
    let script = Script::new()
        .call("terminal", terminal("echo mild", "LOW"))
        .call("terminal", terminal("echo wild", "HIGH"))
        .forever(|s| s.finish("Done."));
    let model = model(script).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .confirmation_policy(ConfirmationPolicy::risky(SecurityRisk::High).confirm_unknown(false))
        .security_analyzer(SecurityAnalyzer::llm())
        .start()
        .await
        .unwrap();
    conversation.send("Go.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert!(
        matches!(ended, RunOutcome::WaitingForConfirmation(_)),
        "{ended}"
    );
    let pending = conversation.pending_actions();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].risk(), SecurityRisk::High);
    assert!(pending[0].event().as_json().contains("wild"));
    conversation.confirm().await.unwrap();
    finishes(&conversation).await;
    conversation.set_security_analyzer(None).await.unwrap();
    conversation.close().await.unwrap();
}
