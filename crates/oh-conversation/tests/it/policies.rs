//! Tests of which confirmation policy is in effect: after a restart of the server, next to another
//! program that sets policies, during a goal, and for a child.

use std::{sync::Arc, time::Duration};

use oh_conversation::{Approvals, Conversation, ErrorKind, LinkStatus, RunStatus};
use oh_protocol::{
    calls::conversations::SetConfirmationPolicy,
    config::{ConfirmationPolicy, SecurityAnalyzer},
    event::SecurityRisk,
};
use oh_testkit::{FakeServer, Fault, Script, Step};
use oh_transport::{Error, ErrorKind as Wire};
use serde_json::json;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    approvals::until,
    mock::{Dial, Mock, attached, full_state, polled, soon},
};

/// Sends a snapshot with a status and a policy.
pub(crate) async fn state(dial: &Dial, status: &str, policy: &str) {
    let mut event = full_state(status);
    event["value"]["confirmation_policy"] = json!({ "kind": policy });
    let frame = json!({"type": "transient", "event": event});
    dial.peer.text(frame.to_string()).await.unwrap();
}

async fn replay(mock: &Mock, dial: &Dial) {
    dial.sync(Some(mock.len() - 1)).await.unwrap();
    for seq in u64::try_from(dial.after() + 1).unwrap()..mock.len() {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
}

/// Cuts the connection, and replays the log on the next one.
pub(crate) async fn reconnected(
    mock: &Mock,
    dials: &mut UnboundedReceiver<Dial>,
    dial: Dial,
) -> Dial {
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    replay(mock, &dial).await;
    dial
}

/// Logs a change of a part of the state without sending it.
fn change(mock: &Mock, key: &str, value: serde_json::Value) -> (u64, bytes::Bytes) {
    let fields = json!({"key": key, "value": value});
    mock.append("ConversationStateUpdateEvent", &fields)
}

pub(crate) fn policy(mock: &Mock, kind: &str) -> (u64, bytes::Bytes) {
    change(mock, "confirmation_policy", json!({ "kind": kind }))
}

pub(crate) fn acts() -> Script {
    Script::new().forever(|script| {
        script
            .step(Step::call("terminal", json!({"command": "echo first"})))
            .step(Step::call("terminal", json!({"command": "echo second"})))
            .finish("Done.")
    })
}

pub(crate) async fn attach(server: &FakeServer) -> (oh_testkit::FakeConversation, Conversation) {
    let fake = server.create();
    let client = server.client().unwrap();
    let conversation = Conversation::attach(&client, fake.id()).await.unwrap();
    (fake, conversation)
}

/// Runs until the first action waits for an approval.
pub(crate) async fn attach_waiting(
    server: &FakeServer,
) -> (oh_testkit::FakeConversation, Conversation) {
    let (fake, conversation) = attach(server).await;
    let always = ConfirmationPolicy::always();
    conversation.approvals().set_policy(always).await.unwrap();
    conversation.send("Go.").await.unwrap();
    let run = conversation.run().await.unwrap();
    assert_eq!(run.status(), RunStatus::WaitingForConfirmation);
    (fake, conversation)
}

async fn soon_real(happens: impl Fn() -> bool) {
    soon(async {
        while !happens() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Sets a policy that asks, and waits for the first request.
async fn asks(approvals: &Approvals, mock: &Mock, dial: &Dial) {
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    mock.propose(dial).await;
    until(|| !approvals.pending().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_approved_if_the_lost_policy_cannot_be_set_again() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    asks(&approvals, &mock, &dial).await;
    // The server restarts and loses the policy, and rejects it from then on.
    for _ in 0..20 {
        mock.plan("/confirmation_policy", Ok((403, json!({"detail": "no"}))));
    }
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "waiting_for_confirmation", "NeverConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    let error = soon(approvals.approve(&approvals.pending()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("policy"), "{error}");
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_approval_waits_for_the_policy_that_is_being_set_again() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    asks(&approvals, &mock, &dial).await;
    mock.slow_down("/confirmation_policy", Duration::from_secs(5));
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "waiting_for_confirmation", "NeverConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    soon(approvals.approve(&approvals.pending())).await.unwrap();
    let requests = mock.requests();
    let last = |path: &str| requests.iter().rposition(|it| it.ends_with(path)).unwrap();
    assert!(last("/confirmation_policy") < last("/respond_to_confirmation"));
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_not_sent_if_the_policy_is_not_set_again_in_time() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    asks(&approvals, &mock, &dial).await;
    mock.slow_down("/confirmation_policy", Duration::from_secs(20));
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "waiting_for_confirmation", "NeverConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    let error = soon(approvals.approve(&approvals.pending()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(mock.seen("POST /events/respond_to_confirmation"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_approval_sets_the_policy_again_where_sockets_are_refused() {
    let (mock, _dials, conversation) = polled().await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    mock.act();
    change(&mock, "execution_status", json!("waiting_for_confirmation"));
    mock.set_status("waiting_for_confirmation");
    until(|| !approvals.pending().is_empty()).await;
    // A restart of the server would not be noticed here.
    soon(approvals.approve(&approvals.pending())).await.unwrap();
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
}

/// A restart of the server goes unnoticed once sockets are refused.
#[tokio::test(start_paused = true)]
async fn an_approval_sets_the_policy_again_after_sockets_are_refused() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    mock.refuse_upgrades();
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    until(|| conversation.link().status() == LinkStatus::Polling).await;
    mock.act();
    change(&mock, "execution_status", json!("waiting_for_confirmation"));
    mock.set_status("waiting_for_confirmation");
    until(|| !approvals.pending().is_empty()).await;
    let pending = approvals.pending();
    soon(approvals.approve(&pending)).await.unwrap();
    let requests = mock.requests();
    let last = |path: &str| requests.iter().rposition(|it| it.ends_with(path)).unwrap();
    let answered = last("/respond_to_confirmation");
    assert!(last("/confirmation_policy") < answered);
    assert_eq!(mock.seen("POST /confirmation_policy"), 2, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn the_previous_policy_is_set_again_after_another_one_was_rejected() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    let (seq, event) = policy(&mock, "AlwaysConfirm");
    dial.durable(seq, &event).await.unwrap();
    until(|| conversation.events().len() == 1).await;
    mock.plan("/confirmation_policy", Ok((422, json!({"detail": "no"}))));
    let error = soon(approvals.set_policy(ConfirmationPolicy::never())).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Validation);
    // The server restarts, and loses the first policy.
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| mock.seen("POST /confirmation_policy") == 3).await;
    let bodies = mock.bodies();
    assert!(bodies[2].contains("AlwaysConfirm"), "{bodies:?}");
}

#[tokio::test]
async fn an_approval_after_a_restart_executes_no_later_action() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let (fake, conversation) = attach_waiting(&server).await;
    let approvals = conversation.approvals();
    assert_eq!(approvals.pending().len(), 1);
    let rejects = Fault::status(403).on("/api/conversations/{id}/confirmation_policy");
    server.inject(rejects);
    let connections = conversation.link().connections();
    fake.reload();
    fake.cut_sockets();
    soon_real(|| {
        conversation.link().connections() > connections
            && conversation.link().status() == LinkStatus::Live
    })
    .await;
    assert!(approvals.approve(&approvals.pending()).await.is_err());
    assert!(fake.executed().is_empty(), "{:?}", fake.executed());
    let accepted = server.requests_to(
        "POST",
        "/api/conversations/{id}/events/respond_to_confirmation",
    );
    assert!(accepted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_does_not_replace_the_newer_policy_of_another_program() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::never()))
        .await
        .unwrap();
    for kind in ["NeverConfirm", "AlwaysConfirm"] {
        let (seq, event) = policy(&mock, kind);
        dial.durable(seq, &event).await.unwrap();
    }
    until(|| approvals.policy() == Some(ConfirmationPolicy::always())).await;
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "AlwaysConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(mock.seen("POST /confirmation_policy"), 1);
    // The server restarts: it has lost the newer policy, which is set again.
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| mock.seen("POST /confirmation_policy") == 2).await;
    let bodies = mock.bodies();
    assert!(bodies[1].contains("AlwaysConfirm"), "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_set_again_if_the_server_has_another_value_for_a_default() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let policy = ConfirmationPolicy::risky(SecurityRisk::High);
    soon(conversation.approvals().set_policy(policy))
        .await
        .unwrap();
    let set = json!({"kind": "ConfirmRisky", "threshold": "HIGH", "confirm_unknown": true});
    let (seq, event) = change(&mock, "confirmation_policy", set);
    dial.durable(seq, &event).await.unwrap();
    // The server restarts: the policy of the creation does not ask for unknown risks.
    let dial = reconnected(&mock, &mut dials, dial).await;
    let mut event = full_state("idle");
    event["value"]["confirmation_policy"] =
        json!({"kind": "ConfirmRisky", "threshold": "HIGH", "confirm_unknown": false});
    let frame = json!({"type": "transient", "event": event});
    dial.peer.text(frame.to_string()).await.unwrap();
    until(|| mock.seen("POST /confirmation_policy") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_newer_policy_of_this_program_is_set_again() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    let (seq, event) = policy(&mock, "NeverConfirm");
    dial.durable(seq, &event).await.unwrap();
    until(|| conversation.events().len() == 1).await;
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    policy(&mock, "AlwaysConfirm");
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| mock.seen("POST /confirmation_policy") == 2).await;
    let bodies = mock.bodies();
    assert!(bodies[1].contains("AlwaysConfirm"), "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_asks_is_set_again_after_another_program_has_lifted_it() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    let (seq, event) = policy(&mock, "NeverConfirm");
    dial.durable(seq, &event).await.unwrap();
    until(|| conversation.events().len() == 1).await;
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(mock.seen("POST /confirmation_policy"), 2);
    let bodies = mock.bodies();
    assert!(bodies[1].contains("AlwaysConfirm"), "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_does_not_replace_the_newer_analyzer_of_another_program() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let analyzer = Some(SecurityAnalyzer::llm());
    soon(conversation.settings().set_security_analyzer(analyzer))
        .await
        .unwrap();
    for kind in ["LLMSecurityAnalyzer", "PolicyRailSecurityAnalyzer"] {
        let (seq, event) = change(&mock, "security_analyzer", json!({ "kind": kind }));
        dial.durable(seq, &event).await.unwrap();
    }
    until(|| conversation.events().len() == 2).await;
    let dial = reconnected(&mock, &mut dials, dial).await;
    dial.full_state("idle").await.unwrap();
    until(|| mock.seen("POST /security_analyzer") == 2).await;
    let bodies = mock.bodies();
    assert!(bodies[1].contains("PolicyRail"), "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_a_lost_response_does_not_replace_the_newer_policy_of_another_program() {
    for again in [false, true] {
        let (mock, mut dials, mut dial, conversation) = attached("idle").await;
        let approvals = conversation.approvals();
        mock.append("New", &json!({}));
        mock.slow_down("/events/search", Duration::from_millis(100));
        let mut sent = 1;
        let mut setting = None;
        if again {
            soon(approvals.set_policy(ConfirmationPolicy::never()))
                .await
                .unwrap();
            mock.plan("/confirmation_policy", Err(Wire::Interrupted));
            dial = reconnected(&mock, &mut dials, dial).await;
            state(&dial, "idle", "AlwaysConfirm").await;
            sent = 2;
        } else {
            dial.durable(0, &mock.event(0)).await.unwrap();
            mock.plan("/confirmation_policy", Err(Wire::Interrupted));
            setting = Some(tokio::spawn(
                approvals.set_policy(ConfirmationPolicy::never()),
            ));
        }
        until(|| mock.bodies().len() == sent).await;
        let (seq, event) = policy(&mock, "AlwaysConfirm");
        dial.durable(seq, &event).await.unwrap();
        if let Some(setting) = setting {
            soon(setting).await.unwrap().unwrap();
        }
        sleep(Duration::from_secs(20)).await;
        let later = &mock.bodies()[sent..];
        let never = later.iter().any(|body| body.contains("NeverConfirm"));
        assert!(!never, "again: {again}, {later:?}");
    }
}

#[tokio::test]
async fn nothing_is_executed_under_the_newer_policy_of_another_program() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let (fake, conversation) = attach(&server).await;
    let approvals = conversation.approvals();
    for policy in [ConfirmationPolicy::always(), ConfirmationPolicy::never()] {
        approvals.set_policy(policy).await.unwrap();
    }
    let call = SetConfirmationPolicy::new(fake.id(), ConfirmationPolicy::always());
    server.client().unwrap().call(&call).await.unwrap();
    soon_real(|| approvals.policy() == Some(ConfirmationPolicy::always())).await;
    let connections = conversation.link().connections();
    fake.cut_sockets();
    soon_real(|| {
        conversation.link().connections() > connections
            && conversation.link().status() == LinkStatus::Live
    })
    .await;
    conversation.send("Go.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(fake.executed().is_empty(), "{outcome}");
    // A fork has this policy too.
    let copy = conversation.branches().fork().await.unwrap();
    assert_eq!(
        copy.approvals().policy(),
        Some(ConfirmationPolicy::always())
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_in_a_replay_is_in_effect_before_the_snapshot() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| conversation.approvals().policy().is_some()).await;
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    mock.act();
    policy(&mock, "AlwaysConfirm");
    replay(&mock, &dial).await;
    until(|| conversation.events().len() == 2).await;
    let running = conversation.run().timeout(Duration::from_secs(20));
    let outcome = soon(tokio::spawn(running.into_future())).await;
    assert_eq!(mock.seen("POST /run"), 0, "{outcome:?}");
    let policy = conversation.approvals().policy();
    assert_eq!(policy, Some(ConfirmationPolicy::always()));
    assert_eq!(conversation.approvals().pending().len(), 1);
}

/// Attaches to a conversation with a goal, of which the handle holds no event.
async fn without_the_goal(active: bool) -> (Mock, Dial, Conversation, Arc<dyn Send>) {
    let (mock, mut dials) = Mock::new();
    let goal = json!({"active": active, "status": "running", "iteration": 1, "max_iterations": 10,
        "objective": "x"});
    change(&mock, "goal", goal);
    for _ in 0..250 {
        mock.append("New", &json!({}));
    }
    let attach = Conversation::attach(&mock.client(), mock.id).live();
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    (
        mock,
        dial,
        conversation,
        Arc::new(std::sync::Mutex::new(dials)),
    )
}

#[tokio::test(start_paused = true)]
async fn a_goal_before_the_held_events_excludes_a_policy_that_may_ask() {
    let (mock, _dial, conversation, _dials) = without_the_goal(true).await;
    let approvals = conversation.approvals();
    let error = soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /confirmation_policy"), 0);
    soon(approvals.set_policy(ConfirmationPolicy::never()))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_ended_goal_before_the_held_events_excludes_no_policy() {
    let (mock, _dial, conversation, _dials) = without_the_goal(false).await;
    let approvals = conversation.approvals();
    let mut searches = Vec::new();
    for _ in 0..2 {
        soon(approvals.set_policy(ConfirmationPolicy::always()))
            .await
            .unwrap();
        searches.push(mock.seen("GET /events/search"));
    }
    assert_eq!(
        searches[1],
        searches[0] + 1,
        "the earlier events are searched once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_goal_that_only_the_server_has_excludes_a_policy_that_may_ask() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let goal = json!({"active": true, "status": "running", "iteration": 1, "max_iterations": 10,
        "objective": "x"});
    let (seq, event) = change(&mock, "goal", goal);
    let approvals = conversation.approvals();
    let setting = tokio::spawn(approvals.set_policy(ConfirmationPolicy::always()));
    sleep(Duration::from_millis(300)).await;
    dial.durable(seq, &event).await.unwrap();
    let error = soon(setting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /confirmation_policy"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_goal_and_a_policy_that_may_ask_exclude_each_other() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.slow_down("/confirmation_policy", Duration::from_secs(5));
    let approvals = conversation.approvals();
    let setting = tokio::spawn(approvals.set_policy(ConfirmationPolicy::always()));
    until(|| mock.bodies().len() == 1).await;
    // The server has the policy already, but has not responded yet.
    let goal = conversation.goals().start("x").into_future();
    let error = soon(goal).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    soon(setting).await.unwrap().unwrap();
    assert_eq!(mock.seen("POST /goal"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_waits_for_a_goal_to_start_finds_the_goal() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.slow_down("/goal", Duration::from_secs(1));
    let goal = tokio::spawn(conversation.goals().start("x").into_future());
    sleep(Duration::from_millis(500)).await;
    let always = ConfirmationPolicy::always();
    let setting = tokio::spawn(conversation.approvals().set_policy(always));
    // The server logs the goal only after its response.
    until(|| mock.seen("POST /goal") == 1).await;
    sleep(Duration::from_secs(1)).await;
    let goal_event = json!({"active": true, "status": "running", "iteration": 1,
        "max_iterations": 10, "objective": "x"});
    let (seq, event) = change(&mock, "goal", goal_event);
    dial.durable(seq, &event).await.unwrap();
    let error = soon(setting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /confirmation_policy"), 0);
    _ = soon(goal).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_policy_that_may_ask_is_not_set_again_during_a_goal() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let approvals = conversation.approvals();
    soon(approvals.set_policy(ConfirmationPolicy::always()))
        .await
        .unwrap();
    // Another program lifts the policy and starts a goal.
    let (seq, event) = policy(&mock, "NeverConfirm");
    dial.durable(seq, &event).await.unwrap();
    let goal = json!({"active": true, "status": "running", "iteration": 1, "max_iterations": 10,
        "objective": "x"});
    change(&mock, "goal", goal);
    let dial = reconnected(&mock, &mut dials, dial).await;
    state(&dial, "idle", "NeverConfirm").await;
    until(|| conversation.link().status() == LinkStatus::Live).await;
    let running = conversation.run().timeout(Duration::from_secs(60));
    let error = soon(running.into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /confirmation_policy"), 1);
    assert_eq!(mock.seen("POST /run"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_does_not_wait_for_the_response_to_a_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.slow_down("/run", Duration::from_secs(300));
    let _running = tokio::spawn(conversation.run().into_future());
    sleep(Duration::from_secs(1)).await;
    mock.tell(&dial, "running").await;
    let set = conversation
        .approvals()
        .set_policy(ConfirmationPolicy::always());
    let set = tokio::time::timeout(Duration::from_secs(5), set).await;
    assert!(set.is_ok_and(|set| set.is_ok()));
    assert_eq!(mock.seen("POST /confirmation_policy"), 1);
}
