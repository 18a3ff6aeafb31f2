//! A server in a sandbox of OpenHands Cloud, with the model and the secrets of the account.
//!
//! Run it with `cargo run -p openhands-examples --example cloud`. `OPENHANDS_CLOUD_API_KEY` is a
//! key of your account: see `docs/cloud.md`. Without it, a fake of the service takes its place. Its
//! sandbox is a server on this machine, and its model is a script.

use std::{env, time::Duration};

use openhands::{
    prelude::*,
    process::LocalServerBuilder,
    sandbox::{CloudServer, ExposedUrl},
    secrecy::ExposeSecret,
    testkit::{Script, ScriptedModel, hosted::FakeCloud},
};
use openhands_examples::Result;
use serde_json::json;

#[tokio::main]
async fn main() -> Result {
    example(LocalServer::builder()).await
}

/// Runs the example. The server of the fake sandbox is of this builder.
pub async fn example(servers: LocalServerBuilder) -> Result {
    // 1. Choose the service. A program of your own has only the lines for `Some(key)`.
    let key = env::var("OPENHANDS_CLOUD_API_KEY").ok();
    let fake = match &key {
        None => Some(Fake::start(servers).await?),
        Some(_) => None,
    };
    let builder = match (&fake, key) {
        (Some(fake), _) => CloudServer::builder(fake.cloud.api_key())
            .url(fake.cloud.url())
            .workspace(fake.server.workspace_dir().display().to_string()),
        (None, key) => CloudServer::builder(key.unwrap_or_default()),
    };

    // 2. Start a sandbox, and wait until its server is verified. If the start fails, or this value
    //    is dropped, the sandbox is deleted.
    let server = builder.start().await?;
    println!("sandbox {} runs {}", server.id(), server.info().version);
    if let Some(url) = server.exposed_url(ExposedUrl::WORKER_1).await? {
        println!("a program of the agent at port 1 is reached at {url}");
    }

    // 3. Use the model of the account, and lookups of its secrets: their values do not come to this
    //    program. The server requests a value when a command needs it.
    let agent = Agent::default_preset(server.llm().await?).cli_mode(true);
    let mut builder = Conversation::builder(&server, agent);
    for (name, source) in server.secrets().await? {
        println!("secret: {name}");
        builder = builder.secret(name, source);
    }

    // 4. Run the agent, as with any other server.
    let conversation = builder.start().await?;
    conversation
        .send("Write the number of characters of $TEAM_TOKEN to length.txt.")
        .await?;
    conversation.run().await?.ensure_finished()?;
    let output = server.execute("cat length.txt").await?;
    println!("length: {}", output.stdout().trim());
    conversation.close().await?;

    // 5. Delete the sandbox.
    server.shutdown(Duration::ZERO).await?;
    if let Some(fake) = fake {
        fake.model.verify()?;
        if !fake.cloud.sandboxes().is_empty() {
            return Err("the sandbox is left".into());
        }
        fake.server.shutdown(Duration::from_secs(5)).await?;
    }
    Ok(())
}

/// A fake of the service, its only sandbox, and the model of its account.
struct Fake {
    cloud: FakeCloud,
    server: LocalServer,
    model: ScriptedModel,
}

impl Fake {
    async fn start(servers: LocalServerBuilder) -> Result<Self> {
        println!("FAKE CLOUD: set OPENHANDS_CLOUD_API_KEY to use the service");
        let server = servers.start().await?;
        let command = "printf %s \"$TEAM_TOKEN\" | wc -c | tr -d ' ' > length.txt";
        let script = Script::new()
            .call("terminal", json!({ "command": command }))
            .finish("The file has the length.");
        let model = ScriptedModel::start(script).await?;
        let cloud = FakeCloud::start().await?;
        cloud.supply(
            server.url().as_str(),
            server.session_api_key().expose_secret(),
        );
        cloud.set_secret("TEAM_TOKEN", "0123456789", "the token of the team");
        cloud.set_account(json!({
            "llm_model": ScriptedModel::MODEL,
            "llm_api_key": "scripted",
            "llm_base_url": model.base_url(),
        }));
        Ok(Self {
            cloud,
            server,
            model,
        })
    }
}
