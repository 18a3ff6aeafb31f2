//! Tests of the link's guarantees: events in order, endings that are detected, and no unnecessary
//! requests.

use std::time::Duration;

use oh_conversation::{Conversation, Cursor, ErrorKind, LinkStatus, RunStatus};
use oh_transport::{Error, ErrorKind as Wire, Liveness};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::mock::{Dial, Mock, attached, soon};

pub(crate) async fn until(happens: impl Fn() -> bool) {
    soon(async {
        while !happens() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) async fn ids(conversation: &Conversation, count: usize) -> Vec<String> {
    let mut events = conversation.subscribe(Cursor::Start);
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = soon(events.next()).await.unwrap().unwrap();
        ids.push(event.id().to_owned());
    }
    ids
}

pub(crate) fn places(count: usize) -> Vec<String> {
    (0..count).map(|place| place.to_string()).collect()
}

/// Returns the number of requests for the conversation itself and for its log.
fn asked(mock: &Mock) -> (usize, usize) {
    let requests = mock.requests();
    let count = |wanted: &str| requests.iter().filter(|it| it.trim_end() == wanted).count();
    (count("GET"), count("GET /events/search"))
}

#[tokio::test(start_paused = true)]
async fn events_out_of_order_reach_every_reader_once_and_in_order() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let mut live = conversation.subscribe(Cursor::Now);
    let events: Vec<_> = (0..40).map(|_| mock.append("New", &json!({}))).collect();
    for pair in events.chunks(2) {
        for (seq, event) in pair.iter().rev() {
            dial.durable(*seq, event).await.unwrap();
        }
    }
    for place in places(40) {
        let event = soon(live.next()).await.unwrap().unwrap();
        assert_eq!(event.id(), place);
    }
    assert_eq!(ids(&conversation, 40).await, places(40));
    assert_eq!(asked(&mock).1, 0, "nothing had to be fetched");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_filled_from_the_server_s_log() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    for _ in 0..6 {
        mock.append("New", &json!({}));
    }
    for seq in [0, 3, 5] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    assert_eq!(ids(&conversation, 6).await, places(6));
    assert_eq!(conversation.link().connections(), 1);
    let (seq, event) = mock.append("New", &json!({}));
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(ids(&conversation, 7).await, places(7));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_number_is_read_from_the_log() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (_, event) = mock.append("MessageEvent", &json!({"source": "user"}));
    let event = std::str::from_utf8(&event).unwrap().to_owned();
    let frame = format!(r#"{{"type":"transient","event":{event}}}"#);
    dial.peer.text(frame).await.unwrap();
    assert_eq!(ids(&conversation, 1).await, places(1));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_or_different_log_after_a_reconnect_ends_the_link() {
    for longer in [false, true] {
        let (mock, mut dials, dial, conversation) = attached("idle").await;
        for _ in 0..5 {
            let (seq, event) = mock.append("New", &json!({}));
            dial.durable(seq, &event).await.unwrap();
        }
        until(|| conversation.events().len() == 5).await;
        drop(dial);
        mock.start_over();
        for n in 0..if longer { 9 } else { 2 } {
            mock.append("New", &json!({"id": format!("new-{n}")}));
        }
        let mut events = conversation.subscribe(Cursor::After(4));
        let running = tokio::spawn(conversation.run().into_future());
        tokio::spawn({
            let mock = mock.clone();
            async move {
                while let Some(dial) = dials.recv().await {
                    let _ = dial.welcome(&mock, "finished").await;
                    sleep(Duration::from_secs(3600)).await;
                }
            }
        });
        let error = soon(events.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{longer}");
        let error = soon(running).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{longer}");
        assert_eq!(conversation.events().len(), 5, "nothing of the other log");
        assert_eq!(mock.seen("POST /run"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recreated_conversation_is_noticed_on_a_silent_socket() {
    for used in [false, true] {
        let (mock, mut dials, dial, conversation) = attached("idle").await;
        for _ in 0..5 {
            let (seq, event) = mock.append("New", &json!({}));
            dial.durable(seq, &event).await.unwrap();
        }
        until(|| conversation.events().len() == 5).await;
        mock.start_over();
        for n in 0..8 {
            mock.append("New", &json!({"id": format!("new-{n}")}));
        }
        tokio::spawn({
            let mock = mock.clone();
            async move {
                while let Some(dial) = dials.recv().await {
                    let _ = dial.welcome(&mock, "idle").await;
                    sleep(Duration::from_secs(3600)).await;
                }
            }
        });
        let mut events = conversation.subscribe(Cursor::Now);
        if used {
            let error = soon(conversation.run().into_future()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Replaced);
            assert_eq!(mock.seen("POST /run"), 0);
        }
        let noticed = timeout(Duration::from_secs(120), events.next()).await;
        let error = noticed.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{used}");
        drop(dial);
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_link_sends_no_request_while_idle_and_few_while_running() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let keep = tokio::spawn(async move {
        let mut all = vec![dial];
        while let Some(dial) = dials.recv().await {
            // The client checks idle links by opening another socket.
            dial.sync(None).await.unwrap();
            dial.full_state("idle").await.unwrap();
            all.push(dial);
        }
    });
    let before = mock.requests().len();
    sleep(Duration::from_secs(3600)).await;
    let requests = mock.requests()[before..].to_vec();
    assert!(requests.is_empty(), "{requests:?}");
    assert!(conversation.link().connections() < 12, "ever more rarely");
    keep.abort();

    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_secs(1)).await;
    let before = asked(&mock);
    sleep(Duration::from_secs(600)).await;
    let after = asked(&mock);
    assert_eq!(after.0 - before.0, 0, "the whole state is never polled");
    assert!(
        after.1 - before.1 <= 35,
        "{} requests in ten minutes",
        after.1 - before.1
    );
    mock.tell(&dial, "finished").await;
    dial.full_state("finished").await.unwrap();
    assert!(soon(running).await.unwrap().unwrap().is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_gateways_404_is_not_the_servers_404() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    // Plans a 404 for every request and every socket, for longer than the client waits to confirm a
    // deletion.
    for _ in 0..200 {
        let page = json!("<html>404</html>");
        mock.plan(conversation_path(&mock), Ok((404, page.clone())));
        mock.plan("/events/search", Ok((404, page)));
    }
    for _ in 0..8 {
        mock.refuse(Error::from_status(http::StatusCode::NOT_FOUND));
    }
    drop(dial);
    let dial = soon(dials.recv()).await.unwrap();
    mock.append("New", &json!({}));
    dial.welcome(&mock, "idle").await.unwrap();
    assert_eq!(ids(&conversation, 1).await, places(1));
    assert!(conversation.link().status() != LinkStatus::Ended);
}

fn conversation_path(mock: &Mock) -> &'static str {
    format!("/api/conversations/{}", mock.id).leak()
}

#[tokio::test(start_paused = true)]
async fn a_rejected_upgrade_on_a_server_with_the_session_socket_is_retried() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    mock.refuse(Error::from_status(http::StatusCode::FORBIDDEN));
    drop(dial);
    let dial = soon(dials.recv()).await.unwrap();
    assert!(
        dial.target.starts_with("/sockets/session/"),
        "{}",
        dial.target
    );
    dial.welcome(&mock, "idle").await.unwrap();
    until(|| conversation.link().status() == LinkStatus::Live).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_hang_delay_neither_events_nor_the_close() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    mock.slow_down("/events/search", Duration::from_secs(100_000));
    // After this time the client is checking the silent link.
    sleep(Duration::from_secs(60)).await;
    let (seq, event) = mock.append("New", &json!({}));
    let sent = Instant::now();
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(ids(&conversation, 1).await, places(1));
    assert!(
        sent.elapsed() < Duration::from_millis(10),
        "{:?}",
        sent.elapsed()
    );
    let mut events = conversation.subscribe(Cursor::Now);
    let closing = Instant::now();
    conversation.close().await.unwrap();
    assert!(closing.elapsed() <= Duration::from_millis(100));
    assert!(soon(events.next()).await.is_none());
    assert_eq!(conversation.link().status(), LinkStatus::Ended);
}

#[tokio::test(start_paused = true)]
async fn attaching_during_a_tool_call_is_ready_and_now_follows_the_history() {
    let (mock, mut dials) = Mock::new();
    mock.set_status("running");
    for _ in 0..61 {
        mock.append("New", &json!({}));
    }
    // After the handshake, nothing arrives until the tool ends.
    let conversation = soon(mock.attach()).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    assert_eq!(conversation.events().len(), 61);
    let mut events = conversation.subscribe(Cursor::Now);
    let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
    let _callback = conversation.on_event(move |event| {
        let _ = sender.send(event.id().to_owned());
    });
    sleep(Duration::from_secs(30)).await;
    for _ in 0..5 {
        mock.append("New", &json!({}));
    }
    dial.welcome(&mock, "running").await.unwrap();
    for place in 61..66 {
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(event.id(), place.to_string());
        assert_eq!(soon(called.recv()).await.unwrap(), place.to_string());
    }
    assert_eq!(ids(&conversation, 66).await, places(66));
    assert!(
        dials.try_recv().is_err(),
        "a second dial starves the server"
    );
}

#[tokio::test(start_paused = true)]
async fn now_during_an_outage_is_the_servers_position() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    for _ in 0..3 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    drop(dial);
    until(|| conversation.link().status() == LinkStatus::Connecting).await;
    for _ in 0..10 {
        mock.append("New", &json!({}));
    }
    let mut events = conversation.subscribe(Cursor::Now);
    let next = tokio::spawn(async move { events.next().await.unwrap().unwrap() });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let (seq, event) = mock.append("New", &json!({}));
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(soon(next).await.unwrap().id(), "10");
}

#[tokio::test(start_paused = true)]
async fn time_limits_hold_while_the_link_is_down() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    for _ in 0..100_000 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    mock.slow_down("", Duration::from_secs(100_000));
    drop(dial);
    sleep(Duration::from_millis(1)).await;
    let limit = Duration::from_millis(500);
    for run in [
        conversation.run().timeout(limit),
        conversation.run().idle_timeout(limit),
        conversation.join().timeout(limit),
        conversation.join().idle_timeout(limit),
    ] {
        let begun = Instant::now();
        let outcome = soon(run.into_future()).await.unwrap();
        assert_eq!(outcome.status(), RunStatus::StillRunning);
        assert!(!outcome.report().started());
        assert!(begun.elapsed() < limit * 2, "{:?}", begun.elapsed());
    }
    // If the server stays unreachable, the run ends.
    let begun = Instant::now();
    let outcome = soon(conversation.join().into_future()).await.unwrap();
    assert_eq!(outcome.status(), RunStatus::ServerGone);
    assert!(outcome.ensure_finished().is_err());
    assert!(
        begun.elapsed() <= Duration::from_secs(61),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_reported_as_gone_ends_every_wait_at_once() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let mut events = conversation.subscribe(Cursor::Now);
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let reason = "killed by signal 9";
    conversation
        .client()
        .set_liveness(Liveness::Gone(reason.into()));
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::ServerGone);
    assert!(outcome.to_string().contains(reason), "{outcome}");
    assert!(begun.elapsed() < Duration::from_millis(10));
    let _running = soon(events.next()).await.unwrap().unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerGone);
}

#[tokio::test(start_paused = true)]
async fn a_ready_again_server_is_reconnected_at_once() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let client = conversation.client().clone();
    client.set_liveness(Liveness::Restarting);
    for _ in 0..12 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    drop(dial);
    // At this point the client waits ten seconds between dials.
    sleep(Duration::from_secs(42)).await;
    let begun = Instant::now();
    client.set_liveness(Liveness::Ready);
    let dial = loop {
        if let Ok(dial) = timeout(Duration::from_millis(900), dials.recv()).await {
            break dial.unwrap();
        }
    };
    dial.welcome(&mock, "idle").await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_shorten_the_delays_of_a_failing_link() {
    let (mock, mut dials, dial, conversation) = attached("idle").await;
    let client = conversation.client().clone();
    client.set_liveness(Liveness::Restarting);
    client.set_liveness(Liveness::Ready);
    for _ in 0..1_000 {
        mock.refuse(Error::new(Wire::Connect, "refused"));
    }
    drop(dial);
    // The client dials about ten times a minute, so one minute does not use up the planned
    // refusals.
    assert!(
        timeout(Duration::from_secs(60), dials.recv())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn handles_of_one_process_share_a_link_and_close_by_themselves() {
    let (mock, mut dials, dial, first) = attached("idle").await;
    let second = Conversation::attach(first.client(), mock.id).await.unwrap();
    let third = Conversation::attach(first.client(), mock.id).await.unwrap();
    assert!(dials.try_recv().is_err(), "one socket for all");
    let (mut one, mut two) = (first.subscribe(Cursor::Now), second.subscribe(Cursor::Now));
    let mut tokens = first.tokens();
    first.close().await.unwrap();
    assert!(soon(one.next()).await.is_none());
    assert!(soon(tokens.next()).await.is_none());
    assert_eq!(
        (first.link().status(), second.link().status()),
        (LinkStatus::Ended, LinkStatus::Live)
    );
    drop(third);
    let (seq, event) = mock.append("New", &json!({}));
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(soon(two.next()).await.unwrap().unwrap().id(), "0");
    // Closing the last handle closes the socket.
    let mut dial: Dial = dial;
    second.close().await.unwrap();
    soon(async { while dial.peer.recv().await.is_some() {} }).await;
    // The next handle opens a new link.
    let client = first.client().clone();
    let id = mock.id;
    let attaching = tokio::spawn(async move { Conversation::attach(&client, id).await });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    soon(attaching).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tail_reads_only_its_length_and_older_events_on_demand() {
    const ALL: usize = 20_000;
    let (mock, mut dials) = Mock::new();
    for _ in 0..ALL {
        mock.append("New", &json!({}));
    }
    let tail = Conversation::attach(&mock.client(), mock.id).tail(50);
    let attaching = tokio::spawn(tail.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    assert_eq!(dial.after(), i64::try_from(ALL).unwrap() - 51);
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    let events = conversation.events();
    assert_eq!(events.len(), 50);
    assert_eq!(events[0].id(), (ALL - 50).to_string());
    assert_eq!(events.seq(0), Some((ALL - 50) as u64));
    assert!(mock.requests().len() <= 6, "{:?}", mock.requests());
    let mut live = conversation.subscribe(Cursor::Now);
    let (seq, event) = mock.append("New", &json!({}));
    dial.durable(seq, &event).await.unwrap();
    assert_eq!(
        soon(live.next()).await.unwrap().unwrap().id(),
        ALL.to_string()
    );
    // A reader that starts at the beginning gets all events, once and in order.
    assert_eq!(ids(&conversation, ALL + 1).await, places(ALL + 1));
    assert_eq!(
        conversation.events().len(),
        51,
        "and nothing of that is held"
    );

    let from = Conversation::attach(&mock.client(), mock.id).from(Cursor::After(19_900));
    let attaching = tokio::spawn(from.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    let mut events = conversation.subscribe(Cursor::After(19_900));
    assert_eq!(soon(events.next()).await.unwrap().unwrap().id(), "19901");
}

#[tokio::test(start_paused = true)]
async fn a_reached_budget_interrupts_the_run() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let running = tokio::spawn(conversation.run().max_cost(1.0).into_future());
    until(|| mock.seen("POST /run") == 1).await;
    mock.tell(&dial, "running").await;
    let cost = |dollars: f64| {
        json!({"key": "stats", "value": {"usage_to_metrics":
        {"default": {"model_name": "m", "accumulated_cost": dollars}}}})
    };
    for dollars in [0.9, 1.4, 1.6] {
        let (seq, event) = mock.append("ConversationStateUpdateEvent", &cost(dollars));
        dial.durable(seq, &event).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        // Half a dollar had been spent before the run.
        assert_eq!(
            mock.seen("POST /interrupt"),
            usize::from(dollars > 1.5),
            "{dollars}"
        );
    }
    mock.tell(&dial, "paused").await;
    let outcome = soon(running).await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::BudgetReached);
    assert!(
        outcome.cost().is_some_and(|cost| (cost - 1.1).abs() < 1e-9),
        "{:?}",
        outcome.cost()
    );
    assert_eq!(mock.seen("POST /interrupt"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_recognised_by_all_of_its_parts() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let message = |content: serde_json::Value| json!({"source": "user", "llm_message": {"role": "user", "content": content}});
    let image = |url: &str| json!({"type": "image", "image_urls": [url]});
    mock.plan("/events", Err(Wire::Interrupted));
    let parts = conversation.send("").image("https://a.test/1.png");
    let sending = tokio::spawn(parts.into_future());
    until(|| mock.seen("POST /events") == 1).await;
    // Another client's messages: one with the same text, and one with another image.
    let text = json!({"type": "text", "text": ""});
    for (content, done) in [
        (json!([text]), false),
        (json!([text, image("https://a.test/2.png")]), false),
        (json!([text, image("https://a.test/1.png")]), true),
    ] {
        let (seq, event) = mock.append("MessageEvent", &message(content));
        dial.durable(seq, &event).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(sending.is_finished(), done);
    }
    soon(sending).await.unwrap().unwrap();
    assert_eq!(mock.seen("POST /events"), 1);
}

#[tokio::test(start_paused = true)]
async fn large_events_are_fetched_singly_if_pages_fail() {
    let (mock, mut dials) = Mock::new();
    for _ in 0..12 {
        mock.append("New", &json!({}));
    }
    // The connection breaks within every page of more than two events.
    mock.cut_pages_of_more_than(2);
    tokio::spawn({
        let mock = mock.clone();
        async move {
            while let Some(dial) = dials.recv().await {
                if dial.after() >= 10 {
                    let _ = dial.welcome(&mock, "idle").await;
                    sleep(Duration::from_secs(3600)).await;
                }
                let _ = dial.sync(Some(11)).await;
                let _ = dial.peer.end(Error::closed(1013, "frame_too_large")).await;
            }
        }
    });
    let conversation = soon(mock.attach()).await.unwrap();
    assert_eq!(ids(&conversation, 12).await, places(12));
}
