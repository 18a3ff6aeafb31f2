//! A message is sent once.

use oh_control::ErrorKind;
use oh_protocol::Event;
use oh_testkit::Fault;

use crate::{created, server};

const EVENTS: &str = "/api/conversations/{conversation_id}/events";

#[tokio::test]
async fn a_message_is_saved_and_starts_nothing() {
    let (server, control) = server().await;
    let (id, conversation) = created(&server, &control).await;
    control.send(id, "Hello").await.unwrap();
    assert_eq!(conversation.status(), "idle");
    let events = conversation.events();
    let said = events
        .iter()
        .filter(|event| event.as_json().contains("Hello"));
    assert_eq!(said.map(Event::kind).collect::<Vec<_>>(), ["MessageEvent"]);
    let error = control.send(id, " \n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(server.requests_to("POST", EVENTS).len(), 1);
}

#[tokio::test]
async fn a_message_with_a_lost_response_is_found_and_not_sent_again() {
    let (server, control) = server().await;
    let (id, conversation) = created(&server, &control).await;
    control.send(id, "Hello").await.unwrap();
    server.inject(Fault::lost_answer().method("POST").on("/events").times(1));
    control.send(id, "Hello").await.unwrap();
    let messages = conversation.events();
    let messages = messages
        .iter()
        .filter(|event| event.kind() == "MessageEvent");
    assert_eq!(messages.count(), 2);
}

#[tokio::test]
async fn an_older_message_with_the_same_text_does_not_count() {
    let (server, control) = server().await;
    let (id, _conversation) = created(&server, &control).await;
    control.send(id, "Hello").await.unwrap();
    // A gateway gives up, and the server has not received the message.
    server.inject(Fault::html(504).method("POST").on("/events").times(1));
    server.forget_requests();
    let error = control.send(id, "Hello").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    assert!(!error.to_string().contains("Hello"), "{error}");
    assert_eq!(server.requests_to("POST", EVENTS).len(), 1);
}
