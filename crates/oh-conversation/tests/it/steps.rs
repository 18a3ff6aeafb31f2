//! Tests that condensing, for which the server executes a step of the agent, approves nothing.

use std::time::Duration;

use oh_conversation::{Conversation, ErrorKind};
use oh_protocol::{
    ExecutionStatus,
    config::{Agent, ConfirmationPolicy, Llm},
};
use oh_testkit::{FakeServer, Script, Step};
use oh_transport::ErrorKind as Wire;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    approvals::{answer, until},
    mock::{Place, attached, polled, soon},
};

#[tokio::test(start_paused = true)]
async fn condensing_sends_nothing_while_an_action_waits() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    let error = soon(conversation.agent().condense()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    assert_eq!(mock.seen("POST /condense"), 0);
}

#[tokio::test(start_paused = true)]
async fn condensing_sends_nothing_while_an_action_waits_that_only_the_server_has() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (action, event) = mock.act();
    let waits = json!({"key": "execution_status", "value": "waiting_for_confirmation"});
    let (status, waiting) = mock.append("ConversationStateUpdateEvent", &waits);
    let condensing = tokio::spawn(conversation.agent().condense());
    sleep(Duration::from_millis(300)).await;
    dial.durable(action, &event).await.unwrap();
    dial.durable(status, &waiting).await.unwrap();
    let error = soon(condensing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    assert_eq!(mock.seen("POST /condense"), 0);
}

#[tokio::test(start_paused = true)]
async fn condensing_sends_nothing_during_a_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    until(|| conversation.state().execution_status().is_running()).await;
    let error = soon(conversation.agent().condense()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /condense"), 0);
}

/// A paused step continues, and its action waits before the conversation is idle.
#[tokio::test(start_paused = true)]
async fn condensing_sends_nothing_if_the_step_that_it_waits_for_proposes_an_action() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "paused").await;
    mock.set_status("running");
    until(|| conversation.state().execution_status() == ExecutionStatus::Paused).await;
    let asked = || mock.requests().len();
    let before = asked();
    let condensing = tokio::spawn(conversation.agent().condense());
    // The first request reads the newest event, and the second one the end of the paused step.
    until(|| asked() >= before + 2).await;
    mock.propose(&dial).await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let error = soon(condensing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    assert_eq!(mock.seen("POST /condense"), 0);
}

/// Without a socket, nothing shows that the server was restarted and has lost the policy.
#[tokio::test(start_paused = true)]
async fn condensing_sets_the_policy_again_where_sockets_are_refused() {
    let (mock, _dials, conversation) = polled().await;
    let always = ConfirmationPolicy::always();
    soon(conversation.approvals().set_policy(always))
        .await
        .unwrap();
    soon(conversation.agent().condense()).await.unwrap();
    let requests = mock.requests();
    let last = |path: &str| requests.iter().rposition(|it| it.ends_with(path)).unwrap();
    assert!(last("/confirmation_policy") < last("/condense"));
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_to_condensing_is_not_followed_by_another_request() {
    for condensed in [true, false] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.plan("/condense", Err(Wire::Interrupted));
        let condensing = tokio::spawn(conversation.agent().condense());
        until(|| mock.seen("POST /condense") == 1).await;
        if condensed {
            let (seq, event) = mock.append("Condensation", &json!({}));
            dial.durable(seq, &event).await.unwrap();
        }
        let result = soon(condensing).await.unwrap();
        let expected = match condensed {
            true => Ok(()),
            false => Err(ErrorKind::Ambiguous),
        };
        assert_eq!(result.map_err(|error| error.kind()), expected);
        assert_eq!(mock.seen("POST /condense"), 1);
    }
}

#[tokio::test]
async fn condensing_executes_nothing_on_a_server_that_would() {
    let script = Script::new()
        .forever(|script| script.step(Step::call("terminal", json!({"command": "echo one"}))));
    let server = FakeServer::builder().script(script).start().await.unwrap();
    let place = Place(server.client().unwrap());
    // This preset has a condenser.
    let agent = Agent::default_preset(Llm::new("m").api_key("k")).cli_mode(true);
    let conversation = Conversation::builder(&place, agent)
        .always_confirm()
        .start();
    let conversation = conversation.await.unwrap();
    conversation.send("Go.").await.unwrap();
    _ = conversation.run().await.unwrap();
    assert_eq!(conversation.approvals().pending().len(), 1);
    let error = conversation.agent().condense().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation, "{error}");
    let fake = server.conversation(conversation.id()).unwrap();
    assert!(fake.executed().is_empty());
    // Another program sends the request without a check.
    let call = oh_protocol::calls::conversations::Condense::new(conversation.id());
    server.client().unwrap().call(&call).await.unwrap();
    assert_eq!(fake.executed().len(), 1, "the server executes what waits");
}

/// The server does this when another program condenses: the status stays, although nothing waits.
#[tokio::test(start_paused = true)]
async fn a_status_does_not_wait_for_an_action_that_was_executed_since() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    let action = mock.propose(&dial).await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    let approvals = conversation.approvals();
    until(|| !approvals.pending().is_empty()).await;
    answer(&mock, &dial, action).await;
    until(|| approvals.pending().is_empty()).await;
    let error = soon(approvals.approve(&[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingPending, "{error}");
    soon(conversation.send("Go on.").into_future())
        .await
        .unwrap();
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    // Now another action waits, which the client does not recognize.
    mock.tell(&dial, "waiting_for_confirmation").await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    _ = soon(running).await.unwrap().unwrap();
    _ = soon(conversation.run().into_future()).await.unwrap();
    assert_eq!(mock.seen("POST /run"), 1);
}
