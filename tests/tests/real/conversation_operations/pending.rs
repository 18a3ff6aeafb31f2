//! Confirmation policies, and the actions that wait for approval because of them.

use openhands::{
    Conversation, LocalServer, RunStatus,
    conversation::{ApprovalEvent, ErrorKind, PendingAction},
    protocol::{
        config::{ConfirmationPolicy, SecurityAnalyzer},
        event::SecurityRisk,
    },
    testkit::{Script, Step},
};
use serde_json::json;
use tokio::time::timeout;

use super::{LONG, agent, finishes, llm, model, next, outcome, started, workspace};

pub(super) async fn pending_actions_come_as_a_stream_and_are_answered(server: &LocalServer) {
    let no = json!({"command": "echo no", "summary": "says no"});
    let script = Script::new()
        .step(Step::call("terminal", no).and_call("think", json!({"thought": "hm"})))
        .repeat(2, |s| s.call("terminal", json!({"command": "echo yes"})))
        .forever(|s| s.finish("Done."));
    let model = model(script).await;
    let conversation = started(server, &model).await;
    let approvals = conversation.approvals();
    approvals
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    // With no pending action there is nothing to answer, and no request is sent.
    let nothing: [PendingAction; 0] = [];
    let error = approvals.approve(&nothing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending, "{error:?}");
    let error = approvals.reject(&nothing, "No.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending, "{error:?}");
    let mut changes = approvals.events();
    conversation.send("Go.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    let Some(ApprovalEvent::Requested(first)) = next(&mut changes).await else {
        panic!("the actions that wait come first");
    };
    let tools: Vec<_> = first.iter().map(PendingAction::tool_name).collect();
    assert_eq!(tools, ["terminal", "think"]);
    assert_eq!(first[0].summary(), Some("says no"));
    assert_eq!(first[0].risk(), SecurityRisk::Unknown);
    assert!(first[0].action().is_some());
    assert_eq!(approvals.pending(), first);
    // Neither a message nor a run approves the action implicitly.
    let error = conversation.send("And?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    let joined = outcome(&conversation).await;
    assert_eq!(joined.status(), RunStatus::WaitingForConfirmation);
    assert!(!joined.report().started() && joined.events() == 0);
    assert_eq!(approvals.pending(), first, "all of them still wait");
    // An answer for actions other than the pending ones has no effect.
    let error = approvals.approve(&first[..1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(approvals.pending(), first);
    approvals.reject(&first, "Not that.").await.unwrap();
    assert!(approvals.pending().is_empty());
    let withdrawn = next(&mut changes).await;
    assert_eq!(withdrawn, Some(ApprovalEvent::Withdrawn(first.clone())));
    // A second answer is rejected.
    for again in [
        approvals.approve(&first).await,
        approvals.reject(&first, "No.").await,
    ] {
        let error = again.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    }
    let ran = |conversation: &Conversation| {
        conversation
            .events()
            .of_kind("ObservationEvent")
            .next()
            .is_some()
    };
    assert!(!ran(&conversation), "nothing was executed");
    // On the server a fork does not inherit the policy, so the handle sets it again.
    let fork = conversation
        .branches()
        .fork()
        .llm(llm(&model))
        .await
        .unwrap();
    fork.send("Go.").await.unwrap();
    let ended = outcome(&fork).await;
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    let waiting = fork.approvals().pending();
    assert_eq!(waiting.len(), 1);
    fork.approvals().reject(&waiting, "Enough.").await.unwrap();
    fork.close().await.unwrap();

    let ended = outcome(&conversation).await;
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    let Some(ApprovalEvent::Requested(second)) = next(&mut changes).await else {
        panic!("the next action waits");
    };
    assert_eq!(second.len(), 1);
    approvals.approve(&second).await.unwrap();
    let withdrawn = next(&mut changes).await;
    assert_eq!(withdrawn, Some(ApprovalEvent::Withdrawn(second)));
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert!(ran(&conversation));
    conversation.close().await.unwrap();
    assert!(next(&mut changes).await.is_none(), "it ends with the link");
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
    assert_eq!(ended.status(), RunStatus::WaitingForConfirmation, "{ended}");
    let pending = conversation.approvals().pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].risk(), SecurityRisk::High);
    assert!(pending[0].event().as_json().contains("wild"));
    conversation.approvals().approve(&pending).await.unwrap();
    finishes(&conversation).await;
    conversation
        .settings()
        .set_security_analyzer(None)
        .await
        .unwrap();
    conversation.close().await.unwrap();
}
