//! Tests of links whose sockets are refused, or get no response.

use std::time::Duration;

use oh_conversation::{Cursor, LinkStatus};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    links::{ids, places, until},
    mock::{Mock, soon},
};

#[tokio::test(start_paused = true)]
async fn without_sockets_events_are_read_by_rest_and_a_run_ends_with_all_of_them() {
    without_sockets(Mock::refuse_upgrades).await;
}

#[tokio::test(start_paused = true)]
async fn while_handshakes_get_no_response_events_are_read_by_rest_and_a_run_ends_with_all_of_them()
{
    without_sockets(Mock::swallow_dials).await;
}

async fn without_sockets(prepare: impl FnOnce(&Mock)) {
    let (mock, mut dials) = Mock::new();
    prepare(&mock);
    mock.append("New", &json!({}));
    let begun = Instant::now();
    let conversation = soon(mock.attach()).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "attached after {took:?}");
    assert_eq!(conversation.events().len(), 1);
    until(|| conversation.link().status() == LinkStatus::Polling).await;
    assert!(conversation.link().last_error().is_some(), "it says why");
    let mut live = conversation.subscribe(Cursor::Now);
    let running = tokio::spawn(conversation.run().into_future());
    until(|| mock.seen("POST /run") == 1).await;
    let status = |value: &str| json!({"key": "execution_status", "value": value});
    mock.append("ConversationStateUpdateEvent", &status("running"));
    mock.set_status("running");
    sleep(Duration::from_secs(30)).await;
    for _ in 0..20 {
        mock.append("New", &json!({}));
    }
    mock.append("ConversationStateUpdateEvent", &status("finished"));
    mock.set_status("finished");
    let outcome = soon(running).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert_eq!(outcome.events(), 22);
    assert_eq!(ids(&conversation, 23).await, places(23));
    for place in 1..23 {
        let event = soon(live.next()).await.unwrap().unwrap();
        assert_eq!(event.id(), place.to_string());
    }
    assert_eq!(mock.seen("POST /run"), 1);
    assert!(dials.try_recv().is_err());
}
