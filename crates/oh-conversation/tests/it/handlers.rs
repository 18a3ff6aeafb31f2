//! Tests of runs whose agent waits for the handlers of client tools.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{ClientTool, ClientToolCall, Conversation};
use oh_transport::{Error, ErrorKind as Wire};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    approvals::until,
    mock::{Dial, Mock, soon},
};

type Calls = Arc<Mutex<Vec<String>>>;

fn tool(calls: &Calls) -> ClientTool {
    let calls = calls.clone();
    ClientTool::new("ask", "Asks.", move |call: ClientToolCall| {
        calls.lock().unwrap().push(call.id().to_owned());
        async { Ok("An answer.") }
    })
}

fn result_of(mock: &Mock, call: u64) -> u64 {
    let text = format!("[Result of the client tool `ask`, call call-{call}, action {call}]\nYes.");
    let message = json!({"source": "user", "llm_message": {"role": "user",
        "content": [{"type": "text", "text": text}]}});
    mock.append("MessageEvent", &message).0
}

pub(crate) async fn state(dial: &Dial, status: &str, more: serde_json::Value) {
    let mut value = json!({"execution_status": status});
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let frame = json!({"type": "transient", "event": {"kind": "ConversationStateUpdateEvent",
        "id": "snapshot", "source": "environment", "key": "full_state", "value": value}});
    dial.peer.text(frame.to_string()).await.unwrap();
}

async fn with_tool(
    tool: ClientTool,
) -> (
    Mock,
    Dial,
    Conversation,
    tokio::sync::mpsc::UnboundedReceiver<Dial>,
) {
    let (mock, mut dials) = Mock::new();
    let attach = Conversation::attach(&mock.client(), mock.id).client_tool(tool);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    (mock, dial, conversation, dials)
}

/// Starts to run, and calls the client tool. Returns the `seq` of the call.
async fn calls(mock: &Mock, dial: &Dial) -> u64 {
    mock.tell(dial, "running").await;
    let call = mock.call_client_tool("ask");
    for seq in [call, mock.answer_client_tool(call)] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    call
}

pub(crate) fn stats(cost: f64) -> serde_json::Value {
    json!({"stats": {"usage_to_metrics": {"default": {"accumulated_cost": cost}}}})
}

#[tokio::test(start_paused = true)]
async fn a_budget_covers_every_continued_run() {
    let (mock, dial, conversation, _dials) = with_tool(tool(&Calls::default())).await;
    state(&dial, "idle", stats(0.0)).await;
    let running = tokio::spawn(conversation.run().max_cost(1.0).into_future());
    let mut cost = 0.0;
    for round in 1..=5 {
        until(|| mock.seen("POST /run") >= round).await;
        let call = calls(&mock, &dial).await;
        cost += 0.9;
        mock.tell(&dial, "finished").await;
        state(&dial, "finished", stats(cost)).await;
        until(|| mock.seen("POST /events") >= round).await;
        let seq = result_of(&mock, call);
        dial.durable(seq, &mock.event(seq)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        if running.is_finished() || mock.seen("POST /interrupt") > 0 {
            break;
        }
    }
    assert!(
        cost < 2.5,
        "interrupts: {}; a run with a limit of $1 has cost ${cost}",
        mock.seen("POST /interrupt")
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_applies_while_a_handler_hangs() {
    let hangs = ClientTool::new("ask", "Asks.", |_| async {
        std::future::pending::<()>().await;
        Ok(())
    });
    let (mock, dial, conversation, _dials) = with_tool(hangs).await;
    let running = tokio::spawn(
        conversation
            .run()
            .idle_timeout(Duration::from_secs(60))
            .into_future(),
    );
    until(|| mock.seen("POST /run") == 1).await;
    calls(&mock, &dial).await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert!(
        running.is_finished(),
        "no event for an hour, with an idle timeout of a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_ends_the_run_while_a_handler_works() {
    let slow = ClientTool::new("ask", "Asks.", |_| async {
        sleep(Duration::from_secs(30)).await;
        Ok("late")
    });
    let (mock, dial, conversation, _dials) = with_tool(slow).await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    calls(&mock, &dial).await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    // The server dies, without a supervisor that says so.
    for _ in 0..100_000 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
        mock.plan("", Err(Wire::Connect));
    }
    drop(dial);
    sleep(Duration::from_secs(3600)).await;
    assert!(
        running.is_finished(),
        "the server has been unreachable for an hour"
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_result_was_not_delivered_is_not_finished() {
    let slow = ClientTool::new("ask", "Asks.", |_| async {
        sleep(Duration::from_secs(600)).await;
        Ok("late")
    });
    let (mock, dial, conversation, _dials) = with_tool(slow).await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    calls(&mock, &dial).await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(!running.is_finished());
    dial.peer.end(Error::closed(4001, "")).await.unwrap();
    let outcome = soon(running).await.unwrap();
    let finished = outcome.as_ref().is_ok_and(|outcome| outcome.is_finished());
    assert!(
        !finished,
        "no result was sent: {} {outcome:?}",
        mock.seen("POST /events")
    );
}

#[tokio::test(start_paused = true)]
async fn the_duration_of_a_run_includes_its_handlers() {
    let slow = ClientTool::new("ask", "Asks.", |_| async {
        sleep(Duration::from_secs(600)).await;
        Ok(())
    });
    let (mock, dial, conversation, _dials) = with_tool(slow).await;
    let begun = Instant::now();
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    calls(&mock, &dial).await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(600));
    assert!(
        outcome.report().duration() >= Duration::from_secs(600),
        "{:?}",
        outcome.report().duration()
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_although_the_history_of_calls_cannot_be_read() {
    let (mock, mut dials) = Mock::new();
    for _ in 0..2_000 {
        mock.append("New", &json!({}));
    }
    let rejected = || Ok((422, json!({"detail": "no"})));
    (0..40).for_each(|_| mock.plan("/events/search", rejected()));
    let attach = Conversation::attach(&mock.client(), mock.id)
        .client_tool(tool(&Calls::default()))
        .resume_client_tools()
        .live();
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    sleep(Duration::from_secs(20)).await;
    mock.stop_planning();
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
}
