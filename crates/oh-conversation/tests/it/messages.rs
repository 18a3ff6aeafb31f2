//! The messages of errors: what failed, where, why, and what to do, each once.

use std::{error::Error as _, time::Duration};

use oh_conversation::{Conversation, Conversations, Error, ErrorKind, Secret};
use oh_protocol::{
    ConversationId,
    config::{Agent, Llm},
};
use oh_testkit::{FakeServer, Fault};
use oh_transport::Client;
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use crate::mock::{Mock, Place, attached, soon};

const LONG: Duration = Duration::from_secs(60);
const UNAUTHORIZED: &str = "the server returned 401 Unauthorized";
const WRONG_KEY: &str = "; the session key is wrong: pass the server's key to `session_api_key`";
const RULE: &str = "body.agent.llm.temperature: must be at most 2";

async fn attach_error(client: &Client, id: ConversationId) -> Error {
    let attaching = Conversation::attach(client, id).into_future();
    timeout(LONG, attaching).await.unwrap().unwrap_err()
}

/// Checks that the message has each of the texts once and in this order. Checks the same for a
/// program that prints only `Debug`, such as one that calls `unwrap`.
#[track_caller]
fn assert_says(error: &Error, texts: &[&str]) {
    let message = error.to_string();
    let mut rest = &*message;
    for text in texts {
        assert_eq!(message.matches(text).count(), 1, "{text:?} in {message:?}");
        let (_, after) = rest
            .split_once(text)
            .unwrap_or_else(|| panic!("{text:?} comes too early in {message:?}"));
        rest = after;
    }
    assert!(!message.ends_with('.'), "{message:?}");
    assert!(!message.contains(char::is_control), "{message:?}");
    let debug = format!("{error:?}");
    for text in texts {
        assert_eq!(debug.matches(text).count(), 1, "{text:?} in {debug}");
    }
}

#[tokio::test]
async fn a_rejected_session_key_is_the_reason() {
    let server = FakeServer::start().await.unwrap();
    let id = server.create().id();
    let client = Client::builder(server.url())
        .session_api_key("canary")
        .build()
        .unwrap();
    let place = format!("(conversation {id})");
    let error = attach_error(&client, id).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_says(&error, &["cannot attach", &place, UNAUTHORIZED, WRONG_KEY]);
    assert!(!format!("{error} {error:?}").contains("canary"));
    let error = Conversations::of(&client).count(None).await.unwrap_err();
    assert_says(
        &error,
        &["cannot count conversations: ", UNAUTHORIZED, WRONG_KEY],
    );
    let client = Client::builder(server.url()).build().unwrap();
    let error = attach_error(&client, id).await;
    let no_key = "; the client has no session key: set the server's with `session_api_key`";
    assert_says(&error, &[UNAUTHORIZED, no_key]);
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    let error = attach_error(&client, ConversationId::random()).await;
    assert_eq!(error.kind(), ErrorKind::Gone);
    let advice = "; check its id and the server's URL";
    assert_says(&error, &["the server returned 404 Not Found", advice]);
    let agent = Agent::new(Llm::new("m"));
    let client = Client::builder(server.url()).build().unwrap();
    let error = Conversation::builder(&Place(client), agent)
        .await
        .unwrap_err();
    assert_says(
        &error,
        &["cannot create the conversation (", UNAUTHORIZED, no_key],
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_key_that_is_rejected_later_is_the_reason_before_the_advice() {
    let (_mock, _dials, dial, conversation) = attached("idle").await;
    dial.peer
        .end(oh_transport::Error::closed(4001, ""))
        .await
        .unwrap();
    let mut links = conversation.link().changes();
    while soon(links.next()).await.is_some() {}
    let error = conversation.link().last_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_says(
        &error,
        &[
            "the server rejected the session key (conversation ",
            "): the server closed the socket with code 4001",
            "; set the server's session key with `session_api_key`",
        ],
    );
    assert!(error.transport_error().unwrap().is_auth());
}

#[tokio::test(start_paused = true)]
async fn the_rule_that_a_field_breaks_is_the_reason() {
    let (mock, _dials) = Mock::new();
    let entry = json!({"loc": ["body", "agent", "llm", "temperature"], "type": "less_than_equal",
        "msg": "must be at most 2"});
    mock.plan("/api/conversations", Ok((422, json!({"detail": [entry]}))));
    mock.plan(
        "/server_info",
        Ok((200, json!({"version": "1.58.2", "usable_tools": []}))),
    );
    let agent = Agent::new(Llm::new("m").api_key("canary"));
    let starting = Conversation::builder(&Place(mock.client()), agent).start();
    let error = soon(starting).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    assert_says(
        &error,
        &[
            "cannot create the conversation",
            "the server returned 422",
            RULE,
        ],
    );
    // A rule that this crate checks.
    let agent = Agent::new(Llm::new("m").temperature(-1.0));
    let starting = Conversation::builder(&Place(mock.client()), agent).start();
    let error = soon(starting).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_says(
        &error,
        &[
            "cannot create the conversation",
            "): ",
            "llm.temperature: must be",
        ],
    );
}

#[tokio::test]
async fn a_connection_that_fails_is_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::builder(format!("http://{address}"))
        .build()
        .unwrap();
    let error = attach_error(&client, ConversationId::random()).await;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_says(
        &error,
        &["cannot attach", &address.to_string(), "Connection refused"],
    );
}

#[tokio::test]
async fn a_lost_connection_is_the_reason_before_the_advice() {
    let server = FakeServer::start().await.unwrap();
    let made = server.create();
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    let attaching = Conversation::attach(&client, made.id()).into_future();
    let conversation = timeout(LONG, attaching).await.unwrap().unwrap();
    server.inject(
        Fault::lost_answer()
            .on("/api/conversations/{id}/fork")
            .times(1),
    );
    server.inject(
        Fault::status(404)
            .method("GET")
            .on("/api/conversations/{id}")
            .times(1),
    );
    let error = timeout(LONG, conversation.branches().fork().into_future());
    let error = error.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert_says(
        &error,
        &[
            "cannot tell whether the server created the fork (conversation ",
            "the connection ended before the response (",
            "/fork",
            "; check before you repeat the request",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_is_the_reason() {
    let (mock, _dials) = Mock::new();
    mock.slow_down("", Duration::from_secs(999));
    let client = mock.client();
    let error = soon(Conversations::of(&client).count(None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_says(
        &error,
        &[
            "cannot count conversations",
            "no successful response within 120s",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_nested_error_says_the_conversation_and_the_reason_once() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    for _ in 0..9 {
        mock.plan(
            "/run",
            Ok((403, json!({"detail": "no runs on\u{1b}[2J sundays"}))),
        );
    }
    let error = soon(conversation.send("Hello.").and_run().into_future())
        .await
        .unwrap_err();
    let place = format!("(conversation {})", mock.id);
    assert_says(
        &error,
        &[
            "the message was saved, but starting the run failed",
            &place,
            "cannot run: ",
            "the server returned 403 Forbidden",
            "no runs on\u{241b}[2J sundays",
        ],
    );
    assert_eq!(error.transport_error().unwrap().status().unwrap(), 403);
    let inner = error.source().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(inner.conversation_id(), Some(mock.id));
}

#[tokio::test(start_paused = true)]
async fn a_closures_error_is_the_reason_without_the_secrets_in_its_url() {
    let (_mock, _dials, _dial, conversation) = attached("idle").await;
    let failing = Secret::computed(|| async {
        Err::<String, _>("GET https://me:canary@vault/key?token=canary: the vault\nis shut")
    });
    let error = soon(conversation.secrets().set([("B", failing)]))
        .await
        .unwrap_err();
    assert_says(&error, &["the secret `B`", "): ", "the vault is shut"]);
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_long_reason_is_cut_before_the_advice() {
    let (mock, _dials, _dial, conversation) = attached("idle").await;
    let long = "x".repeat(100_000);
    mock.plan("/fork", Ok((400, json!({ "detail": long }))));
    let error = soon(conversation.branches().fork().into_future())
        .await
        .unwrap_err();
    assert_says(&error, &["cannot fork", "the server returned 400", "…"]);
    assert!(error.to_string().len() < 3000);
}
