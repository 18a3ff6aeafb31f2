//! Streams text while the model writes it, on either socket and with the same type.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use openhands::{
    Agent, Conversation, LocalServer, RunOutcome,
    conversation::{Result, Token, TokenStream},
    protocol::config::AcpAgent,
    testkit::{Gate, Script, ScriptedModel, Step},
};
use tokio::{
    sync::mpsc::unbounded_channel,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{LONG, finishes, is_old, llm, messages, model, next, workspace};

const WORDS: &str = "One two three four five six seven eight nine ten eleven twelve.";
const DRIP: Duration = Duration::from_millis(60);

/// Text and reasoning by attempt that arrived before an item was complete, whether an attempt was
/// discarded, and the item.
#[derive(Debug, Default)]
struct Typed {
    text: BTreeMap<u64, String>,
    reasoning: BTreeMap<u64, String>,
    started: Vec<u64>,
    item: String,
}

/// Reads until the item of this event is complete.
async fn typed(tokens: &mut TokenStream, event: &str) -> Typed {
    let mut typed = Typed::default();
    let is_of = |item: &str| item.is_empty() || item == event;
    loop {
        match next(tokens).await.unwrap() {
            Token::Started { item_id, attempt } if is_of(&item_id) => typed.started.push(attempt),
            Token::Text {
                item_id,
                attempt,
                content,
            } if is_of(&item_id) => typed.text.entry(attempt).or_default().push_str(&content),
            Token::Reasoning {
                item_id,
                attempt,
                content,
            } if is_of(&item_id) => typed
                .reasoning
                .entry(attempt)
                .or_default()
                .push_str(&content),
            Token::Finished { item_id } if &*item_id == event => {
                typed.item = item_id.into();
                return typed;
            }
            _ => {}
        }
    }
}

/// Returns the id of the agent's last message.
fn said(conversation: &Conversation) -> String {
    let events = conversation.events();
    let last = events.of_kind("MessageEvent").next_back().unwrap();
    last.id().to_owned()
}

/// Waits until the model has received `times` requests from the running task.
async fn asked<T: Debug>(model: &ScriptedModel, times: usize, running: &JoinHandle<T>) {
    while model.requests().len() < times {
        assert!(!running.is_finished(), "{:?}", model.requests());
        sleep(Duration::from_millis(10)).await;
    }
}

fn runs(conversation: &Conversation) -> JoinHandle<Result<RunOutcome>> {
    let conversation = conversation.clone();
    tokio::spawn(async move { conversation.run().await })
}

pub(super) async fn text_is_seen_as_it_is_written(server: &LocalServer) {
    let gate = Gate::new();
    let step = Step::text(WORDS).think("Let me see.").drip(DRIP);
    let script = Script::new()
        .step(Step::text("First.").think("Hm, hm."))
        .step(step.hold(&gate));
    let model = model(script).await;
    let agent = Agent::default_preset(llm(&model).stream(true)).cli_mode(true);
    let conversation = Conversation::builder(&workspace(server), agent)
        .start()
        .await
        .unwrap();
    let mut tokens = conversation.tokens();
    conversation.send("Begin.").await.unwrap();
    finishes(&conversation).await;
    let first = typed(&mut tokens, &said(&conversation)).await;
    assert_eq!(first.text.values().next().unwrap(), "First.");
    assert_eq!(first.reasoning.values().next().unwrap(), "Hm, hm.");
    // A client that attaches during the request sees everything written from then on.
    conversation.send("Count.").await.unwrap();
    let running = runs(&conversation);
    asked(&model, 2, &running).await;
    // On an older server, a client can only attach after the answer is complete. A newer one must
    // not complete the answer before.
    if is_old(server).await {
        gate.open();
    }
    let late = Conversation::attach(server.client(), conversation.id())
        .await
        .unwrap();
    let mut late_tokens = late.tokens();
    gate.open();
    let ended = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    let event = said(&conversation);
    let second = typed(&mut tokens, &event).await;
    assert_eq!(second.text.values().next().unwrap(), WORDS);
    assert_eq!(second.reasoning.values().next().unwrap(), "Let me see.");
    let later = typed(&mut late_tokens, &event).await;
    let rest = later.text.values().next();
    assert!(rest.is_some() || is_old(server).await, "{later:?}");
    assert!(rest.is_none_or(|rest| WORDS.ends_with(rest)), "{rest:?}");
    assert_eq!(second.item, later.item);
    late.close().await.unwrap();
    conversation.delete().await.unwrap();
}

pub(super) async fn the_first_message_is_seen_from_its_first_token_on(server: &LocalServer) {
    let step = || Step::text(WORDS).drip(DRIP);
    let model = model(Script::new().step(step()).step(step())).await;
    let agent = || Agent::default_preset(llm(&model).stream(true)).cli_mode(true);
    let builder = || {
        let builder = Conversation::builder(&workspace(server), agent());
        builder.initial_message("Count.")
    };
    let (conversation, mut tokens) = builder().start_with_tokens().await.unwrap();
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    let typed = typed(&mut tokens, &said(&conversation)).await;
    assert_eq!(typed.text.values().next().unwrap(), WORDS);
    if !is_old(server).await {
        assert_eq!(typed.started.len(), 1, "{typed:?}");
    }
    assert_eq!(messages(&conversation.events()), ["Count.", WORDS]);
    conversation.delete().await.unwrap();

    let (pieces, mut received) = unbounded_channel();
    let conversation = builder().on_token(move |token| {
        if let Token::Text { content, .. } = token {
            _ = pieces.send(content.clone());
        }
    });
    let conversation = conversation.start().await.unwrap();
    let first = timeout(LONG, received.recv()).await.unwrap().unwrap();
    assert!(first.starts_with("One"), "{first}");
    let mut text = String::from(first);
    while text != WORDS {
        text.push_str(&timeout(LONG, received.recv()).await.unwrap().unwrap());
        assert!(WORDS.starts_with(&text), "{text}");
    }
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(messages(&conversation.events()), ["Count.", WORDS]);
    conversation.delete().await.unwrap();
    assert_eq!(model.requests().len(), 2, "each message was answered once");
}

pub(super) async fn a_retry_replaces_what_was_written(server: &LocalServer) {
    // An agent whose answer breaks off: the server sends the prompt again.
    let agent = AcpAgent::new([env!("CARGO_BIN_EXE_acp_agent")]);
    let conversation = Conversation::builder(&workspace(server), agent)
        .start()
        .await
        .unwrap();
    let mut tokens = conversation.tokens();
    conversation
        .send("Say who you are, but stumble.")
        .await
        .unwrap();
    finishes(&conversation).await;
    // The run ends with a finish action that the server itself creates.
    let events = conversation.events();
    let end = events.of_kind("ActionEvent").next_back().unwrap();
    let typed = typed(&mut tokens, end.id()).await;
    if is_old(server).await {
        // An older server reports neither the item nor the attempt, so the discarded text precedes
        // the rest.
        assert_eq!(typed.text[&0], "I am I am small.");
    } else {
        assert_eq!(typed.started, [1, 2]);
        assert_eq!(typed.text[&1], "I am ");
        assert_eq!(typed.text[&2], "I am small.");
    }
    conversation.delete().await.unwrap();
}
