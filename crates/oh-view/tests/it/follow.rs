//! Following a conversation on a fake server.

use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};

use oh_conversation::{Conversation, Cursor, Error};
use oh_testkit::{FakeConversation, FakeServer};
use oh_view::{Live, Printer as _, Terminal, View, follow};
use serde_json::{Value, json};

use crate::screen::Screen;

fn live(screen: &Screen) -> Live<Screen> {
    Live::new(Terminal::new(screen.clone(), View::new()), screen.size())
}

/// Creates a conversation with two messages, and attaches to it.
async fn attached(server: &FakeServer) -> (FakeConversation, Conversation) {
    let fake = server.create();
    for text in ["Past one.", "Past two."] {
        fake.log("agent", "MessageEvent", said(text));
    }
    let client = server.client().unwrap();
    let conversation = Conversation::attach(&client, fake.id()).await.unwrap();
    (fake, conversation)
}

fn said(text: &str) -> Value {
    json!({"llm_message": {"role": "assistant", "content": [{"type": "text", "text": text}]}})
}

/// Waits until a line of the screen is the text.
async fn shows(screen: &Screen, text: &str) {
    let shown = async {
        while !screen.lines().iter().any(|line| line.trim() == text) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
    assert!(shown.is_ok(), "no {text} in {:?}", screen.lines());
}

#[tokio::test]
async fn past_and_new_events_are_printed_once_and_tokens_are_shown_in_between() {
    let server = FakeServer::start().await.unwrap();
    let (fake, conversation) = attached(&server).await;
    let screen = Screen::new(80, 24);
    let shown = follow(&conversation, Cursor::Start, live(&screen));
    shows(&screen, "Past two.").await;
    fake.frame(&json!({"type": "item_started", "item_id": "m", "attempt": 0}));
    fake.frame(
        &json!({"type": "delta", "item_id": "m", "attempt": 0, "order": 0,
        "kind": "text", "content": "New text is "}),
    );
    shows(&screen, "New text is").await;
    shown.hide().unwrap();
    assert!(!screen.lines().concat().contains("New text is"));
    fake.log("agent", "MessageEvent", said("New text is complete."));
    fake.log("agent", "MessageEvent", said("The end."));
    shows(&screen, "The end.").await;
    shown.show().unwrap();
    let events = conversation.events();
    conversation.close().await.unwrap();
    shown.await.unwrap();
    let mut terminal = Terminal::new(Vec::new(), View::new());
    for event in events.iter() {
        terminal.print(event).unwrap();
    }
    let printed = String::from_utf8(terminal.into_inner()).unwrap();
    assert!(printed.contains("Past one.") && printed.contains("The end."));
    assert_eq!(screen.lines(), printed.lines().collect::<Vec<_>>());
}

#[tokio::test]
async fn following_from_now_omits_past_events_and_keeps_no_conversation_open() {
    let server = FakeServer::start().await.unwrap();
    let (fake, conversation) = attached(&server).await;
    let screen = Screen::new(80, 24);
    let shown = follow(&conversation, Cursor::Now, live(&screen));
    fake.log("agent", "MessageEvent", said("New."));
    shows(&screen, "New.").await;
    assert_eq!(screen.lines().len(), 2);
    drop(conversation);
    shown.await.unwrap();
}

#[tokio::test]
async fn dropping_removes_the_area_and_ends_the_output() {
    let server = FakeServer::start().await.unwrap();
    let (fake, conversation) = attached(&server).await;
    let screen = Screen::new(80, 24);
    let shown = follow(&conversation, Cursor::Now, live(&screen));
    fake.set_status("running");
    let waits = async {
        while screen.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waits)
        .await
        .unwrap();
    drop(shown);
    assert!(screen.lines().is_empty(), "{:?}", screen.lines());
    // Another reader gets an event, but this one is over.
    let other = Screen::new(80, 24);
    let shown = follow(&conversation, Cursor::Now, live(&other));
    fake.log("agent", "MessageEvent", said("New."));
    shows(&other, "New.").await;
    assert!(screen.lines().is_empty(), "{:?}", screen.lines());
    drop(shown);
}

#[tokio::test]
async fn the_error_of_the_output_or_of_the_link_is_returned() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = FakeServer::start().await.unwrap();
    let (fake, conversation) = attached(&server).await;
    let full = Live::new(Terminal::new(Full, View::new()), || None);
    let error = follow(&conversation, Cursor::Start, full)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);

    let screen = Screen::new(80, 24);
    let shown = follow(&conversation, Cursor::Start, live(&screen));
    fake.delete();
    fake.cut_sockets();
    let error = shown.await.unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(error.kind(), oh_conversation::ErrorKind::Gone);
    assert_eq!(screen.lines().len(), 4);
}
