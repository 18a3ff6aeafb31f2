//! An agent as a model: a client of OpenAI's API runs an agent on the server.
//!
//! Run it with `cargo run -p openhands-examples --example gateway`. The model of the agent is the
//! one in `LLM_API_KEY`, `LLM_MODEL` and `LLM_BASE_URL`. Without a key it is a scripted one on
//! loopback, which only greets.

use std::{env, error::Error, time::Duration};

use async_openai::{
    Client,
    config::OpenAIConfig,
    types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs},
};
use openhands::{
    LocalServer,
    admin::Admin,
    protocol::config::Llm,
    secrecy::ExposeSecret as _,
    testkit::{Script, ScriptedModel},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    openhands_examples::init_tracing();
    let server = LocalServer::builder().start().await?;
    let admin = Admin::of(server.client());

    // Each model profile of the server is a model of the gateway.
    let script = ScriptedModel::start(Script::new().text("Hello from the agent.")).await?;
    admin.profiles().save("demo", model(&script)).await?;

    let gateway = admin.gateway().await?;
    let mut config = OpenAIConfig::new().with_api_base(gateway.base_url().as_str());
    if let Some(key) = gateway.key() {
        config = config.with_api_key(key.expose_secret());
    }
    let client = Client::with_config(config);
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
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Returns the model of the environment, or the scripted one.
fn model(script: &ScriptedModel) -> Llm {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let Some(key) = set("LLM_API_KEY") else {
        return Llm::new(ScriptedModel::MODEL)
            .base_url(script.base_url())
            .api_key("none");
    };
    let name = set("LLM_MODEL").unwrap_or_else(|| "anthropic/claude-sonnet-4-5-20250929".into());
    let llm = Llm::new(name).api_key(key);
    set("LLM_BASE_URL")
        .iter()
        .fold(llm, |llm, url| llm.base_url(url))
}
