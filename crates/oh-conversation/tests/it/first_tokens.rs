//! Tests of tokens from the first one on: the first message is held back until the conversation is
//! connected, and is sent exactly once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{
    Bulk, Conversation, ConversationBuilder, ErrorKind, LinkStatus, Origin, Token, TokenStream,
};
use oh_protocol::{
    ConversationId,
    config::{Agent, InitialMessage, Llm},
};
use oh_testkit::{FakeServer, Fault, Script};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::mock::Place;

const ANSWER: &str = "One two three.";
const MESSAGES: &str = "/api/conversations/{conversation_id}/events";
const RUNS: &str = "/api/conversations/{conversation_id}/run";

type Seen = Arc<Mutex<Vec<Token>>>;

async fn server() -> FakeServer {
    let script = Script::new().forever(|s| s.text(ANSWER));
    FakeServer::builder().script(script).start().await.unwrap()
}

fn builder(server: &FakeServer, id: ConversationId) -> ConversationBuilder {
    let agent = Agent::new(Llm::new("m").api_key("k").stream(true));
    Conversation::builder(&Place(server.client().unwrap()), agent)
        .id(id)
        .unchecked_tools()
        .initial_message("Begin.")
}

/// Returns a token callback and the tokens that it has received.
fn callback() -> (impl FnMut(&Token) + Send + 'static, Seen) {
    let seen = Seen::default();
    let sees = seen.clone();
    let callback = move |token: &Token| sees.lock().unwrap().push(token.clone());
    (callback, seen)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.unwrap()
}

/// Checks that the tokens are the whole answer, from its start to its end.
fn is_whole(tokens: &[Token]) -> bool {
    let pieces: String = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Text { content, .. } => Some(&**content),
            _ => None,
        })
        .collect();
    let ends = matches!(tokens.last(), Some(Token::Finished { .. }));
    matches!(tokens.first(), Some(Token::Started { .. })) && pieces == ANSWER && ends
}

/// Waits until a callback has received the whole answer.
async fn whole(seen: &Seen) {
    soon(async {
        while !is_whole(&seen.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Reads until an item is complete.
async fn item(tokens: &mut TokenStream) -> Vec<Token> {
    let mut all = Vec::new();
    while !matches!(all.last(), Some(Token::Finished { .. })) {
        all.push(soon(tokens.next()).await.unwrap());
    }
    all
}

/// Returns the texts of the user messages in the server's log.
fn said(server: &FakeServer, id: ConversationId) -> Vec<String> {
    let events = server.conversation(id).unwrap().events();
    let events = events
        .iter()
        .filter(|event| event.kind() == "MessageEvent" && event.source().as_str() == "user");
    events
        .map(|event| {
            let event: Value = serde_json::from_str(event.as_json()).unwrap();
            event["llm_message"]["content"][0]["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_token_callback_receives_the_first_run_from_its_first_token_on() {
    let server = server().await;
    let id = ConversationId::random();
    let (callback, seen) = callback();
    let conversation = soon(builder(&server, id).on_token(callback).start())
        .await
        .unwrap();
    assert_eq!(conversation.origin(), &Origin::Created);
    let ended = soon(conversation.join()).await.unwrap();
    assert!(ended.is_finished(), "{ended}");
    whole(&seen).await;
    let created = &server.requests_to("POST", "/api/conversations")[0];
    assert!(
        created.json().get("initial_message").is_none(),
        "{:?}",
        created.json()
    );
    assert!(created.json()["tags"]["firstmessage"].is_string());
    assert_eq!(server.requests_to("POST", MESSAGES).len(), 1);
    assert_eq!(server.requests_to("POST", RUNS).len(), 1);
    assert_eq!(said(&server, id), ["Begin."]);
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn a_stream_of_tokens_starts_with_the_first_run_on_both_sockets() {
    for legacy in [false, true] {
        let script = Script::new().forever(|s| s.text(ANSWER));
        let server = FakeServer::builder().script(script);
        let server = match legacy {
            true => server.version("1.43.1").without_session_socket(),
            false => server,
        };
        let server = server.start().await.unwrap();
        let started = builder(&server, ConversationId::random()).start_with_tokens();
        let (conversation, mut tokens) = soon(started).await.unwrap();
        match legacy {
            // The legacy socket reports no starts, and an event may overtake its pieces.
            true => {
                let mut pieces = String::new();
                while pieces != ANSWER {
                    if let Token::Text { content, .. } = soon(tokens.next()).await.unwrap() {
                        pieces.push_str(&content);
                    }
                }
            }
            false => {
                let all = item(&mut tokens).await;
                assert!(is_whole(&all), "{all:?}");
            }
        }
        assert!(soon(conversation.join()).await.unwrap().is_finished());
        conversation.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_first_message_fails_the_start_and_the_next_start_sends_it_once() {
    let server = server().await;
    let id = ConversationId::random();
    // First, neither the message nor its run arrives. Then only the run is rejected.
    server.inject(Fault::status(400).on(MESSAGES).method("POST").times(1));
    server.inject(Fault::status(400).on(RUNS).method("POST").times(1));
    for (sent, failed) in [(0, "cannot send a message"), (1, "the message was saved")] {
        let (callback, _) = callback();
        let error = soon(builder(&server, id).on_token(callback).start())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        assert_eq!(error.conversation_id(), Some(id));
        let text = error.to_string();
        assert!(
            text.starts_with("the conversation was created, but its first message"),
            "{text}"
        );
        assert!(
            text.contains(failed) && text.contains(&id.to_string()),
            "{text}"
        );
        assert_eq!(said(&server, id).len(), sent);
    }
    let (callback, seen) = callback();
    let conversation = soon(builder(&server, id).on_token(callback).start())
        .await
        .unwrap();
    assert!(soon(conversation.join()).await.unwrap().is_finished());
    whole(&seen).await;
    // Another start finds the message and its run.
    let again = soon(builder(&server, id).start_with_tokens())
        .await
        .unwrap();
    assert_eq!(said(&server, id), ["Begin."]);
    let ran = server.requests_to("POST", RUNS).len();
    assert_eq!(ran, 2, "a rejected request, and a run");
    again.0.close().await.unwrap();
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn the_first_message_is_sent_once_although_each_response_is_lost_in_turn() {
    for route in ["/api/conversations", MESSAGES, RUNS] {
        let server = server().await;
        let id = ConversationId::random();
        server.inject(Fault::lost_answer().on(route).method("POST").times(1));
        let (callback, seen) = callback();
        let conversation = soon(builder(&server, id).on_token(callback).start())
            .await
            .unwrap();
        let ended = soon(conversation.join()).await.unwrap();
        assert!(ended.is_finished(), "{route}: {ended}");
        whole(&seen).await;
        assert_eq!(said(&server, id), ["Begin."], "{route}");
        conversation.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_conversation_of_another_program_receives_no_first_message() {
    let server = server().await;
    let other = server.create();
    let (callback, _) = callback();
    let started = builder(&server, other.id()).on_token(callback).start();
    let conversation = soon(started).await.unwrap();
    assert!(matches!(conversation.origin(), Origin::Found(_)));
    assert!(server.requests_to("POST", MESSAGES).is_empty());
    assert!(server.requests_to("POST", RUNS).is_empty());
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn without_sockets_the_first_message_is_sent_and_answered() {
    let server = server().await;
    server.inject(Fault::status(403).on("/sockets/"));
    let id = ConversationId::random();
    let started = builder(&server, id).start_with_tokens();
    let (conversation, _tokens) = soon(started).await.unwrap();
    assert_eq!(conversation.link().status(), LinkStatus::Polling);
    let ended = soon(conversation.join()).await.unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(said(&server, id), ["Begin."]);
    conversation.close().await.unwrap();
}

#[tokio::test]
async fn a_first_message_that_cannot_be_sent_later_is_rejected_before_anything_is_sent() {
    let server = server().await;
    let parts = json!({"role": "user", "content": [{"type": "video"}]});
    for (message, named) in [
        (
            InitialMessage::new("Begin.").role("system"),
            "initial_message.role",
        ),
        (
            InitialMessage::new(" "),
            "initial_message: must not be empty",
        ),
        (
            InitialMessage::from_json(parts).unwrap(),
            "initial_message.content",
        ),
    ] {
        let builder = builder(&server, ConversationId::random()).initial_message(message);
        let error = soon(builder.start_with_tokens()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(server.requests_to("POST", "/api/conversations").is_empty());
}

#[tokio::test]
async fn a_batch_waits_for_a_full_server_after_a_first_message() {
    let server = server().await;
    server.inject(Fault::status(429).on(RUNS).method("POST").times(1));
    let (callback, seen) = callback();
    let builder = builder(&server, ConversationId::random()).on_token(callback);
    let mut results = Bulk::new().start(builder, "And more.").run();
    let result = soon(results.next()).await.unwrap();
    assert!(result.outcome.unwrap().is_finished());
    assert_eq!(said(&server, result.id), ["Begin.", "And more."]);
    whole(&seen).await;
}

#[tokio::test]
async fn a_close_passes_received_tokens_to_their_callback_and_ends_it() {
    let server = server().await;
    let (mut callback, seen) = callback();
    let dropped = Arc::new(());
    let held = dropped.clone();
    let builder = builder(&server, ConversationId::random()).on_token(move |token| {
        let _ = &held;
        callback(token);
        assert!(
            !matches!(token, Token::Started { .. }),
            "a panic is only logged"
        );
    });
    let conversation = soon(builder.start()).await.unwrap();
    let subscription = conversation.on_token(|_| ());
    assert!(soon(conversation.join()).await.unwrap().is_finished());
    subscription.cancel().await;
    conversation.close().await.unwrap();
    assert_eq!(Arc::strong_count(&dropped), 1, "the callback has ended");
    assert!(is_whole(&seen.lock().unwrap()), "{seen:?}");
}
