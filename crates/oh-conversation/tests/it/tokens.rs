//! Tests of streamed text on both kinds of socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oh_conversation::{Conversation, Token, TokenStream};
use oh_testkit::FakeServer;
use oh_transport::{Client, Error, ErrorKind};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::mock::{Dial, Mock, attached, full_state, soon};

async fn frame(dial: &Dial, frame: &Value) {
    dial.peer.text(frame.to_string()).await.unwrap();
}

fn delta(item: &str, attempt: u64, kind: &str, content: &str) -> Value {
    json!({"type": "delta", "item_id": item, "attempt": attempt, "order": 0, "kind": kind,
        "content": content})
}

fn text(item: &str, attempt: u64, content: &str) -> Token {
    Token::Text {
        item_id: item.into(),
        attempt,
        content: content.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_replaces_received_pieces_and_the_finished_event_closes_the_item() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    let mut tokens = conversation.tokens();
    frame(
        &dial,
        &json!({"type": "item_started", "item_id": "0", "attempt": 1}),
    )
    .await;
    frame(&dial, &delta("0", 1, "reasoning", "Hm.")).await;
    frame(&dial, &delta("0", 1, "text", "Hal")).await;
    frame(
        &dial,
        &json!({"type": "item_aborted", "item_id": "0", "attempt": 1, "reason": "retry"}),
    )
    .await;
    frame(
        &dial,
        &json!({"type": "item_started", "item_id": "0", "attempt": 2}),
    )
    .await;
    frame(&dial, &delta("0", 2, "text", "Hello.")).await;
    let message = json!({"llm_message": {"role": "assistant",
        "content": [{"type": "text", "text": "Hello."}]}});
    let (seq, event) = mock.append("MessageEvent", &message);
    dial.durable(seq, &event).await.unwrap();
    let item = || "0".into();
    let expected = [
        Token::Started {
            item_id: item(),
            attempt: 1,
        },
        Token::Reasoning {
            item_id: item(),
            attempt: 1,
            content: "Hm.".into(),
        },
        text("0", 1, "Hal"),
        Token::Aborted {
            item_id: item(),
            attempt: 1,
        },
        Token::Started {
            item_id: item(),
            attempt: 2,
        },
        text("0", 2, "Hello."),
        Token::Finished { item_id: item() },
    ];
    for token in expected {
        assert_eq!(soon(tokens.next()).await.unwrap(), token);
    }
    // Only the event is kept, not the tokens.
    assert_eq!(conversation.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_many_pieces_lets_other_tasks_run() {
    let (_mock, _dials, dial, conversation) = attached("running").await;
    let mut tokens = conversation.tokens();
    let mut last = conversation.tokens();
    let pieces = 500;
    for n in 1..=pieces {
        frame(&dial, &delta("0", 1, "text", &n.to_string())).await;
    }
    // Afterwards all pieces are in the queue of the other reader too.
    while soon(last.next()).await.unwrap() != text("0", 1, "500") {}
    let read = Arc::new(AtomicUsize::new(0));
    let reading = tokio::spawn({
        let read = read.clone();
        async move {
            while read.load(Ordering::Relaxed) < pieces {
                tokens.next().await.unwrap();
                read.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    tokio::task::yield_now().await;
    let first = read.load(Ordering::Relaxed);
    assert!(first > 0 && first < pieces, "{first}");
    soon(reading).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pieces_arrive_while_history_is_replayed() {
    let (mock, mut dials, dial, conversation) = attached("running").await;
    let mut tokens = conversation.tokens();
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    for n in 0..3 {
        mock.append("PauseEvent", &json!({ "n": n }));
    }
    let dial = soon(dials.recv()).await.unwrap();
    dial.sync(Some(2)).await.unwrap();
    dial.durable(0, &mock.event(0)).await.unwrap();
    frame(&dial, &delta("x", 1, "text", "live")).await;
    for seq in [1, 2] {
        dial.durable(seq, &mock.event(seq)).await.unwrap();
    }
    assert_eq!(soon(tokens.next()).await.unwrap(), text("x", 1, "live"));
    while conversation.events().len() < 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_legacy_socket_gives_the_same_type() {
    let (mock, mut dials) = Mock::new();
    mock.set_version("1.43.1");
    mock.refuse(Error::new(ErrorKind::Forbidden, "no such path"));
    let attaching = tokio::spawn({
        let mock = mock.clone();
        async move { mock.attach().await.unwrap() }
    });
    let dial = soon(dials.recv()).await.unwrap();
    assert!(dial.target.contains("/sockets/events/"), "{}", dial.target);
    frame(&dial, &full_state("running")).await;
    let conversation = soon(attaching).await.unwrap();
    let mut tokens = conversation.tokens();
    for (reasoning, content) in [("Hm.", ""), ("", "Hel"), ("", "lo.")] {
        let delta = json!({"kind": "StreamingDeltaEvent", "id": "d", "source": "agent",
            "content": content, "reasoning_content": reasoning});
        frame(&dial, &delta).await;
    }
    let message = json!({"llm_message": {"role": "assistant",
        "content": [{"type": "text", "text": "Hello."}]}});
    let (_, event) = mock.append("MessageEvent", &message);
    dial.peer.text(event).await.unwrap();
    let reasoning = Token::Reasoning {
        item_id: "".into(),
        attempt: 0,
        content: "Hm.".into(),
    };
    for token in [
        reasoning,
        text("", 0, "Hel"),
        text("", 0, "lo."),
        Token::Finished {
            item_id: "0".into(),
        },
    ] {
        assert_eq!(soon(tokens.next()).await.unwrap(), token);
    }
}

fn said(text: &str) -> Value {
    json!({"llm_message": {"role": "assistant", "content": [{"type": "text", "text": text}]}})
}

/// Reads the rest of the stream.
async fn rest(mut tokens: TokenStream) -> Vec<Token> {
    let mut all = Vec::new();
    while let Some(token) = soon(tokens.next()).await {
        all.push(token);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn token_streams_end_with_a_close_even_if_created_later() {
    let (_mock, _dials, _dial, conversation) = attached("running").await;
    let tokens = conversation.tokens();
    conversation.close().await.unwrap();
    assert_eq!(rest(tokens).await, []);
    assert_eq!(rest(conversation.tokens()).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_token_stream_ends_with_the_last_handle() {
    let (_mock, _dials, _dial, conversation) = attached("running").await;
    let tokens = conversation.tokens();
    drop(conversation);
    assert_eq!(rest(tokens).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_token_stream_delivers_received_pieces_and_ends_with_a_deleted_conversation() {
    let (mock, mut dials, dial, conversation) = attached("running").await;
    let tokens = conversation.tokens();
    frame(&dial, &delta("x", 1, "text", "Hal")).await;
    mock.delete();
    let server = tokio::spawn(async move {
        let _ = dial.peer.end(Error::closed(4004, "")).await;
        while let Some(dial) = dials.recv().await {
            let _ = dial.peer.end(Error::closed(4004, "")).await;
        }
    });
    assert_eq!(rest(tokens).await, [text("x", 1, "Hal")]);
    assert_eq!(rest(conversation.tokens()).await, []);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_stream_ends_when_the_session_key_is_rejected() {
    let (_mock, _dials, dial, conversation) = attached("running").await;
    let tokens = conversation.tokens();
    dial.peer.end(Error::closed(4001, "")).await.unwrap();
    assert_eq!(rest(tokens).await, []);
    drop(conversation);
}

#[tokio::test(start_paused = true)]
async fn a_reader_too_slow_for_1500_pieces_gets_a_lag_marker_and_the_finished_event() {
    let (mock, _dials, dial, conversation) = attached("running").await;
    let mut slow = conversation.tokens();
    frame(
        &dial,
        &json!({"type": "item_started", "item_id": "0", "attempt": 1}),
    )
    .await;
    for _ in 0..1500 {
        frame(&dial, &delta("0", 1, "text", "x")).await;
    }
    let (seq, event) = mock.append("MessageEvent", &said(&"x".repeat(1500)));
    dial.durable(seq, &event).await.unwrap();
    while conversation.events().is_empty() {
        tokio::task::yield_now().await;
    }
    let item_id = || "0".into();
    let expected = [
        Token::Started {
            item_id: item_id(),
            attempt: 1,
        },
        Token::Lagged { item_id: item_id() },
        Token::Finished { item_id: item_id() },
    ];
    for token in expected {
        assert_eq!(soon(slow.next()).await.unwrap(), token);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_finished_during_a_cut_is_reported_once() {
    let (mock, mut dials, dial, conversation) = attached("running").await;
    let tokens = conversation.tokens();
    dial.peer.end(Error::closed(1012, "")).await.unwrap();
    mock.append("MessageEvent", &said("Meanwhile."));
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "running").await.unwrap();
    dial.durable(0, &mock.event(0)).await.unwrap();
    while conversation.events().is_empty() {
        tokio::task::yield_now().await;
    }
    conversation.close().await.unwrap();
    let item_id = "0".into();
    assert_eq!(rest(tokens).await, [Token::Finished { item_id }]);
}

/// Attaches ten times to a conversation with a history.
async fn ten_attaches(server: FakeServer) {
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()
        .unwrap();
    let fake = server.create();
    fake.fill(50, 500).await;
    for _ in 0..10 {
        let conversation = Conversation::attach(&client, fake.id()).await.unwrap();
        let mut tokens = conversation.tokens();
        let item_id = fake.log("agent", "MessageEvent", said("New.")).into();
        let first = timeout(Duration::from_secs(60), tokens.next()).await;
        assert_eq!(first.unwrap(), Some(Token::Finished { item_id }));
        conversation.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_is_on_the_token_streams_of_ten_attaches() {
    ten_attaches(FakeServer::start().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_history_is_on_the_token_streams_of_ten_attaches_to_the_legacy_socket() {
    let server = FakeServer::builder().without_session_socket();
    ten_attaches(server.start().await.unwrap()).await;
}
