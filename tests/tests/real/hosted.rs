//! The real server in a runtime of a fake Runtime API: the same program as with a local server.

use std::time::Duration;

use openhands::{
    Agent, Conversation,
    protocol::config::Llm,
    sandbox::HostedServer,
    secrecy::ExposeSecret,
    testkit::{Script, ScriptedModel, hosted::FakeRuntimeApi},
    workspace::WorkspaceExt,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_in_a_hosted_runtime() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let api = FakeRuntimeApi::start().await.unwrap();
    let key = server.session_api_key().expose_secret();
    api.supply(server.url().as_str(), key);
    let model = ScriptedModel::start(
        Script::new()
            .call("terminal", json!({"command": "echo hosted > made.txt"}))
            .finish("Done."),
    );
    let model = model.await.unwrap();

    let place = server.workspace_dir().display().to_string();
    let hosted = HostedServer::builder(api.url(), api.api_key())
        .workspace(&place)
        .start()
        .await
        .unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted");
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&hosted, agent).start().await.unwrap();
    conversation.send("Make a file.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    outcome.ensure_finished().unwrap();
    let made = hosted.execute("cat made.txt").await.unwrap();
    assert_eq!(made.stdout().trim(), "hosted");
    conversation.close().await.unwrap();
    model.verify().unwrap();
    hosted.shutdown(Duration::ZERO).await.unwrap();
    assert!(api.running().is_empty());
}
