//! Tests of what sockets receive while a tool is running.

use std::time::Duration;

use oh_protocol::Event;
use oh_testkit::{FakeServer, Script, fake::Observation};
use serde_json::{Value, json};

use crate::fake::{client, create, next, rest};

#[tokio::test]
async fn a_socket_opened_during_a_tool_call_receives_the_state_at_its_end() {
    let server = FakeServer::builder()
        .script(Script::new().call("terminal", json!({"command": "make"})))
        .tool("terminal", |_| {
            Observation::text("").after(Duration::from_secs(3600))
        })
        .start()
        .await
        .unwrap();
    let id = create(&server, Value::Null).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("Build it.");
    let acted = |event: &Event| event.kind() == "ActionEvent";
    while !conversation.events().iter().any(acted) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let client = client(&server);
    let mut session = client
        .socket(format!("/sockets/session/{id}?after_seq=-1"))
        .await
        .unwrap();
    let mut legacy = client
        .socket(format!("/sockets/events/{id}?resend_mode=all"))
        .await
        .unwrap();
    while conversation.sockets() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let path = format!("/api/conversations/{id}/interrupt");
    assert_eq!(rest(&server, "POST", &path, Value::Null).await.status, 200);
    // The session socket's history begins when the tool ends; the legacy socket receives the end
    // first.
    let sync = next(&mut session).await.unwrap();
    let through = usize::try_from(sync["through_seq"].as_u64().unwrap()).unwrap();
    let log = conversation.events();
    let ended = |event: &Event| event.kind() == "AgentErrorEvent";
    assert!(through >= log.iter().position(ended).unwrap(), "{sync}");
    let mut heard = Vec::new();
    for _ in 0..2 {
        let event = next(&mut legacy).await.unwrap();
        heard.push(
            event["key"]
                .as_str()
                .map_or(event["kind"].clone(), Into::into),
        );
    }
    assert_eq!(heard, ["AgentErrorEvent", "full_state"]);
}
