//! Delegation: a sub-agent for a part of the work, and a goal that a judge must accept.
//!
//! Run it with `cargo run -p openhands-examples --example delegation`.

use std::time::Duration;

use openhands::{prelude::*, protocol::config::SubAgent, testkit::Script};
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
    let task = json!({
        "prompt": "Count the words of: to be or not to be.",
        "subagent_type": "counter",
        "description": "counts words",
    });
    let script = Script::new()
        .call("task", task)
        .text("Six.")
        .finish("The counter says six.")
        // The agent and the judge of the goal use the same model in turns.
        .text("I have written the first half.")
        .text(r#"{"score": 0.5, "complete": false, "missing": "the second half"}"#)
        .text("Both halves are there.")
        .text(r#"{"score": 1.0, "complete": true, "missing": ""}"#);
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. A sub-agent has its own prompt, tools and history. The agent chooses it by its
    //    description, and waits for its answer with the tool `task`.
    let counter = SubAgent::new("counter")
        .description("counts words")
        .system_prompt("You count words. Answer with a number.");
    let agent = Agent::default_preset(model.agent())
        .cli_mode(true)
        .tool("task_tool_set");
    let conversation = Conversation::builder(workspace, agent)
        .sub_agent(counter)
        .start()
        .await?;
    conversation
        .send("Let the counter count the words of: to be or not to be.")
        .await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    println!("answer: {}", conversation.agent().final_response().await?);

    // 2. A goal: after each round, a judge on the server decides whether the objective is reached,
    //    and the agent reads what is missing. The number of rounds is the limit.
    let goal = conversation
        .goals()
        .start("Write a poem with two halves.")
        .max_iterations(5)
        .await?;
    let mut progress = goal.progress();
    while let Some(status) = progress.next().await {
        let status = status?;
        let score = status.verdict.as_ref().map(|verdict| verdict.score);
        println!(
            "round {}: {:?}, score {score:?}",
            status.iteration, status.status
        );
    }
    let end = goal.ended().await?;
    println!("reached: {}", end.is_complete());
    conversation.delete().await?;
    model.verify()
}
