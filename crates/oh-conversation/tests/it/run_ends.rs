//! Tests that a wait for a run ends, and ends on time, under every fault of the server or the link.

use std::time::Duration;

use oh_conversation::{Bulk, Conversation, ErrorKind, RunStatus};
use oh_transport::{Error, ErrorKind as Wire};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    approvals::until,
    handlers::{state, stats},
    mock::{Mock, attached, polled, soon},
};

#[tokio::test(start_paused = true)]
async fn a_reached_budget_is_reported_even_if_the_interrupt_is_answered_late() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    state(&dial, "idle", stats(0.0)).await;
    mock.slow_down("/interrupt", Duration::from_secs(3));
    let running = tokio::spawn(conversation.run().max_cost(1.0).into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    let (seq, event) = mock.append(
        "ConversationStateUpdateEvent",
        &json!({"key": "stats",
        "value": stats(2.0)["stats"]}),
    );
    dial.durable(seq, &event).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    mock.tell(&dial, "paused").await;
    state(&dial, "paused", stats(2.0)).await;
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::BudgetReached);
}

#[tokio::test(start_paused = true)]
async fn a_total_budget_counts_earlier_runs() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    state(&dial, "idle", stats(1.5)).await;
    let running = tokio::spawn(conversation.run().max_total_cost(2.0).into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(mock.seen("POST /interrupt"), 0);
    let cost = json!({"key": "stats", "value": stats(2.0)["stats"]});
    let (seq, event) = mock.append("ConversationStateUpdateEvent", &cost);
    dial.durable(seq, &event).await.unwrap();
    until(|| mock.seen("POST /interrupt") == 1).await;
    mock.tell(&dial, "paused").await;
    state(&dial, "paused", stats(2.0)).await;
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::BudgetReached, "{outcome}");
    assert!((outcome.cost().unwrap() - 0.5).abs() < 1e-9, "{outcome}");

    let outcome = conversation.run().max_total_cost(2.0).await.unwrap();
    assert_eq!(outcome.status(), RunStatus::BudgetReached, "{outcome}");
    assert_eq!(mock.seen("POST /run"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_negative_or_no_number_is_rejected_before_anything_is_sent() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let before = mock.requests().len();
    for limit in [-0.01, f64::NAN, f64::NEG_INFINITY] {
        for run in [
            conversation.run().max_cost(limit),
            conversation.join().max_total_cost(limit),
        ] {
            let error = run.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("must be at least 0"), "{error}");
        }
        let mut bulk = Bulk::new()
            .max_cost(limit)
            .resume(conversation.clone())
            .run();
        let error = bulk.next().await.unwrap().outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(mock.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_a_wait_during_a_request_without_a_response() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_millis(500)).await;
    mock.slow_down("", Duration::from_secs(1000));
    mock.tell(&dial, "finished").await;
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    soon(conversation.close()).await.unwrap();
    _ = soon(running).await.unwrap();
    assert!(
        begun.elapsed() <= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_a_run_that_has_not_been_sent() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    mock.slow_down("", Duration::from_secs(1000));
    let running = tokio::spawn(conversation.run().into_future());
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    soon(conversation.close()).await.unwrap();
    _ = soon(running).await.unwrap();
    assert!(
        begun.elapsed() <= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_behind_a_proxy_that_accepts_sockets_without_a_server() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_secs(1)).await;
    for _ in 0..100_000 {
        mock.plan("", Ok((502, json!({"detail": "bad gateway"}))));
    }
    let proxy = tokio::spawn(async move {
        while let Some(dial) = dials.recv().await {
            _ = dial.peer.end(Error::closed(1011, "")).await;
        }
    });
    drop(dial);
    sleep(Duration::from_secs(3600)).await;
    proxy.abort();
    assert!(running.is_finished(), "nothing could be read for an hour");
}

#[tokio::test(start_paused = true)]
async fn a_run_after_an_approval_without_effect_ends() {
    let mut ends = Vec::new();
    for (join, late) in [(false, 100), (true, 100), (false, 0), (true, 0)] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        mock.tell(&dial, "running").await;
        mock.propose(&dial).await;
        until(|| !conversation.approvals().pending().is_empty()).await;
        let approvals = conversation.approvals();
        // The run that asks is still wrapping up: the server accepts this without effect.
        soon(approvals.approve(&approvals.pending())).await.unwrap();
        let run = match join {
            true => conversation.join(),
            false => conversation.run(),
        };
        let running;
        if late > 0 {
            dial.full_state("waiting_for_confirmation").await.unwrap();
            sleep(Duration::from_millis(late)).await;
            running = tokio::spawn(run.into_future());
        } else {
            running = tokio::spawn(run.into_future());
            sleep(Duration::from_millis(100)).await;
            dial.full_state("waiting_for_confirmation").await.unwrap();
        }
        mock.set_status("waiting_for_confirmation");
        sleep(Duration::from_secs(3600)).await;
        ends.push((join, late, running.is_finished()));
    }
    assert!(
        ends.iter().all(|(_, _, ended)| *ended),
        "join, late, ended: {ends:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_longest_silence_is_possible() {
    let (mock, mut dials) = Mock::new();
    let attach = Conversation::attach(&mock.client(), mock.id).silence_after(Duration::MAX);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    _ = dial.welcome(&mock, "idle").await;
    let attached = timeout(Duration::from_secs(600), attaching)
        .await
        .expect("attached");
    attached.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_for_a_wedged_run_is_possible() {
    let (mock, mut dials) = Mock::new();
    let attach = Conversation::attach(&mock.client(), mock.id).wedged_after(Duration::MAX);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    let running = tokio::spawn(
        conversation
            .run()
            .timeout(Duration::from_secs(5))
            .into_future(),
    );
    _ = soon(running).await.expect("no panic").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_if_the_server_is_gone_after_it_has_not_found_the_conversation() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_secs(1)).await;
    // A server that starts may not have loaded its conversations.
    mock.plan("", Ok((404, json!({"detail": "Conversation not found"}))));
    mock.refuse(Error::from_status(http::StatusCode::NOT_FOUND));
    for _ in 0..10_000 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    for _ in 0..10_000 {
        mock.plan("", Err(Wire::Connect));
    }
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::ServerGone);
}

/// Without a socket, a restart that the log does not show looks like a long step.
#[tokio::test(start_paused = true)]
async fn an_idle_timeout_ends_the_wait_for_a_run_that_a_restart_has_ended() {
    let (mock, _dials, conversation) = polled().await;
    let run = conversation.run().idle_timeout(Duration::from_secs(60));
    let running = tokio::spawn(run.into_future());
    until(|| mock.seen("POST /run") == 1).await;
    let status = json!({"key": "execution_status", "value": "running"});
    mock.append("ConversationStateUpdateEvent", &status);
    let outcome = timeout(Duration::from_secs(120), running).await;
    let outcome = outcome.unwrap().unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::StillRunning, "{outcome}");
}
