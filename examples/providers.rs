//! Models of many providers: their configurations, a check of each, a switch between them, and the
//! login to a ChatGPT subscription.
//!
//! Run it with `cargo run -p openhands-examples --example providers`. The server calls models
//! through LiteLLM, so the first part of a model's name is LiteLLM's name of the provider.

use std::{env, time::Duration};

use openhands::{
    admin::Admin,
    prelude::*,
    protocol::calls::profiles::Validation,
    testkit::{FakeServer, Script},
};
use openhands_examples::{Model, Result};

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Returns a configuration for each provider. A local server does not inherit the keys of this
/// program, because its agents could read them: pass each key on.
fn configurations() -> [(&'static str, Llm); 9] {
    let key = |name| env::var(name).unwrap_or_else(|_| "not set".to_owned());
    let claude = "claude-sonnet-4-5-20250929";
    let bedrock = format!("bedrock/anthropic.{claude}-v1:0");
    [
        (
            "openai",
            Llm::new("openai/gpt-5").api_key(key("OPENAI_API_KEY")),
        ),
        (
            "anthropic",
            Llm::new(format!("anthropic/{claude}")).api_key(key("ANTHROPIC_API_KEY")),
        ),
        (
            "gemini",
            Llm::new("gemini/gemini-2.5-pro").api_key(key("GEMINI_API_KEY")),
        ),
        (
            "openrouter",
            Llm::new("openrouter/anthropic/claude-sonnet-4.5")
                .api_key(key("OPENROUTER_API_KEY"))
                .openrouter_app_name("my-program"),
        ),
        // The name of the deployment, and the endpoint of the resource.
        (
            "azure",
            Llm::new("azure/my-deployment")
                .base_url("https://my-resource.openai.azure.com")
                .api_version("2024-12-01-preview")
                .api_key(key("AZURE_API_KEY")),
        ),
        (
            "bedrock",
            Llm::new(bedrock)
                .aws_region_name("eu-central-1")
                .aws_access_key_id(key("AWS_ACCESS_KEY_ID"))
                .aws_secret_access_key(key("AWS_SECRET_ACCESS_KEY")),
        ),
        // Models on the server's machine. From a container, the host has another name than
        // localhost, such as `host.docker.internal`.
        (
            "ollama",
            Llm::new("ollama_chat/qwen3-coder").base_url("http://localhost:11434"),
        ),
        (
            "lm-studio",
            Llm::new("lm_studio/qwen3-coder")
                .base_url("http://localhost:1234/v1")
                .api_key("unused"),
        ),
        // A LiteLLM proxy has one key and one URL for all providers behind it. The URL has no
        // `/v1`: the server also asks for `/v1/model/info` there.
        (
            "proxy",
            Llm::new("litellm_proxy/team-model")
                .base_url("https://litellm.example.com")
                .api_key(key("LITELLM_PROXY_API_KEY")),
        ),
    ]
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    // The first two answers are for the checks in step 3.
    let script = Script::new()
        .text("pong")
        .text("pong")
        .finish("I am the first model.")
        .finish("I am the second model.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. List what the server supports. `of_provider` has all models of a provider, and `verified`
    //    those that were tested with OpenHands.
    let admin = Admin::of(workspace.client());
    let providers = admin.models().providers().await?;
    let gemini = admin.models().of_provider("gemini").await?;
    println!(
        "{} providers, {} models of Gemini",
        providers.len(),
        gemini.len()
    );
    for (provider, models) in admin.models().verified().await? {
        println!("tested: {} models of {provider}", models.len());
    }

    // 2. Store the configurations as profiles. Storing one sends nothing to the provider.
    for (name, llm) in configurations() {
        let provider = llm.model().split('/').next().unwrap_or_default();
        if !providers.iter().any(|known| known == provider) {
            return Err(format!("the server does not support {provider}").into());
        }
        admin
            .profiles()
            .save(format!("providers-{name}"), llm)
            .await?;
    }
    for profile in admin.profiles().list().await?.profiles {
        if profile.name.starts_with("providers-") {
            println!(
                "{}: {} at {}, key: {}",
                profile.name,
                profile.model.unwrap_or_default(),
                profile.base_url.as_deref().unwrap_or("the default URL"),
                profile.api_key_set
            );
        }
    }

    // 3. Check models before an agent needs them. The server sends a short request to each, which
    //    the provider may bill. Any server with OpenAI's API works as `openai/NAME` with a base
    //    URL. Nothing listens at the last address.
    let second = match model.base_url() {
        Some(url) => Llm::new("lm_studio/scripted")
            .base_url(url)
            .api_key("unused"),
        None => model.agent(),
    };
    let second = second.usage_id("second");
    let nowhere = Llm::new("ollama_chat/qwen3-coder").base_url("http://localhost:9");
    for (name, llm) in [
        ("first", model.agent()),
        ("second", second.clone()),
        ("nowhere", nowhere.num_retries(0)),
    ] {
        match admin.profiles().validate(name, llm).await? {
            Validation::Valid => println!("{name}: works"),
            Validation::Invalid { kind, message } => {
                let reason = message.lines().next().unwrap_or_default();
                println!("{name}: does not work: {kind}: {reason}");
            }
            other => println!("{name}: {other:?}"),
        }
    }

    // 4. Switch to a model of another provider. The conversation stays; the cost of each model is
    //    counted under its `usage_id`.
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent).start().await?;
    conversation.send("Which model are you?").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    println!("answer: {}", conversation.agent().final_response().await?);
    conversation.settings().switch_llm(second).await?;
    conversation.send("And now?").await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    println!("answer: {}", conversation.agent().final_response().await?);
    conversation.delete().await?;
    for (name, _) in configurations() {
        admin.profiles().delete(format!("providers-{name}")).await?;
    }

    // 5. A ChatGPT subscription instead of a key. The server offers these models, and is not logged
    //    in yet. A real login needs a person, so it runs only on request.
    let subscription = admin.subscription();
    println!("subscription: {}", subscription.models().await?.join(", "));
    println!("logged in: {}", subscription.status().await?.connected);
    if env::var_os("CHATGPT_LOGIN").is_some() {
        log_in(&admin, |_| Ok(())).await?;
    } else {
        println!("FAKE LOGIN: set CHATGPT_LOGIN to log in with a real account");
        let fake = FakeServer::builder().start().await?;
        let client = fake.client()?;
        log_in(&Admin::of(&client), |code| Ok(fake.approve_login(code)?)).await?;
    }
    model.verify()
}

/// Logs a server in. `enter` plays the user who opens the URL and enters the code.
async fn log_in(admin: &Admin, enter: impl FnOnce(&str) -> Result) -> Result {
    let subscription = admin.subscription();
    let login = subscription.login().await?;
    println!("Open {} and enter {}.", login.url(), login.code());
    enter(login.code())?;
    let status = login.wait().timeout(Duration::from_secs(600)).await?;
    println!("connected: {}", status.connected);

    // The tokens stay on the server, so the configuration contains no secret.
    let models = subscription.models().await?;
    let model = models.first().ok_or("the subscription has no models")?;
    let llm = Llm::new(format!("openai/{model}")).subscription("openai");
    println!("use {} without a key", llm.model());
    Ok(())
}
