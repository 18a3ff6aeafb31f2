//! Conversations in a container.

use std::time::Duration;

use openhands::{
    conversation::RunStatus,
    prelude::*,
    sandbox::{DockerServer, Status},
    testkit::{Gate, Script, ScriptedModel, Step},
};
use serde_json::json;

use openhands_tests::containers::{builder, containers, docker};

pub(crate) fn agent(model: &ScriptedModel) -> Agent {
    let llm = Llm::new("openai/scripted")
        .api_key("none")
        .base_url(model.base_url());
    Agent::default_preset(llm.num_retries(0)).cli_mode(true)
}

fn terminal(command: &str) -> Step {
    Step::call("terminal", json!({ "command": command }))
}

#[tokio::test]
async fn an_agent_works_over_a_pause_until_its_kept_container_ends() {
    let tag = "work";
    let (paused, killed) = (Gate::new(), Gate::new());
    let script = Script::new()
        .step(terminal("echo hello > made.txt"))
        .step(terminal("cat made.txt").hold(&paused))
        .step(Step::finish("done"))
        .step(terminal("true").hold(&killed));
    let model = ScriptedModel::start(script).await.unwrap();
    // The scripted model listens on loopback.
    let builder = builder(tag).network("host").keep(true);
    let server = builder.start().await.unwrap();
    let conversation = Conversation::builder(&server, agent(&model))
        .start()
        .await
        .unwrap();
    conversation.send("Go.").await.unwrap();
    let run = tokio::spawn(conversation.run().into_future());
    paused.arrived(1).await;
    server.pause().await.unwrap();
    assert_eq!(server.status().current(), Status::Paused);
    paused.open();
    server.resume().await.unwrap();
    let outcome = run.await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let read = server.execute("cat /workspace/made.txt").await.unwrap();
    assert_eq!(read.stdout().trim(), "hello");

    conversation.send("Go on.").await.unwrap();
    let run = tokio::spawn(conversation.run().into_future());
    killed.arrived(1).await;
    docker(&["kill", server.id()]);
    let outcome = run.await.unwrap().unwrap();
    assert_eq!(outcome.status(), RunStatus::ServerGone, "{outcome}");
    let status = server.status();
    let Status::Exited(report) = status.current() else {
        panic!("{status:?}")
    };
    assert_eq!(report.signal, Some(9));
    let (id, key) = (server.id().to_owned(), server.session_api_key().clone());
    let report = server.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(report.signal, Some(9));

    // The container was kept, with its files and its key.
    assert_eq!(containers(tag), [id.as_str()]);
    let again = DockerServer::attach(id, key).await.unwrap();
    let read = again.execute("cat /workspace/made.txt").await.unwrap();
    assert_eq!(read.stdout().trim(), "hello");
    again.remove(Duration::from_secs(5)).await.unwrap();
    assert_eq!(containers(tag), [""; 0]);
}
