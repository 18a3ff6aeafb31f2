//! Forks: try another way from a point in the history, without losing the first.
//!
//! Run it with `cargo run -p openhands-examples --example fork`.

use std::time::Duration;

use openhands::{prelude::*, protocol::event::Source, testkit::Script};
use openhands_examples::{Model, Result};

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
        .finish("I suggest the name `parser`.")
        .finish("Then `reader`.")
        .finish("Shorter: `lex`.")
        .finish("In French: `analyseur`.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent).start().await?;
    ask(
        &conversation,
        "Suggest a name for a module that reads text.",
    )
    .await?;

    // Remember this point: the newest event of the branch that the agent sees.
    let point = conversation
        .branches()
        .head()
        .ok_or("the conversation has no events")?;
    ask(&conversation, "Not that one. Another, please.").await?;

    // 1. A fork of the whole conversation has its own id and history. The server does not copy the
    //    key of the model, so a fork that is to run needs the model again.
    let fork = conversation
        .branches()
        .fork()
        .title("A shorter name")
        .tags([("purpose", "experiment")])
        .llm(model.agent())
        .await?;
    ask(&fork, "Shorter!").await?;

    // 2. A fork from an event has the history up to that event. The agent of this fork has never
    //    seen the second question.
    let early = conversation
        .branches()
        .fork()
        .from_event(&point)
        .llm(model.agent())
        .await?;
    ask(&early, "The same in French, please.").await?;

    // 3. Without a fork, `navigate` goes back in the same conversation. The next message begins
    //    another branch. The events of the old branch stay in the log.
    let before = conversation.events().len();
    conversation.branches().navigate(&point).await?;
    let questions = |conversation: &Conversation| {
        let branch = conversation.branches().current();
        let mine =
            |event: &&Event| event.kind() == "MessageEvent" && event.source() == &Source::User;
        branch.iter().filter(mine).count()
    };
    println!("questions in the fork: {}", questions(&fork));
    println!("questions in the early fork: {}", questions(&early));
    println!("questions after going back: {}", questions(&conversation));
    println!(
        "no event was lost: {}",
        conversation.events().len() >= before
    );

    for conversation in [fork, early, conversation] {
        conversation.delete().await?;
    }
    model.verify()
}

/// Sends a question, and prints the answer.
async fn ask(conversation: &Conversation, question: &str) -> Result {
    conversation.send(question).await?;
    println!("{}", conversation.run().await?.ensure_finished()?);
    let answer = conversation.agent().final_response().await?;
    println!("{question}\n  {answer}");
    Ok(())
}
