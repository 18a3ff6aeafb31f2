//! Steering an agent while it works: pause, add a message, go on, and interrupt.
//!
//! Run it with `cargo run -p openhands-examples --example steering`.
//!
//! `pause` lets the current step end, for example a running command. `interrupt` stops at once,
//! also in the middle of an answer of the model. Another `run` continues after both.

use std::time::Duration;

use openhands::{
    prelude::*,
    testkit::{Script, Step},
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
    let script = Script::new()
        .call("terminal", json!({"command": "sleep 1; echo counted"}))
        .step(Step::finish("I counted, and wrote it in French.").expect("In French"))
        .step(Step::text("A very long story…").delay(Duration::from_secs(60)))
        .finish("A short story.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent).start().await?;

    // 1. The run is a future without lifetime, so it can be a task.
    let mut events = conversation.subscribe(Cursor::Now);
    conversation.send("Run `sleep 1; echo counted`.").await?;
    let run = tokio::spawn(conversation.run().into_future());

    // 2. Pause when the agent has called a tool. The command still ends, and its output is kept.
    while let Some(event) = events.next().await {
        if event?.kind() == "ActionEvent" {
            break;
        }
    }
    conversation.pause().await?;
    println!("after the pause: {}", run.await??);

    // 3. Add a message, and continue. The agent reads it before its next step.
    conversation.send("In French, please.").await?;
    let run = conversation.run().await?.ensure_finished()?;
    println!("after the message: {run}");

    // 4. Interrupt an answer that takes too long. A `timeout` of the run would end the wait only;
    //    the agent would continue.
    conversation.send("Tell a very long story.").await?;
    let run = conversation.run().timeout(Duration::from_secs(1)).await?;
    println!("after a second: {run}");
    conversation.interrupt().await?;
    println!("after the interrupt: {}", conversation.join().await?);

    conversation.send("A short one will do.").await?;
    let run = conversation.run().await?.ensure_finished()?;
    println!("at the end: {run}");
    conversation.delete().await?;
    model.verify()
}
