//! Counts the requests of a conversation to the real server: none while it is idle, few while it
//! runs.

use std::{collections::BTreeMap, time::Duration};

use openhands::{
    Client, Conversation, WorkspaceExt,
    testkit::{Proxy, Script, ScriptedModel},
};
use serde_json::json;
use tokio::time::timeout;

use super::live::{LONG, agent};

/// How long an idle conversation is observed, and how long its command runs.
const IDLE: Duration = Duration::from_secs(40);
const RUNS: Duration = Duration::from_secs(60);

/// Returns how many requests were sent since the last call, by route.
fn asked(proxy: &Proxy) -> BTreeMap<String, usize> {
    let counts = proxy.request_counts();
    proxy.forget_requests();
    println!("{counts:?}");
    counts
}

#[tokio::test]
async fn soak_an_idle_conversation_sends_no_request_and_a_running_one_few() {
    let command = format!("sleep {}", RUNS.as_secs());
    let script = Script::new()
        .finish("Ready.")
        .call("terminal", json!({ "command": command, "timeout": 90 }))
        .finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    proxy.record();
    let client = Client::builder(proxy.url())
        .session_api_key(server.session_api_key().clone())
        .build()
        .unwrap();
    let workspace = client.workspace(server.workspace_dir().display().to_string());
    let conversation = Conversation::builder(&workspace, agent(&model)).start();
    let conversation = conversation.await.unwrap();
    conversation.send("Be ready.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let other = Conversation::attach(&client, conversation.id());
    let other = other.await.unwrap();
    proxy.forget_requests();

    tokio::time::sleep(IDLE).await;
    let idle = asked(&proxy);
    assert!(idle.is_empty(), "{idle:?}");

    conversation.send("Go.").await.unwrap();
    let outcome = timeout(LONG * 2, conversation.run())
        .await
        .unwrap()
        .unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let running = asked(&proxy);
    let all: usize = running.values().sum();
    // The message, the run, a check before each, and polling for the newest event while no frame
    // arrives.
    assert!(all <= 14, "{running:?}");
    drop(other);
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
