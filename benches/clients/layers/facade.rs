//! Starts a server, runs a command and an agent: a program that uses the facade.

use std::time::Duration;

use openhands::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = LocalServer::builder().start().await?;
        let workspace = server.workspace(server.workspace_dir());
        println!("{}", workspace.execute("pwd").await?.stdout());
        let agent = Agent::default_preset(Llm::new("openai/gpt-5")).cli_mode(true);
        let conversation = Conversation::builder(&workspace, agent)
            .hooks(HookConfig::new().stop(Hook::command("true")))
            .on_event(|event| println!("{event}"))
            .start()
            .await?;
        conversation.send("Say hello.").await?;
        let run = conversation.run().await?.ensure_finished()?;
        println!("{} events, ${:?}", run.events(), run.cost());
        conversation.close().await?;
        server.shutdown(Duration::from_secs(5)).await?;
        Ok(())
    })
}
