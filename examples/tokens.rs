//! Text while the model writes it.
//!
//! Run it with `cargo run -p openhands-examples --example tokens`.
//!
//! Tokens are for the eyes: they are not stored, and the server does not send them again. The event
//! that follows has the whole text.

use std::{
    io::{Write as _, stdout},
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    prelude::*,
    testkit::{Script, Step},
};
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
    let story = Step::text("Once upon a time, a crab learned to borrow.");
    let model = Model::or_script(Script::new().step(story.drip(Duration::from_millis(40)))).await?;
    println!("model: {model}");

    // 1. The model must stream its answers to the server.
    let agent = Agent::default_preset(model.agent().stream(true)).cli_mode(true);

    // 2. With `on_token`, the builder connects before it sends the first message, so that no token
    //    is missed.
    let shown = Arc::new(Mutex::new(String::new()));
    let screen = Arc::clone(&shown);
    let conversation = Conversation::builder(workspace, agent)
        .initial_message("Tell a story in one sentence.")
        .on_token(move |token| {
            let Ok(mut shown) = screen.lock() else { return };
            match token {
                // The server may ask the model again after an error: the text starts over.
                Token::Started { attempt, .. } if *attempt > 1 => {
                    shown.clear();
                    println!("\n(again)");
                }
                Token::Text { content, .. } => {
                    shown.push_str(content);
                    print!("{content}");
                    _ = stdout().flush();
                }
                Token::Finished { .. } => println!(),
                // Reasoning, for models that show it, and pieces that this reader was too slow for.
                _ => {}
            }
        })
        .start()
        .await?;

    // 3. The first message has started a run. `join` waits for it.
    println!("{}", conversation.join().await?.ensure_finished()?);
    let written = conversation.agent().final_response().await?;
    conversation.delete().await?;
    let shown = shown.lock().map_err(|_| "the callback has panicked")?;
    println!("the same text was shown and stored: {}", *shown == written);
    model.verify()
}
