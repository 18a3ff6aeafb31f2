//! Settings of a server, and secrets for the commands of its agents.
//!
//! Run it with `cargo run -p openhands-examples --example settings_and_secrets`.
//!
//! An agent gets a secret as an environment variable of its commands. The model does not see the
//! value: the server replaces it by a mask in each output.

use std::time::Duration;

use openhands::{
    admin::Admin,
    conversation::Secret,
    prelude::*,
    protocol::calls::settings::{SetSecret, UpdateSettings},
    testkit::Script,
};
use openhands_examples::{Model, Result};
use serde_json::json;

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let show = "echo \"$DEPLOY_TOKEN\"; test \"$BUILD\" = 42 && echo the build is right";
    let script = Script::new()
        .call("terminal", json!({"command": show}))
        .finish("Both are set.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. Change the settings that the server uses for new agents. Fields that are not named keep
    //    their values. `agent_schema` lists the fields. Keys are masked when they are read.
    let admin = Admin::of(workspace.client());
    let settings = admin
        .settings()
        .update(
            UpdateSettings::new()
                .llm(model.agent())
                .conversation(json!({"max_iterations": 40})),
        )
        .await?;
    println!("model key is set: {}", settings.llm_api_key_is_set);
    println!("settings: {}", settings.conversation_settings);

    // 2. Store a secret on the server, for all agents. The description is for the model.
    let secret =
        SetSecret::new("DEPLOY_TOKEN", "canary-token-value").description("Token to deploy");
    admin.secrets().put(secret).await?;
    for secret in admin.secrets().list().await? {
        println!("stored: {} ({:?})", secret.name, secret.description);
    }

    // 3. Start an agent from the settings: `llm` returns the stored model. `secrets` returns
    //    lookups: the server reads a value when a command needs it, so this program never has it.
    let agent = Agent::default_preset(workspace.llm().await?).cli_mode(true);
    let mut builder = Conversation::builder(workspace, agent);
    for (name, lookup) in workspace.secrets(&["DEPLOY_TOKEN"]).await? {
        builder = builder.secret(name, lookup);
    }
    let conversation = builder.start().await?;

    // 4. A secret of this conversation only. `computed` runs this closure each time it is sent, for
    //    example after a restart of the server.
    let build = Secret::computed(|| async { Ok::<_, std::io::Error>("42".to_owned()) });
    conversation.secrets().set([("BUILD", build)]).await?;

    conversation
        .send(format!("Run this command, and report its output: {show}"))
        .await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    for event in &conversation.events() {
        if let Payload::Observation(result) = event.payload()
            && let Observation::Terminal(_) = &result.observation
        {
            println!("the agent sees: {}", result.observation.text());
        }
    }
    let log = conversation.events();
    if log
        .iter()
        .any(|event| event.as_json().contains("canary-token-value"))
    {
        return Err("the value of a secret is in the log".into());
    }

    conversation.delete().await?;
    admin.secrets().delete("DEPLOY_TOKEN").await?;
    model.verify()
}
