//! Tests of which run a wait joins.

use std::time::Duration;

use oh_conversation::{Conversation, Result, RunOutcome, RunStatus};
use oh_protocol::config::{Agent, ConfirmationPolicy, Llm};
use oh_testkit::FakeServer;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    approvals::{answer, until},
    mock::{Dial, Mock, Place, attached, soon},
    policies::acts,
};

/// Plays a run from its start to its end, which a wait returns.
async fn finishes(mock: &Mock, dial: &Dial, waiting: JoinHandle<Result<RunOutcome>>) {
    mock.tell(dial, "running").await;
    mock.tell(dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(waiting).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_run_after_an_approval_and_a_rejection_runs() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let first = mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    let approvals = conversation.approvals();
    soon(approvals.approve(&approvals.pending())).await.unwrap();
    mock.tell(&dial, "running").await;
    answer(&mock, &dial, first).await;
    let second = mock.propose(&dial).await;
    dial.full_state("waiting_for_confirmation").await.unwrap();
    until(|| !conversation.approvals().pending().is_empty()).await;
    let rejecting = tokio::spawn(approvals.reject(&approvals.pending(), "No."));
    until(|| mock.seen("POST /events/respond_to_confirmation") == 2).await;
    mock.tell(&dial, "idle").await;
    let seq = mock.reject(second);
    dial.durable(seq, &mock.event(seq)).await.unwrap();
    soon(rejecting).await.unwrap().unwrap();
    assert!(approvals.pending().is_empty());
    let running = tokio::spawn(conversation.run().into_future());
    sleep(Duration::from_secs(10)).await;
    let ended = match running.is_finished() {
        true => format!("{:?}", running.await.unwrap().unwrap().status()),
        false => "running".into(),
    };
    assert_eq!(mock.seen("POST /run"), 1, "the run ended: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_run_after_an_approval_and_a_pause_runs() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let first = mock.propose(&dial).await;
    until(|| !conversation.approvals().pending().is_empty()).await;
    let approvals = conversation.approvals();
    soon(approvals.approve(&approvals.pending())).await.unwrap();
    mock.tell(&dial, "running").await;
    answer(&mock, &dial, first).await;
    soon(conversation.pause()).await.unwrap();
    mock.tell(&dial, "paused").await;
    dial.full_state("paused").await.unwrap();
    dial.full_state("paused").await.unwrap();
    sleep(Duration::from_secs(600)).await;
    let running = tokio::spawn(conversation.run().into_future());
    sleep(Duration::from_secs(60)).await;
    let ended = match running.is_finished() {
        true => format!("{:?}", running.await.unwrap().unwrap().status()),
        false => "running".into(),
    };
    assert_eq!(mock.seen("POST /run"), 1, "the run ended: {ended}");
}

#[tokio::test]
async fn a_run_after_answers_in_a_loop_runs() {
    let server = FakeServer::builder().script(acts()).start().await.unwrap();
    let fake = server.create();
    let conversation = Conversation::attach(&server.client().unwrap(), fake.id())
        .await
        .unwrap();
    let approvals = conversation.approvals();
    approvals
        .set_policy(ConfirmationPolicy::always())
        .await
        .unwrap();
    conversation.send("Go.").await.unwrap();
    _ = conversation.run().await.unwrap();
    // As in the example of `Approvals`: each request is answered in a loop.
    let mut events = approvals.events();
    let mut answers = 0;
    while answers < 2 {
        if let Some(oh_conversation::ApprovalEvent::Requested(actions)) = events.next().await {
            match answers {
                0 => approvals.approve(&actions).await.unwrap(),
                _ => approvals.reject(&actions, "No.").await.unwrap(),
            }
            answers += 1;
        }
    }
    let before = server
        .requests_to("POST", "/api/conversations/{id}/run")
        .len();
    let len = fake.len();
    let outcome = conversation.run().await.unwrap();
    let runs = server
        .requests_to("POST", "/api/conversations/{id}/run")
        .len()
        - before;
    assert_eq!(
        runs,
        1,
        "{outcome}, {} new events, pending {:?}",
        fake.len() - len,
        approvals.pending()
    );
}

#[tokio::test(start_paused = true)]
async fn join_waits_for_an_accepted_run_that_starts_slowly() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    soon(conversation.send("hello").and_run().into_future())
        .await
        .unwrap();
    let message = json!({"source": "user", "llm_message": {"role": "user",
        "content": [{"type": "text", "text": "hello"}]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(mock.seen("POST /run"), 1, "accepted");
    let joining = tokio::spawn(conversation.join().into_future());
    // An ACP agent starts its process now.
    sleep(Duration::from_secs(20)).await;
    finishes(&mock, &dial, joining).await;
}

#[tokio::test(start_paused = true)]
async fn join_waits_for_a_run_that_was_dropped() {
    let (mock, _dials, dial, conversation) = attached("paused").await;
    let ran = timeout(Duration::from_secs(1), conversation.run().into_future()).await;
    assert!(
        ran.is_err() && mock.seen("POST /run") == 1,
        "accepted, and dropped"
    );
    let joining = tokio::spawn(conversation.join().into_future());
    sleep(Duration::from_secs(1)).await;
    finishes(&mock, &dial, joining).await;
}

#[tokio::test(start_paused = true)]
async fn join_waits_for_the_run_of_an_initial_message_that_starts_slowly() {
    let (mock, mut dials) = Mock::new();
    let created = json!({"id": mock.id.to_string(), "execution_status": "idle"});
    mock.plan("/api/conversations", Ok((201, created)));
    let agent = Agent::new(Llm::new("m").api_key("k"));
    let builder = Conversation::builder(&Place(mock.client()), agent);
    let builder = builder
        .id(mock.id)
        .initial_message("Hello.")
        .unchecked_tools();
    let starting = tokio::spawn(builder.start());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(starting).await.unwrap().unwrap();
    let joining = tokio::spawn(conversation.join().into_future());
    sleep(Duration::from_secs(20)).await;
    finishes(&mock, &dial, joining).await;
    assert_eq!(mock.seen("POST /run"), 0);
}
