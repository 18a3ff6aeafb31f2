//! A run is started once, and executes nothing that waits for approval.

use oh_control::{ErrorKind, RunStart};
use oh_protocol::{
    ConversationId,
    config::{AcpAgent, StartConversation},
};
use oh_testkit::Fault;
use serde_json::json;

use crate::{created, server, start};

const RUN: &str = "/api/conversations/{conversation_id}/run";

#[tokio::test]
async fn a_repeated_create_finds_the_conversation() {
    let (server, control) = server().await;
    let id = ConversationId::random();
    let start = start().conversation_id(id).initial_message("Go.");
    let first = control.create(start.clone()).await.unwrap();
    // The answer is lost, and the request is repeated.
    server.inject(
        Fault::lost_answer()
            .method("POST")
            .on("/api/conversations")
            .times(1),
    );
    let second = control.create(start.clone()).await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!((first.info.id(), second.info.id()), (id, id));
    assert_eq!(server.conversations().len(), 1);
    let messages = server.conversation(id).unwrap().events();
    let messages = messages
        .iter()
        .filter(|event| event.kind() == "MessageEvent");
    assert_eq!(messages.count(), 1);
}

#[tokio::test]
async fn a_conversation_with_another_agent_is_not_taken_for_the_same() {
    let (_server, control) = server().await;
    let id = ConversationId::random();
    control.create(start().conversation_id(id)).await.unwrap();
    let acp = AcpAgent::new(["agent"]);
    let other = StartConversation::new(acp, "/work").conversation_id(id);
    let error = control.create(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMismatch, "{error}");
    assert_eq!(error.conversation(), id);
}

#[tokio::test]
async fn a_run_in_progress_is_not_started_again() {
    let (server, control) = server().await;
    let (id, conversation) = created(&server, &control).await;
    conversation.set_status("running");
    assert_eq!(control.run(id).await.unwrap(), RunStart::Running);
    assert_eq!(server.requests_to("POST", RUN).len(), 0);
    // The state can be behind: then the server rejects the run.
    conversation.set_status("idle");
    server.inject(Fault::status(409).on("/run").times(1));
    assert_eq!(control.run(id).await.unwrap(), RunStart::Running);
}

#[tokio::test]
async fn a_run_that_could_execute_a_waiting_action_is_not_sent() {
    let (server, control) = server().await;
    for (status, policy, action) in [
        ("waiting_for_confirmation", "NeverConfirm", false),
        ("idle", "AlwaysConfirm", true),
        ("paused", "AlwaysConfirm", false),
        ("paused", "ConfirmRisky", true),
        ("finished", "SomethingNew", true),
        ("error", "", false),
    ] {
        let (id, conversation) = created(&server, &control).await;
        conversation.set("confirmation_policy", json!({ "kind": policy }));
        conversation.set_status(status);
        if action {
            conversation.log("agent", "ActionEvent", json!({ "tool_name": "terminal" }));
        }
        let error = control.run(id).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::PendingConfirmation,
            "{status} {policy}"
        );
        assert_eq!(
            server.requests_to("POST", RUN).len(),
            0,
            "{status} {policy}"
        );
    }
    let (id, conversation) = created(&server, &control).await;
    conversation.set("confirmation_policy", json!({ "kind": "AlwaysConfirm" }));
    assert_eq!(
        control.run(id).await.unwrap(),
        RunStart::Started,
        "it has no action"
    );
}

#[tokio::test]
async fn a_run_with_a_lost_response_is_not_sent_again() {
    let (server, control) = server().await;
    let (id, conversation) = created(&server, &control).await;
    server.inject(Fault::lost_answer().on("/run").times(1));
    let started = control.run(id).await;
    assert_eq!(server.requests_to("POST", RUN).len(), 1);
    // The fake's run may have ended by now.
    match started {
        Ok(started) => assert_eq!(started, RunStart::Started),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}"),
    }
    conversation.set_status("idle");
    server.inject(Fault::status(503).on("/run").times(1));
    server.forget_requests();
    let error = control.run(id).await.unwrap_err();
    assert!(
        [ErrorKind::Server, ErrorKind::Ambiguous].contains(&error.kind()),
        "{error}"
    );
    assert_eq!(server.requests_to("POST", RUN).len(), 1);
}

#[tokio::test]
async fn a_conversation_that_the_server_does_not_have_is_gone() {
    let (_server, control) = server().await;
    let id = ConversationId::random();
    for error in [
        control.info(id).await.unwrap_err(),
        control.run(id).await.unwrap_err(),
        control.send(id, "Hello").await.unwrap_err(),
        control.pause(id).await.unwrap_err(),
        control.answer(id).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    assert!(!control.delete(id).await.unwrap());
}
