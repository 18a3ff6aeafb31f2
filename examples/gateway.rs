//! An agent as a model: a client of OpenAI's API runs an agent on the server.
//!
//! Run it with `cargo run -p openhands-examples --example gateway`. The model of the agent is the
//! one in `LLM_API_KEY`, `LLM_MODEL` and `LLM_BASE_URL`. Without a key it is a scripted one on
//! loopback, which only greets.

use std::time::Duration;

use async_openai::{
    Client as OpenAI,
    config::OpenAIConfig,
    types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs},
};
use openhands::{admin::Admin, prelude::*, secrecy::ExposeSecret as _, testkit::Script};
use openhands_examples::{Model, Result};

#[tokio::main]
async fn main() -> Result {
    openhands_examples::init_tracing();
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    let model = Model::or_script(Script::new().text("Hello from the agent.")).await?;
    println!("model: {model}");

    // Each model profile of the server is a model of the gateway.
    let admin = Admin::of(workspace.client());
    admin.profiles().save("demo", model.agent()).await?;

    let gateway = admin.gateway().await?;
    let mut config = OpenAIConfig::new().with_api_base(gateway.base_url().as_str());
    if let Some(key) = gateway.key() {
        config = config.with_api_key(key.expose_secret());
    }
    let client = OpenAI::with_config(config);
    for model in client.models().list().await?.data {
        println!("model: {}", model.id);
    }
    let message = ChatCompletionRequestUserMessageArgs::default()
        .content("Say hello.")
        .build()?;
    let request = CreateChatCompletionRequestArgs::default()
        .model("openhands_demo")
        .messages([message.into()])
        .build()?;
    let answer = client.chat().create(request).await?;
    for choice in answer.choices {
        println!("agent: {}", choice.message.content.unwrap_or_default());
    }
    admin.profiles().delete("demo").await?;
    model.verify()
}
