//! Text as the model writes it, on either socket.

use oh_conversation::Token;
use oh_transport::{Error, ErrorKind};
use serde_json::{Value, json};

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
async fn a_retry_replaces_what_came_and_the_finished_event_closes() {
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
    // Nothing of it is kept but the event.
    assert_eq!(conversation.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pieces_come_while_history_is_replayed() {
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
