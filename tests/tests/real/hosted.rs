//! The real server in a runtime of a fake Runtime API, and in a sandbox of a fake OpenHands Cloud:
//! the same program as with a local server.

use std::time::Duration;

use openhands::{
    Agent, Conversation,
    protocol::config::Llm,
    sandbox::{CloudServer, HostedServer},
    secrecy::ExposeSecret,
    testkit::{
        Script, ScriptedModel,
        hosted::{FakeCloud, FakeRuntimeApi},
    },
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

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_in_a_cloud_sandbox_and_its_server_looks_up_the_secret() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let cloud = FakeCloud::start().await.unwrap();
    let key = server.session_api_key().expose_secret();
    cloud.supply(server.url().as_str(), key);
    cloud.set_secret("TEAM_TOKEN", "0123456789", "of the team");
    let command = "printf %s \"$TEAM_TOKEN\" | wc -c | tr -d ' ' > length.txt";
    let model = ScriptedModel::start(
        Script::new()
            .call("terminal", json!({ "command": command }))
            .finish("Done."),
    );
    let model = model.await.unwrap();
    cloud.set_account(json!({
        "llm_model": ScriptedModel::MODEL,
        "llm_api_key": "scripted",
        "llm_base_url": model.base_url(),
    }));

    let place = server.workspace_dir().display().to_string();
    let sandbox = CloudServer::builder(cloud.api_key())
        .url(cloud.url())
        .workspace(&place)
        .start()
        .await
        .unwrap();
    let agent = Agent::default_preset(sandbox.llm().await.unwrap()).cli_mode(true);
    let mut builder = Conversation::builder(&sandbox, agent);
    for (name, source) in sandbox.secrets().await.unwrap() {
        builder = builder.secret(name, source);
    }
    let conversation = builder.start().await.unwrap();
    conversation.send("Count.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    let _finished = outcome.ensure_finished().unwrap();
    let made = sandbox.execute("cat length.txt").await.unwrap();
    assert_eq!(made.stdout().trim(), "10");
    let lookups = "/api/v1/sandboxes/{id}/settings/secrets/{name}";
    assert!(!cloud.requests_to("GET", lookups).is_empty());
    conversation.close().await.unwrap();
    model.verify().unwrap();
    sandbox.shutdown(Duration::ZERO).await.unwrap();
    assert!(cloud.sandboxes().is_empty());
}
