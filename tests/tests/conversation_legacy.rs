//! The same promises on a server without the session socket. Provisions that version on first use.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_core::Stream as _;
use openhands::{
    Agent, Conversation, Cursor, LocalServer, WorkspaceExt,
    process::Provisioner,
    protocol::{calls, config::Llm},
    testkit::{Script, ScriptedModel},
    transport::Client,
};
use serde_json::json;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_server_without_the_session_socket_keeps_the_same_promises() {
    let script = Script::new()
        .call("terminal", json!({"command": "echo one"}))
        .call("terminal", json!({"command": "echo two"}))
        .finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let server = LocalServer::builder()
        .provisioner(Provisioner::new().version("1.43.1"))
        .start()
        .await
        .unwrap();
    assert!(
        !server.info().has_session_socket(),
        "{}",
        server.info().version
    );
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .start()
        .await
        .unwrap();
    let second: Client = server.client().clone();
    conversation.send("Echo twice.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let search = calls::events::Search::new(conversation.id());
    let log = second.call(&search).await.unwrap();
    assert!(log.next_page_id.is_none());
    let mut events = pin!(conversation.subscribe(Cursor::Start));
    for expected in &log.items {
        let next = poll_fn(|cx| events.as_mut().poll_next(cx));
        let event = timeout(LONG, next).await.unwrap().unwrap().unwrap();
        assert_eq!(event.id(), expected.id());
    }
    println!("{} events on {}", log.items.len(), server.info().version);
    conversation.delete().await.unwrap();
    server.shutdown(Duration::from_secs(10)).await.unwrap();
}
