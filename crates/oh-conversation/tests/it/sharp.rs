//! Tests of guarantees in the hardest situations: the orders of events and the silences in which
//! they once failed.

use std::{future::IntoFuture, time::Duration};

use oh_conversation::{
    ClientTool, Conversation, Cursor, ErrorKind, LinkStatus, Result, RunOutcome,
};
use oh_protocol::config::ConfirmationPolicy;
use oh_transport::{Client, Error, ErrorKind as Wire};
use serde_json::json;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::mock::{Dial, Mock, attached, full_state, soon};

fn run(conversation: &Conversation) -> JoinHandle<Result<RunOutcome>> {
    tokio::spawn(conversation.run().into_future())
}

async fn until(happens: impl Fn() -> bool) {
    soon(async {
        while !happens() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn log_status(mock: &Mock, value: &str) {
    let change = json!({"key": "execution_status", "value": value});
    mock.append("ConversationStateUpdateEvent", &change);
}

#[tokio::test(start_paused = true)]
async fn a_policy_set_during_a_reconnect_is_not_undone() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let never = ConfirmationPolicy::never();
    conversation.approvals().set_policy(never).await.unwrap();
    mock.slow_down("/confirmation_policy", Duration::from_secs(10));
    let setting = tokio::spawn({
        let conversation = conversation.clone();
        async move {
            let always = ConfirmationPolicy::always();
            conversation.approvals().set_policy(always).await
        }
    });
    sleep(Duration::from_secs(1)).await;
    drop(dial);
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(None).await.unwrap();
    let mut snapshot = full_state("idle");
    snapshot["value"]["confirmation_policy"] = json!({"kind": "AlwaysConfirm"});
    let frame = json!({"type": "transient", "event": snapshot});
    dial.peer.text(frame.to_string()).await.unwrap();
    soon(setting).await.unwrap().unwrap();
    sleep(Duration::from_secs(60)).await;
    let last = mock
        .bodies()
        .into_iter()
        .rfind(|body| body.contains("Confirm"));
    assert!(
        last.unwrap().contains("AlwaysConfirm"),
        "{:?}",
        mock.bodies()
    );
}

/// Checks that a run has all its events when it returns, although no socket reports its end.
async fn ends_with_its_events(more: usize) {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = run(&conversation);
    until(|| mock.seen("POST /run") > 0).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_secs(10)).await;
    for _ in 0..more {
        mock.append("New", &json!({}));
    }
    log_status(&mock, "finished");
    mock.set_status("finished");
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished());
    assert_eq!(conversation.events().len() as u64, mock.len());
    assert_eq!(outcome.events() as u64, mock.len());
}

#[tokio::test(start_paused = true)]
async fn an_unannounced_end_arrives_with_its_event() {
    ends_with_its_events(0).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_over_a_half_open_link_follows_all_events_before_it() {
    ends_with_its_events(7).await;
}

/// Checks that events still arrive at once and a close returns at once while these requests hang.
async fn hangs(what: &'static str) {
    let (mock, _dials, dial, conversation) = attached("running").await;
    mock.slow_down(what, Duration::from_secs(100_000));
    sleep(Duration::from_secs(60)).await;
    let (seq, event) = mock.append("New", &json!({}));
    let sent = Instant::now();
    dial.durable(seq, &event).await.unwrap();
    let mut events = conversation.subscribe(Cursor::Start);
    soon(events.next()).await.unwrap().unwrap();
    let took = sent.elapsed();
    assert!(took < Duration::from_millis(10), "the event took {took:?}");
    let closing = Instant::now();
    conversation.close().await.unwrap();
    assert!(soon(events.next()).await.is_none());
    let took = closing.elapsed();
    assert!(
        took <= Duration::from_millis(100),
        "the close took {took:?}"
    );
    assert_eq!(conversation.link().status(), LinkStatus::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_count_that_hangs_delays_neither_events_nor_the_close() {
    hangs("/events/count").await;
}

/// A connection can be dead without notice. A request over it must not keep a broken link from
/// getting events for as long as a slow server may take to answer.
#[tokio::test(start_paused = true)]
async fn a_request_over_a_dead_connection_is_repeated_while_the_link_is_down() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    mock.slow_down("/events/search", Duration::from_secs(100_000));
    for _ in 0..100 {
        mock.refuse(Error::new(Wire::Handshake, "426 Upgrade Required"));
    }
    let mut events = conversation.subscribe(Cursor::Now);
    drop(dial);
    sleep(Duration::from_secs(5)).await;
    mock.slow_down("/events/search", Duration::ZERO);
    mock.append("New", &json!({}));
    let since = Instant::now();
    soon(events.next()).await.unwrap().unwrap();
    let took = since.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(conversation.link().status(), LinkStatus::Polling);
}

#[tokio::test(start_paused = true)]
async fn hanging_requests_delay_neither_events_nor_the_close() {
    hangs("").await;
}

/// A conversation with the server's end of its socket, and a `POST /run` that gets no answer within
/// the transport's timeout.
struct Unanswered {
    mock: Mock,
    dials: UnboundedReceiver<Dial>,
    dial: Dial,
    _conversation: Conversation,
    running: JoinHandle<Result<RunOutcome>>,
}

impl Unanswered {
    async fn run() -> Self {
        let (mock, dials, dial, conversation) = attached("idle").await;
        mock.slow_down("/run", Duration::from_secs(120));
        mock.plan("/run", Err(Wire::Timeout));
        let running = run(&conversation);
        sleep(Duration::from_secs(118)).await;
        Self {
            mock,
            dials,
            dial,
            _conversation: conversation,
            running,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_response_is_ambiguous_if_the_log_shows_nothing() {
    let mut asked = Unanswered::run().await;
    let outcome = soon(&mut asked.running).await.unwrap();
    assert_eq!(asked.mock.seen("POST /run"), 1);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Ambiguous);
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_response_is_followed_if_the_log_shows_it_late() {
    let Unanswered {
        mock,
        mut dials,
        dial,
        _conversation,
        running,
    } = Unanswered::run().await;
    for _ in 0..5 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    drop(dial);
    log_status(&mock, "running");
    mock.set_status("running");
    let dial = soon(dials.recv()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    dial.welcome(&mock, "running").await.unwrap();
    sleep(Duration::from_secs(10)).await;
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    let outcome = soon(running).await.unwrap();
    assert_eq!(mock.seen("POST /run"), 1);
    assert!(outcome.unwrap().is_finished());
}

#[tokio::test(start_paused = true)]
async fn token_streams_omit_a_history_that_is_still_arriving() {
    let (mock, mut dials) = Mock::new();
    let content = json!([{"type": "text", "text": "Old."}]);
    let message = json!({"llm_message": {"role": "assistant", "content": content}});
    for _ in 0..3 {
        mock.append("MessageEvent", &message);
    }
    let conversation = soon(mock.attach()).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    let mut tokens = conversation.tokens();
    dial.welcome(&mock, "running").await.unwrap();
    let first = timeout(Duration::from_secs(10), tokens.next()).await;
    assert!(first.is_err(), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn client_tools_of_conversations_with_one_id_on_two_servers_are_separate() {
    let (first, mut first_dials) = Mock::new();
    let (mut second, mut second_dials) = Mock::new();
    second.id = first.id;
    let mut kept = Vec::new();
    for (mock, dials, url) in [
        (&first, &mut first_dials, "http://one.test"),
        (&second, &mut second_dials, "http://two.test"),
    ] {
        let client = Client::builder(url)
            .session_api_key("key")
            .http_transport(mock.clone())
            .socket_transport(mock.clone())
            .build()
            .unwrap();
        let tool = ClientTool::new("ask", "Asks.", |_| async { Ok("an answer") });
        let attach = Conversation::attach(&client, mock.id).client_tool(tool);
        let attaching = tokio::spawn(attach.into_future());
        let dial = soon(dials.recv()).await.unwrap();
        dial.welcome(mock, "idle").await.unwrap();
        let conversation = soon(attaching).await.unwrap().unwrap();
        let call = mock.call_client_tool("ask");
        for seq in [call, mock.answer_client_tool(call)] {
            dial.durable(seq, &mock.event(seq)).await.unwrap();
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(mock.seen("POST /events"), 1, "{url}");
        kept.push((dial, conversation));
    }
}
