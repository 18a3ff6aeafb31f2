//! Tests of when a run is over, and of its outcome.

use std::time::Duration;

use oh_conversation::{Conversation, ErrorKind, Result, RunOutcome, RunStatus};
use oh_transport::ErrorKind as Wire;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::mock::{Dial, Mock, attached, soon};

fn run(conversation: &Conversation) -> JoinHandle<Result<RunOutcome>> {
    let conversation = conversation.clone();
    tokio::spawn(async move { conversation.run().await })
}

async fn tell(mock: &Mock, dial: &Dial, status: &str) {
    mock.tell(dial, status).await;
}

async fn until(happens: impl Fn() -> bool) {
    while !happens() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn begun(mock: &Mock, dial: &Dial) {
    while mock.seen("POST /run") == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    tell(mock, dial, "running").await;
}

#[tokio::test(start_paused = true)]
async fn pitfall_09_a_denying_stop_hook_does_not_end_the_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    tell(&mock, &dial, "finished").await;
    // The hook takes a second and denies, so the agent continues to work.
    sleep(Duration::from_secs(1)).await;
    tell(&mock, &dial, "running").await;
    sleep(Duration::from_secs(30)).await;
    assert!(!running.is_finished());
    tell(&mock, &dial, "finished").await;
    let reported = Instant::now();
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(
        reported.elapsed() <= Duration::from_millis(5),
        "{:?}",
        reported.elapsed()
    );
    assert!(outcome.is_finished(), "{outcome}");
    assert_eq!(outcome.report().events(), 4);
    assert!(outcome.cost().is_some_and(|cost| cost.abs() < 1e-9));
}

#[tokio::test(start_paused = true)]
async fn pitfall_10_without_the_snapshot_every_status_ends_within_seconds() {
    for status in [
        "finished",
        "paused",
        "waiting_for_confirmation",
        "error",
        "stuck",
        "idle",
    ] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let running = run(&conversation);
        begun(&mock, &dial).await;
        sleep(Duration::from_secs(10)).await;
        tell(&mock, &dial, status).await;
        let reported = Instant::now();
        let outcome = soon(running).await.unwrap().unwrap();
        assert!(
            reported.elapsed() < Duration::from_secs(6),
            "{status} {:?}",
            reported.elapsed()
        );
        let text = outcome.status().to_string().replace(' ', "_");
        assert_eq!(text, status);
    }
}

#[tokio::test(start_paused = true)]
async fn pitfall_11_an_error_carries_its_event() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    tell(&mock, &dial, "error").await;
    let fields = json!({"code": "LLMAuthenticationError", "detail": "no key"});
    let (seq, event) = mock.append("ConversationErrorEvent", &fields);
    dial.durable(seq, &event).await.unwrap();
    dial.full_state("error").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Error);
    let error = outcome.error().expect("its event");
    assert_eq!(error.code, "LLMAuthenticationError");
    let error = outcome.ensure_finished().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinished);
    assert!(
        error.to_string().contains("LLMAuthenticationError"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_from_before_the_run_is_not_its_end() {
    let (mock, _dials, dial, conversation) = attached("paused").await;
    let running = run(&conversation);
    while mock.seen("POST /run") == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // Another client has just changed a policy, so the server sends the state, which is still the
    // old one.
    dial.full_state("error").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    tell(&mock, &dial, "running").await;
    mock.set_status("running");
    dial.full_state("running").await.unwrap();
    sleep(Duration::from_millis(10)).await;
    assert!(!running.is_finished());
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_its_step() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    // The socket reports `paused` at once. The tool continues, and REST reports `running` until it
    // ends.
    tell(&mock, &dial, "paused").await;
    mock.set_status("running");
    dial.full_state("paused").await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert!(!running.is_finished(), "the step is still under way");
    mock.set_status("paused");
    dial.full_state("paused").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Paused, "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_of_a_reconnection_ends_a_run_whose_end_was_missed() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    drop(dial);
    mock.append(
        "ConversationStateUpdateEvent",
        &json!({"key": "execution_status", "value": "finished"}),
    );
    mock.set_status("finished");
    let dial = soon(dials.recv()).await.unwrap();
    let reported = Instant::now();
    dial.welcome(&mock, "finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished() && reported.elapsed() <= Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_long_tool_call_after_an_approval_does_not_count_as_waiting() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.propose(&dial).await;
    soon(until(|| !conversation.approvals().pending().is_empty())).await;
    let pending = conversation.approvals().pending();
    conversation.approvals().approve(&pending).await.unwrap();
    let status = |status: &str| json!({"key": "execution_status", "value": status});
    let (seq, event) = mock.append("ConversationStateUpdateEvent", &status("running"));
    dial.durable(seq, &event).await.unwrap();
    let running = run(&conversation);
    // REST still reports the waiting state, because the server saves the current state only when
    // the step ends.
    sleep(Duration::from_secs(120)).await;
    assert!(!running.is_finished());
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_made_before_the_run_and_sent_after_its_beginning_is_not_its_end() {
    let (mock, mut dials, dial, conversation) = attached("error").await;
    let running = run(&conversation);
    while mock.seen("POST /run") == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(dial);
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(None).await.unwrap();
    tell(&mock, &dial, "running").await;
    dial.full_state("error").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(!running.is_finished());
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_run_lost_by_a_killed_server_ends_with_the_restored_state() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    drop(dial);
    // The log shows the status `running`, but the state is still that of the previous step.
    mock.set_status("waiting_for_confirmation");
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "waiting_for_confirmation")
        .await
        .unwrap();
    let reported = Instant::now();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(
        outcome.status() == RunStatus::WaitingForConfirmation,
        "{outcome}"
    );
    assert!(
        reported.elapsed() < Duration::from_secs(5),
        "{:?}",
        reported.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unannounced_end_is_found_in_the_log() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    sleep(Duration::from_secs(10)).await;
    // Another subscriber that never reads blocks the server's socket messages to all clients.
    let finished = json!({"key": "execution_status", "value": "finished"});
    mock.append("ConversationStateUpdateEvent", &finished);
    mock.set_status("finished");
    let reported = Instant::now();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
    assert!(
        reported.elapsed() < Duration::from_secs(12),
        "{:?}",
        reported.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn events_during_an_outage_do_not_count_as_the_run() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    drop(dial);
    sleep(Duration::from_millis(1)).await;
    // Another client's run failed in the meantime.
    for status in ["running", "error"] {
        let fields = json!({"key": "execution_status", "value": status});
        mock.append("ConversationStateUpdateEvent", &fields);
    }
    mock.set_status("error");
    let running = run(&conversation);
    let dial = soon(dials.recv()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        mock.seen("POST /run"),
        0,
        "it waits to see where things stand"
    );
    dial.welcome(&mock, "error").await.unwrap();
    begun(&mock, &dial).await;
    sleep(Duration::from_secs(30)).await;
    assert!(!running.is_finished());
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
}

/// A response about the run slot does not apply to a run that began after the request.
#[tokio::test(start_paused = true)]
async fn a_slot_that_another_run_has_taken_does_not_count_as_free() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "finished").await;
    let id = Box::leak(mock.id.to_string().into_boxed_str());
    mock.slow_down(id, Duration::from_secs(10));
    let running = run(&conversation);
    // Without a snapshot, the client sends a REST request after 30 s. The response arrives after
    // 40 s.
    sleep(Duration::from_secs(35)).await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "finished").await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(mock.seen("POST /run"), 0, "the other run goes on");
    dial.full_state("finished").await.unwrap();
    until(|| mock.seen("POST /run") == 1).await;
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_continues_and_the_next_run_joins_it() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(mock.seen("POST /pause") + mock.seen("POST /interrupt"), 0);
    mock.plan(
        "/run",
        Ok((409, json!({"detail": "conversation_already_running"}))),
    );
    let running = run(&conversation);
    sleep(Duration::from_secs(5)).await;
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished() && !outcome.report().started());
}

#[tokio::test(start_paused = true)]
async fn a_run_started_elsewhere_is_joined() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    mock.plan(
        "/run",
        Ok((409, json!({"detail": "conversation_already_running"}))),
    );
    let running = run(&conversation);
    sleep(Duration::from_secs(5)).await;
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished() && !outcome.report().started());
}

#[tokio::test(start_paused = true)]
async fn pitfall_13_a_conflict_without_an_active_run_is_reported_as_wedged() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    for _ in 0..10_000 {
        mock.plan(
            "/run",
            Ok((409, json!({"detail": "conversation_already_running"}))),
        );
    }
    let outcome = soon(run(&conversation)).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Wedged, "{outcome}");
    let requests = mock.seen("POST /run");
    assert!(requests < 10, "{requests} requests in two minutes");
}

#[tokio::test(start_paused = true)]
async fn pitfall_12_a_timeout_ends_the_wait_and_not_the_work() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let waiting = tokio::spawn({
        let conversation = conversation.clone();
        async move { conversation.run().timeout(Duration::from_secs(3600)).await }
    });
    begun(&mock, &dial).await;
    let outcome = waiting.await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::StillRunning, "{outcome}");
    assert_eq!(mock.seen("POST /pause") + mock.seen("POST /interrupt"), 0);

    mock.plan(
        "/run",
        Ok((409, json!({"detail": "conversation_already_running"}))),
    );
    let conversation2 = conversation.clone();
    let idle = tokio::spawn(async move {
        conversation2
            .run()
            .idle_timeout(Duration::from_secs(60))
            .await
    });
    for _ in 0..10 {
        // The agent is slow, but working.
        sleep(Duration::from_secs(50)).await;
        let (seq, event) = mock.append("New", &json!({}));
        dial.durable(seq, &event).await.unwrap();
    }
    assert!(!idle.is_finished());
    let outcome = soon(idle).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::StillRunning, "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn pitfall_15_neither_a_message_nor_a_run_approves_a_pending_action() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.propose(&dial).await;
    let error = conversation.send("do NOT run that").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PendingConfirmation);
    let outcome = conversation.run().await.unwrap();
    assert_eq!(outcome.status(), RunStatus::WaitingForConfirmation);
    assert!(!outcome.report().started());
    assert_eq!(mock.seen("POST /events") + mock.seen("POST /run"), 0);
    let pending = conversation.approvals().pending();
    let rejecting = tokio::spawn({
        let conversation = conversation.clone();
        async move { conversation.approvals().reject(&pending, "no").await }
    });
    sleep(Duration::from_millis(50)).await;
    let answer = json!({"tool_name": "terminal", "tool_call_id": "call-0", "action_id": "0",
        "rejection_reason": "no"});
    let (seq, event) = mock.append("UserRejectObservation", &answer);
    dial.durable(seq, &event).await.unwrap();
    tell(&mock, &dial, "idle").await;
    soon(rejecting).await.unwrap().unwrap();
    conversation.send("do something else").await.unwrap();
    assert_eq!(mock.seen("POST /events"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_to_run_does_not_start_a_second_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.plan("/run", Err(Wire::Interrupted));
    let running = run(&conversation);
    begun(&mock, &dial).await;
    sleep(Duration::from_secs(2)).await;
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished() && outcome.report().started());
    assert_eq!(mock.seen("POST /run"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_deleted_in_mid_run_is_gone() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    begun(&mock, &dial).await;
    mock.delete();
    tokio::spawn(async move {
        while let Some(dial) = dials.recv().await {
            let _ = dial.peer.end(oh_transport::Error::closed(4004, "")).await;
        }
    });
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::Gone, "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn pitfall_27_a_message_with_a_lost_response_is_looked_up_and_never_sent_twice() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let message = |text: &str| {
        json!({"source": "user",
            "llm_message": {"role": "user", "content": [{"type": "text", "text": text}]}})
    };
    let send = |text: &'static str| {
        let conversation = conversation.clone();
        tokio::spawn(async move { conversation.send(text).await })
    };
    // The log shows that the message was accepted, although an earlier message has the same text.
    mock.plan("/events", Err(Wire::Interrupted));
    let (seq, event) = mock.append("MessageEvent", &message("hello"));
    dial.durable(seq, &event).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let sending = send("hello");
    sleep(Duration::from_secs(5)).await;
    assert!(!sending.is_finished(), "the older message is another one");
    let (seq, event) = mock.append("MessageEvent", &message("hello"));
    dial.durable(seq, &event).await.unwrap();
    soon(sending).await.unwrap().unwrap();
    // The log does not show whether the message was accepted, so the caller must decide.
    mock.plan("/events", Err(Wire::Timeout));
    let error = soon(send("again")).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert_eq!(mock.seen("POST /events"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_is_rejected_before_sending() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let error = conversation.send("  \n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(mock.seen("POST /events"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_503_of_a_gateway_is_unclear_and_one_of_the_server_is_not() {
    // Envoy's response when the server closes the connection after it has received the request.
    let (mock, _dials, dial, conversation) = attached("idle").await;
    mock.plan("/run", Ok((503, json!("upstream connect error"))));
    let running = run(&conversation);
    until(|| mock.seen("POST /run") == 1).await;
    sleep(Duration::from_secs(3)).await;
    tell(&mock, &dial, "running").await;
    tell(&mock, &dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert_eq!(mock.seen("POST /run"), 1);
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.plan("/run", Ok((503, json!({"detail": "dormant"}))));
    let error = soon(run(&conversation)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
}
