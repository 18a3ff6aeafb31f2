//! Tests of readers: where they start, and what they get from a mirror that holds only the newest
//! events.

use std::time::Duration;

use futures_util::StreamExt;
use oh_conversation::{Attach, Conversation, Cursor, EventStream, LinkStatus};
use oh_testkit::{FakeServer, Fault};
use oh_transport::{Client, Error};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    approvals::until,
    handlers::{state, stats},
    mock::{Dial, Mock, soon},
};

/// A duration longer than any operation takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Attaches to a conversation with this many events until it is live. Also returns the server's end
/// of its socket.
async fn attached(events: usize, how: impl FnOnce(Attach) -> Attach) -> (Mock, Dial, Conversation) {
    let (mock, mut dials) = Mock::new();
    for _ in 0..events {
        mock.append("New", &json!({}));
    }
    let attach = how(Conversation::attach(&mock.client(), mock.id));
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    (mock, dial, conversation)
}

async fn append(mock: &Mock, dial: &Dial, count: usize) {
    for _ in 0..count {
        let (seq, event) = mock.append("New", &json!({}));
        dial.durable(seq, &event).await.unwrap();
    }
}

/// Reads these events, each once, and checks the stream's cursor.
async fn read(events: &mut EventStream, expected: std::ops::Range<u64>) {
    for seq in expected {
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(event.id(), seq.to_string());
        assert_eq!(events.seq(), Some(seq));
        assert_eq!(events.cursor(), Cursor::After(seq));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bounded_mirror_keeps_the_newest_events_and_readers_miss_nothing() {
    let (mock, dial, conversation) = attached(5_000, |attach| attach.keep_last(1_000)).await;
    let held = conversation.events();
    assert!((1_000..=1_250).contains(&held.len()), "{}", held.len());
    assert_eq!(held.at(-1).unwrap().id(), "4999");
    assert_eq!(held.seq(0), Some(5_000 - held.len() as u64));
    // One reader starts at the beginning, one in the middle of the discarded events, and one falls
    // behind.
    let mut all = conversation.subscribe(Cursor::Start);
    let mut middle = conversation.subscribe(Cursor::After(2_345));
    let mut behind = conversation.subscribe(Cursor::Now);
    assert_eq!(behind.cursor(), Cursor::After(4_999));
    read(&mut all, 0..1_700).await;
    read(&mut middle, 2_346..2_350).await;
    append(&mock, &dial, 2_000).await;
    read(&mut middle, 2_350..7_000).await;
    read(&mut behind, 5_000..7_000).await;
    append(&mock, &dial, 3_000).await;
    read(&mut all, 1_700..10_000).await;
    read(&mut behind, 7_000..10_000).await;
    // A reader whose page requests are rejected for a while tries again.
    let mut late = conversation.subscribe(Cursor::After(99));
    for _ in 0..20 {
        mock.plan("/events/search", Ok((503, json!({"detail": "busy"}))));
    }
    read(&mut late, 100..10_000).await;
}

#[tokio::test(start_paused = true)]
async fn older_events_are_read_in_full_pages_and_requested_once() {
    let (mock, _dial, conversation) = attached(5_000, |attach| attach.keep_last(1_000)).await;
    let held = conversation.events().seq(0).unwrap();
    let before = mock.seen("GET /events/search");
    let mut events = conversation.subscribe(Cursor::Start);
    read(&mut events, 0..held).await;
    let pages = mock.seen("GET /events/search") - before;
    assert_eq!(pages as u64, held.div_ceil(100), "{held} older events");
    // The first held event follows without another page request.
    read(&mut events, held..held + 10).await;
    assert_eq!(mock.seen("GET /events/search") - before, pages);
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_page_is_an_error_and_not_an_endless_wait() {
    let (mock, _dial, conversation) = attached(2_000, |attach| attach.keep_last(1_000)).await;
    let mut events = conversation.subscribe(Cursor::Start);
    for _ in 0..3 {
        mock.plan(
            "/events/search",
            Ok((200, json!("a page of something else"))),
        );
    }
    let error = soon(events.next()).await.unwrap().unwrap_err();
    let wire = error.transport_error().map(Error::kind);
    assert_eq!(wire, Some(oh_transport::ErrorKind::Decode), "{error:?}");
    assert!(soon(events.next()).await.is_none());
    // A reader that continues from the cursor misses nothing.
    let mut events = conversation.subscribe(events.cursor());
    read(&mut events, 0..2_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_keeps_failing_is_an_error() {
    for status in [403, 422, 500] {
        let (mock, _dial, conversation) = attached(2_000, |attach| attach.keep_last(1_000)).await;
        for _ in 0..100 {
            mock.plan("/events/search", Ok((status, json!({"detail": "no"}))));
        }
        let mut events = conversation.subscribe(Cursor::Start);
        let error = soon(events.next()).await.unwrap().unwrap_err();
        let wire = error.transport_error().and_then(|wire| wire.status());
        assert_eq!(wire.map(|status| status.as_u16()), Some(status), "{error}");
        assert!(soon(events.next()).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_newest_event_that_never_decodes_is_an_error() {
    let (mock, mut dials) = Mock::new();
    let attach = Conversation::attach(&mock.client(), mock.id);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    // The link is down, so "now" has to be requested.
    drop(dial);
    soon(dials.recv()).await.unwrap();
    for _ in 0..100 {
        mock.plan("/events/search", Ok((200, json!("something else"))));
    }
    let mut events = conversation.subscribe(Cursor::Now);
    let error = soon(events.next()).await.unwrap().unwrap_err();
    let wire = error.transport_error().map(Error::kind);
    assert_eq!(wire, Some(oh_transport::ErrorKind::Decode), "{error}");
    assert!(soon(events.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_check_never_decodes_is_an_error_and_not_sent() {
    for answer in [
        (200, json!("something else")),
        (403, json!({"detail": "no"})),
    ] {
        let (mock, _dial, conversation) = attached(10, |attach| attach).await;
        for _ in 0..100 {
            mock.plan("/events/search", Ok(answer.clone()));
        }
        let error = soon(conversation.run().into_future()).await.unwrap_err();
        let wire = error.transport_error().and_then(|wire| wire.status());
        assert_eq!(
            wire.map_or(200, |status| status.as_u16()),
            answer.0,
            "{error}"
        );
        assert_eq!(mock.seen("POST /run"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bounded_mirror_continues_after_events_that_the_server_cannot_read() {
    let (mock, _dial, conversation) = attached(5_000, |attach| attach.keep_last(1_000)).await;
    let first = conversation.events().seq(0).unwrap();
    let mut events = conversation.subscribe(Cursor::After(9));
    // The log ends early: the stream reports the gap, then returns the held events.
    let empty = json!({"items": [], "next_page_id": null});
    mock.plan("/events/search", Ok((200, empty.clone())));
    mock.plan("/events/search", Ok((200, empty)));
    read(&mut events, first..5_000).await;
}

/// The server numbers events that it cannot read, and REST does not return them.
#[tokio::test]
async fn a_cursor_is_the_server_s_seq_also_where_a_socket_is_late() {
    let server = FakeServer::start().await.unwrap();
    let conversation = server.create();
    for seq in 0..20 {
        conversation.log_raw(format!(r#"{{"kind":"New","id":"{seq}"}}"#));
    }
    for seq in [3, 4] {
        conversation.lose(seq).unwrap();
    }
    let id = conversation.id();
    server.inject(Fault::hang().on("/sockets/").named("late"));
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .read_timeout(Duration::from_secs(1));
    let attached = Conversation::attach(&client.build().unwrap(), id);
    let attached = attached.await.unwrap();
    assert_eq!(attached.events().len(), 18);
    let mut events = attached.subscribe(Cursor::After(9));
    server.lift("late");
    for seq in 10..20 {
        let event = timeout(LONG, events.next()).await.unwrap().unwrap();
        assert_eq!(event.unwrap().id(), seq.to_string());
        assert_eq!(events.cursor(), Cursor::After(seq));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_may_be_ahead_of_the_log() {
    let (mock, dial, conversation) = attached(10, |attach| attach).await;
    let mut ahead = conversation.subscribe(Cursor::After(19));
    let mut now = conversation.subscribe(Cursor::Now);
    let mut numbered = Box::pin(conversation.subscribe(Cursor::After(9)).numbered());
    // The server skips two events that it cannot read.
    mock.lose([12, 13]);
    for _ in 10..30 {
        let (seq, event) = mock.append("New", &json!({}));
        if !mock.is_lost(seq) {
            dial.durable(seq, &event).await.unwrap();
        }
    }
    read(&mut ahead, 20..30).await;
    read(&mut now, 10..12).await;
    read(&mut now, 14..30).await;
    for expected in [10, 11, 14] {
        let (seq, event) = soon(numbered.next()).await.unwrap().unwrap();
        assert_eq!((seq, event.id()), (expected, &*expected.to_string()));
    }
    let events = conversation.events();
    assert_eq!((events.len(), events.seq(12)), (28, Some(14)));
    // Another process continues at the position of this one.
    let mut again = conversation.subscribe(Cursor::After(13));
    read(&mut again, 14..30).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_an_acp_tool_call_once_and_a_stream_shows_each_update() {
    let (mock, dial, conversation) = attached(1, |attach| attach).await;
    for (call, status) in [("a", "pending"), ("b", "pending"), ("a", "completed")] {
        let fields = json!({"tool_call_id": call, "title": call, "status": status});
        let (seq, event) = mock.append("ACPToolCallEvent", &fields);
        dial.durable(seq, &event).await.unwrap();
    }
    let mut events = conversation.subscribe(Cursor::Start);
    read(&mut events, 0..4).await;
    let events = conversation.events();
    let ids: Vec<_> = events.iter().map(|event| event.id()).collect();
    assert_eq!(ids, ["0", "3", "2"]);
    assert_eq!(events.of_kind("ACPToolCallEvent").count(), 2);
    assert_eq!(events.by_id("1").unwrap().id(), "1");
}

#[tokio::test(start_paused = true)]
async fn pitfall_21_slow_readers_and_blocking_callbacks_delay_no_other_reader() {
    let (mock, dial, conversation) = attached(0, |attach| attach).await;
    let mut asleep = conversation.subscribe(Cursor::Start);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (calls, called) = std::sync::mpsc::channel();
    let stuck = conversation.on_event_blocking(move |event| {
        let _ = blocked.recv();
        calls.send(event.id().to_owned()).unwrap();
    });
    let panicking = conversation.on_event(|event| assert!(!event.id().ends_with("00"), "its own"));
    let mut awake = conversation.subscribe(Cursor::Start);
    // More events than all buffers between the socket and a reader can hold.
    append(&mock, &dial, 5_000).await;
    read(&mut awake, 0..5_000).await;
    read(&mut asleep, 0..5_000).await;
    panicking.cancel().await;
    drop(release);
    stuck.cancel().await;
    let called: Vec<_> = called.into_iter().collect();
    let expected: Vec<_> = (0..5_000).map(|seq| seq.to_string()).collect();
    assert_eq!(called, expected);
}

#[tokio::test(start_paused = true)]
async fn callbacks_can_be_added_and_removed_at_any_time() {
    let (mock, dial, conversation) = attached(2, |attach| attach).await;
    let (calls, mut called) = tokio::sync::mpsc::unbounded_channel();
    let say = |name: &'static str| {
        let calls = calls.clone();
        move |event: &oh_protocol::Event| {
            let _ = calls.send((name, event.id().to_owned()));
        }
    };
    let first = conversation.on_event(say("first"));
    append(&mock, &dial, 2).await;
    assert_eq!(called.recv().await.unwrap(), ("first", "2".into()));
    assert_eq!(called.recv().await.unwrap(), ("first", "3".into()));
    // This callback cancels itself during its first call.
    let own = std::sync::Arc::new(std::sync::Mutex::new(None::<oh_conversation::Subscription>));
    let once = conversation.on_event({
        let (own, say) = (own.clone(), say("once"));
        move |event| {
            say(event);
            if let Some(own) = own.lock().unwrap().take() {
                own.stop();
            }
        }
    });
    *own.lock().unwrap() = Some(once);
    first.cancel().await;
    append(&mock, &dial, 3).await;
    let mut all = conversation.subscribe(Cursor::Start);
    read(&mut all, 0..7).await;
    let late = conversation.on_event(say("late"));
    append(&mock, &dial, 1).await;
    let mut seen = vec![called.recv().await.unwrap(), called.recv().await.unwrap()];
    seen.sort();
    assert_eq!(seen, [("late", "7".into()), ("once", "4".into())]);
    late.cancel().await;
    conversation.close().await.unwrap();
    assert!(called.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_a_stream_from_now_during_an_outage_is_after_the_history() {
    let (mock, mut dials) = Mock::new();
    mock.append("New", &json!({}));
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap();
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    let dial = soon(dials.recv()).await.unwrap();
    until(|| conversation.link().status() != LinkStatus::Live).await;
    append_unsent(&mock, 5);
    let mut stream = conversation.subscribe(Cursor::Now);
    sleep(Duration::from_secs(1)).await;
    dial.welcome(&mock, "idle").await.unwrap();
    until(|| conversation.events().len() == 6).await;
    let nothing = timeout(Duration::from_secs(5), stream.next()).await;
    assert!(nothing.is_err(), "nothing is new: {nothing:?}");
    assert_eq!(stream.cursor(), Cursor::After(5));
    append(&mock, &dial, 1).await;
    let event = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!((event.id(), stream.cursor()), ("6", Cursor::After(6)));
}

#[tokio::test(start_paused = true)]
async fn ready_waits_for_an_event_that_a_live_link_has_not_delivered() {
    let (mock, _dial, conversation) = attached(3, |attach| attach).await;
    append_unsent(&mock, 1);
    soon(conversation.ready()).await.unwrap();
    assert_eq!(conversation.events().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn usage_changes_begin_with_the_current_usage_and_omit_other_changes() {
    let (mock, dial, conversation) = attached(1, |attach| attach).await;
    let mut changes = conversation.usage().changes();
    let first = soon(changes.next()).await.unwrap();
    assert_eq!(first.cost(), Some(0.5), "the usage of the snapshot");
    mock.tell(&dial, "running").await;
    append(&mock, &dial, 1).await;
    let same = timeout(Duration::from_secs(5), changes.next()).await;
    assert!(same.is_err(), "the usage is the same: {same:?}");
    state(&dial, "running", stats(0.75)).await;
    assert_eq!(soon(changes.next()).await.unwrap().cost(), Some(0.75));
    conversation.close().await.unwrap();
    assert!(soon(changes.next()).await.is_none());
    assert_eq!(conversation.usage().current().cost(), Some(0.75));
}

/// Appends events that no socket shows.
fn append_unsent(mock: &Mock, count: usize) {
    for _ in 0..count {
        mock.append("New", &json!({}));
    }
}
