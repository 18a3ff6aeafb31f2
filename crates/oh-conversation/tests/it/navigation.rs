//! Tests that navigation executes nothing without approval.

use oh_conversation::{ErrorKind, RunStatus};
use oh_protocol::ExecutionStatus;
use oh_testkit::{
    FakeServer,
    fake::{Execution, Permission},
};
use serde_json::{Value, json};

use crate::{
    approvals::until,
    mock::{attached, soon},
    policies::{acts, attach_waiting},
};

fn status(value: &str) -> Value {
    json!({"key": "execution_status", "value": value})
}

/// A run would execute the open actions of the other branch, and so would the next round of a goal.
#[tokio::test(start_paused = true)]
async fn navigation_sends_nothing_during_a_run_a_paused_step_or_a_goal() {
    let goal = json!({"key": "goal", "value": {"active": true, "status": "running",
        "iteration": 1, "max_iterations": 5, "objective": "Reach it."}});
    let cases = [
        (vec![status("running")], "running"),
        // A paused step continues.
        (vec![status("running"), status("paused")], "running"),
        // Between two rounds nothing runs.
        (vec![goal], "idle"),
    ];
    for (changes, described) in cases {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        for change in &changes {
            let (seq, event) = mock.append("ConversationStateUpdateEvent", change);
            dial.durable(seq, &event).await.unwrap();
        }
        mock.set_status(described);
        let end = usize::try_from(mock.len()).unwrap();
        until(|| conversation.events().len() == end).await;
        let error = soon(conversation.branches().navigate("0"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{changes:?}: {error}");
        assert_eq!(mock.seen("POST /navigate"), 0, "{changes:?}");
    }
}

/// A goal that another program has started runs the agent again after the paused step.
#[tokio::test(start_paused = true)]
async fn navigation_sends_nothing_if_a_goal_begins_while_it_waits_for_a_paused_step() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "paused").await;
    mock.set_status("running");
    until(|| conversation.state().execution_status() == ExecutionStatus::Paused).await;
    let before = mock.seen("GET ");
    let navigating = tokio::spawn(conversation.branches().navigate("0"));
    // After the first check, this request asks whether the paused step has ended.
    until(|| mock.seen("GET ") > before).await;
    let goal = json!({"key": "goal", "value": {"active": true, "status": "running",
        "iteration": 1, "max_iterations": 5, "objective": "Reach it."}});
    let (seq, event) = mock.append("ConversationStateUpdateEvent", &goal);
    dial.durable(seq, &event).await.unwrap();
    mock.tell(&dial, "idle").await;
    mock.set_status("idle");
    dial.full_state("idle").await.unwrap();
    let error = soon(navigating).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(mock.seen("POST /navigate"), 0);
}

#[tokio::test]
async fn an_approved_action_waits_again_after_navigation_back_to_it() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let (fake, conversation) = attach_waiting(&server).await;
    let approvals = conversation.approvals();
    let first = approvals.pending();
    approvals.approve(&first).await.unwrap();
    _ = conversation.join().await.unwrap();
    let second = approvals.pending();
    assert_ne!(first, second);
    approvals.reject(&second, "Not this.").await.unwrap();
    let executed = || {
        let all = fake.executed();
        let of_it = all.iter().filter(|it| it.action_id == first[0].id());
        of_it.count()
    };
    assert_eq!(executed(), 1);
    let branches = conversation.branches();
    branches.navigate(first[0].id()).await.unwrap();
    assert_eq!(approvals.pending(), first);
    let outcome = conversation.run().await.unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert_eq!(executed(), 1);
    // Another approval executes it again.
    approvals.approve(&first).await.unwrap();
    _ = conversation.join().await.unwrap();
    assert_eq!(executed(), 2);
    let ran = fake.executed();
    let asked = |it: &&Execution| it.permission != Permission::NotAsked;
    assert_eq!(ran.iter().filter(asked).count(), 2, "{ran:?}");
}
