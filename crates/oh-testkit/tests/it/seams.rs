//! Tests of models and tools that a test plugs into the fake server.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use oh_protocol::ConversationId;
use oh_testkit::{
    FakeServer, Step,
    fake::{Observation, Tool, ToolRun},
    model::{Model, ModelRequest},
};
use serde_json::{Value, json};

use crate::fake::create;

/// Counts its calls by conversation.
#[derive(Default)]
struct Counter(Mutex<HashMap<ConversationId, u32>>);

impl Tool for Counter {
    fn run(&self, run: &ToolRun) -> Observation {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(run.conversation).or_default();
        *count += 1;
        Observation::text(format!("{} {}", run.arguments["what"], count))
    }
}

/// Calls the tool twice, and then repeats its last result.
#[derive(Default)]
struct Caller(AtomicUsize);

impl Model for Caller {
    fn answer(&self, request: &ModelRequest) -> Step {
        self.0.fetch_add(1, Ordering::Relaxed);
        match request.last_text() {
            done if done.ends_with(" 2") => Step::finish(done),
            _ => Step::call("counter", json!({"what": "sheep"})),
        }
    }
}

#[tokio::test]
async fn a_model_and_a_tool_of_the_test_drive_each_conversation() {
    let server = FakeServer::builder()
        .model(Caller::default())
        .custom_tool("counter", Counter::default());
    let server = server.start().await.unwrap();
    for _ in 0..2 {
        let tools = json!([{"name": "counter"}]);
        let agent = json!({"llm": {"model": "openai/m", "api_key": "k"}, "tools": tools});
        let id = create(&server, json!({"agent": agent})).await;
        let conversation = server.conversation(&id).unwrap();
        conversation.say("Count.");
        conversation.idle().await;
        assert_eq!(conversation.status(), "finished");
        let ran: Vec<_> = conversation
            .executed()
            .into_iter()
            .map(|ran| ran.tool)
            .collect();
        assert_eq!(ran, ["counter", "counter", "finish"]);
        let log = conversation.events();
        let last = log
            .iter()
            .rev()
            .find(|event| event.kind() == "ActionEvent")
            .unwrap();
        let action: Value = serde_json::from_str(last.as_json()).unwrap();
        assert_eq!(action["action"]["message"], "\"sheep\" 2");
    }
    server.verify().unwrap();
}

#[tokio::test]
async fn a_panic_in_a_model_is_reported() {
    fn no_answer(_: &ModelRequest) -> Step {
        panic!("no answer")
    }
    let server = FakeServer::builder()
        .model(no_answer)
        .start()
        .await
        .unwrap();
    let id = create(&server, Value::Null).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("Hello.");
    conversation.idle().await;
    assert_eq!(conversation.status(), "error");
    let report = server.verify().unwrap_err().to_string();
    assert!(report.contains("no answer"), "{report}");
}
