//! A batch of 50 conversations with a budget, progress, and a clean end on Ctrl-C.
//!
//! Run it with `cargo run -p openhands-examples --example batch`.

use std::time::Duration;

use openhands::{
    conversation::BulkCancel,
    prelude::*,
    testkit::{Script, Step},
};
use openhands_examples::{Model, Result};

const TASKS: usize = 50;
/// The budget of the whole batch, in US dollars.
const BUDGET: f64 = 0.40;

#[tokio::main]
async fn main() -> Result {
    let server = LocalServer::builder().start().await?;
    example(&server.workspace(server.workspace_dir())).await?;
    server.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs the example, on any server.
pub async fn example(workspace: &Workspace) -> Result {
    // Each answer of the scripted model costs two cents, so the budget does not last for all tasks.
    let answer = Step::finish("A good name.").cost(0.02);
    let model = Model::or_script(Script::new().forever(|script| script.step(answer))).await?;
    println!("model: {model}");

    // 1. Add the conversations. Four run at once, and each has its own limits.
    let mut bulk = Bulk::new()
        .at_once(4)
        .max_cost(0.10)
        .timeout(Duration::from_secs(600));
    for task in 0..TASKS {
        let agent = Agent::default_preset(model.agent()).cli_mode(true);
        let builder = Conversation::builder(workspace, agent).tag("batch", "names");
        bulk = bulk.start(builder, format!("Suggest a name for number {task}."));
    }

    // 2. Take the results as they come. The handle reports the progress, and cancels the batch.
    let mut results = bulk.run();
    let handle = results.handle();
    let (mut finished, mut spent) = (0, 0.0);
    loop {
        tokio::select! {
            result = results.next() => {
                let Some(result) = result else { break };
                match result.outcome {
                    Ok(run) => {
                        finished += usize::from(run.is_finished());
                        spent += run.cost().unwrap_or_default();
                    }
                    Err(error) => println!("task {}: {error}", result.index),
                }
                let progress = handle.progress();
                if progress.done.is_multiple_of(10) {
                    println!("{} done, {} waiting, ${spent:.2}", progress.done, progress.waiting);
                }
                if spent >= BUDGET {
                    // No other conversation starts. Those in flight continue to their end.
                    handle.cancel(BulkCancel::Finish);
                }
            }
            // 3. Ctrl-C interrupts the runs. The loop still gets their results, so that nothing
            //    runs on unnoticed. The conversations can be continued later.
            Ok(()) = tokio::signal::ctrl_c() => handle.cancel(BulkCancel::Interrupt),
        }
    }
    println!("{finished} of {TASKS} finished, ${spent:.2}");
    if spent >= BUDGET {
        println!("the budget was used up");
    }

    // 4. The tag finds the conversations of the batch again, also in another program.
    let mut list = Conversations::of(workspace.client())
        .list()
        .tag("batch", "names");
    let mut found = Vec::new();
    while let Some(conversation) = list.next().await {
        found.push(conversation?.id());
    }
    for id in found {
        Conversation::attach(workspace.client(), id)
            .await?
            .delete()
            .await?;
    }
    Ok(())
}
