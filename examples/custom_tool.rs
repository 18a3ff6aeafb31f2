//! A tool of your own in Python, loaded into the server, whose events have your own Rust types.
//!
//! Run it with `cargo run -p openhands-examples --example custom_tool`. A Python tool runs inside
//! the server, next to the files. For a tool that runs in this program, see `client_tool.rs`.

use std::time::Duration;

use openhands::{prelude::*, process::LocalServerBuilder, testkit::Script};
use openhands_examples::{Model, Result};
use serde::Deserialize;
use serde_json::json;

/// The directory of `word_count.py`.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/custom_tool");

/// The arguments of the tool: the fields of the Python class with this name.
#[derive(Debug, Deserialize)]
struct WordCountAction {
    path: String,
}

/// The result of the tool.
#[derive(Debug, Deserialize)]
struct WordCountObservation {
    lines: u64,
    words: u64,
}

#[tokio::main]
async fn main() -> Result {
    example(LocalServer::builder()).await
}

/// Runs the example, with a server of this builder.
pub async fn example(server: LocalServerBuilder) -> Result {
    let script = Script::new()
        .call("word_count", json!({"path": "poem.txt"}))
        .finish("The poem has 2 lines and 6 words.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. Start a server that imports the module. Code in this directory runs inside the server, so
    //    only you should be able to write to it.
    let server = server
        .python_path(TOOLS)
        .import_module("word_count")
        .start()
        .await?;
    let workspace = server.workspace(server.workspace_dir());
    workspace
        .write("poem.txt", "Roses are red,\nviolets are blue.\n")
        .await?;

    // 2. Add the tool to an agent by its name. Give each conversation the module too: a server that
    //    is started again later imports it before it restores the conversation.
    let agent = Agent::default_preset(model.agent())
        .cli_mode(true)
        .tool("word_count");
    let conversation = Conversation::builder(&workspace, agent)
        .tool_module("word_count", "word_count")
        .start()
        .await?;
    conversation
        .send("Count the words of poem.txt with the tool word_count.")
        .await?;
    println!("{}", conversation.run().await?.ensure_finished()?);

    // 3. Read its events. Kinds that this library does not have are data with a name: decode their
    //    JSON with your own types.
    let mut counted = None;
    for event in &conversation.events() {
        match event.payload() {
            Payload::Action(action) => {
                if let Some(Action::Unknown(body)) = &action.action
                    && body.kind == "WordCountAction"
                {
                    let arguments: WordCountAction = body.json.decode()?;
                    println!("the agent counts {}", arguments.path);
                }
            }
            Payload::Observation(result) => {
                if let Observation::Unknown(body) = &result.observation
                    && body.kind == "WordCountObservation"
                {
                    counted = Some(body.json.decode::<WordCountObservation>()?);
                }
            }
            _ => {}
        }
    }
    let counted = counted.ok_or("the agent did not use the tool")?;
    println!("{} lines, {} words", counted.lines, counted.words);

    conversation.close().await?;
    server.shutdown(Duration::from_secs(10)).await?;
    model.verify()
}
