//! A bridge between a chat and an agent, which can be stopped at any time: nothing is lost, no
//! message reaches the agent twice, and only final answers are posted.
//!
//! Run it with `cargo run -p openhands-examples --example bridge`. The chat is a list in this
//! program. It delivers a message more than once, as most chats do.
//!
//! The bridge stores one number, the `seq` of the last event that it has handled. What the agent
//! has received is in the log of the conversation already.

use std::{path::Path, time::Duration};

use openhands::{
    prelude::*,
    protocol::{ConversationId, event::Source},
    testkit::Script,
};
use openhands_examples::{Model, Result};
use serde_json::json;

/// A message in the chat: its id, and its text.
type Incoming = (&'static str, &'static str);

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
        .call("terminal", json!({"command": "date"}))
        .finish("It is late.")
        .text("You are welcome.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent).start().await?;
    let id = conversation.id();
    conversation.close().await?;

    // Two lives of the bridge, with a restart in between. The chat repeats the first message.
    let place = tempfile::tempdir()?;
    let state = place.path().join("seq");
    let mut chat = Vec::new();
    let first: &[Incoming] = &[("m1", "What time is it?"), ("m1", "What time is it?")];
    bridge(workspace.client(), id, first, &state, &mut chat).await?;
    let second: &[Incoming] = &[("m1", "What time is it?"), ("m2", "Thanks!")];
    bridge(workspace.client(), id, second, &state, &mut chat).await?;

    for (key, text) in &chat {
        println!("posted {text} (key {key})");
    }
    println!("{} posts", chat.len());
    Conversation::attach(workspace.client(), id)
        .await?
        .delete()
        .await?;
    model.verify()
}

/// Handles messages, and posts what is new.
async fn bridge(
    client: &Client,
    id: ConversationId,
    incoming: &[Incoming],
    state: &Path,
    chat: &mut Vec<(String, String)>,
) -> Result {
    // 1. Attach, and continue after the last event that was handled.
    let conversation = Conversation::attach(client, id).await?;
    let last = std::fs::read_to_string(state)
        .ok()
        .and_then(|seq| seq.parse().ok());
    let mut events = conversation
        .subscribe(last.map_or(Cursor::Start, Cursor::After))
        .numbered();

    // 2. Chat to agent. The text begins with the id in the chat, so the log shows what has arrived.
    //    A file of ids would be wrong after a crash between sending and writing.
    for (message, text) in incoming {
        let mark = format!("[{message}] ");
        let arrived = conversation
            .events()
            .iter()
            .any(|event| match event.payload() {
                Payload::Message(sent) => sent.llm_message.text().starts_with(&mark),
                _ => false,
            });
        if arrived {
            println!("{message} has arrived before");
            continue;
        }
        conversation.send(mark + text).await?;
        println!("{message}: {}", conversation.run().max_cost(0.50).await?);
    }

    // 3. Agent to chat. Steps and tool calls stay out of it.
    let newest = conversation.events().len();
    let mut handled = 0;
    while let Some(item) = events.next().await {
        let (seq, event) = item?;
        if let Some(text) = final_text(&event) {
            // The id of the event is the same after a crash. Most chats accept such a key, and
            // ignore a second post with it.
            chat.push((event.id().to_owned(), text));
        }
        std::fs::write(state, seq.to_string())?;
        handled = seq;
        // This example ends here. A service would keep waiting for events.
        if handled + 1 >= u64::try_from(newest)? {
            break;
        }
    }
    println!("handled up to {handled}");
    conversation.close().await?;
    Ok(())
}

/// Returns the text of a final answer: a message of the agent, or that of `finish`.
fn final_text(event: &Event) -> Option<String> {
    match event.payload() {
        Payload::Message(message) if event.source() == &Source::Agent => {
            Some(message.llm_message.text())
        }
        Payload::Action(action) => match &action.action {
            Some(Action::Finish(finish)) => Some(finish.message.to_string()),
            _ => None,
        },
        _ => None,
    }
}
