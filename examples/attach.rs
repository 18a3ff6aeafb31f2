//! A second program that attaches to a conversation, and a conversation that survives a crash of
//! its server.
//!
//! Run it with `cargo run -p openhands-examples --example attach`. The example runs itself as the
//! second program.

use std::{env, process::Command, time::Duration};

use openhands::{
    prelude::*,
    process::{AttachedServer, LocalServerBuilder, RestartPolicy, Status},
    testkit::Script,
};
use openhands_examples::{Model, Result};
use serde_json::json;

#[tokio::main]
pub async fn main() -> Result {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, connection, id] if flag == "--second" => second(connection, id).await,
        _ => example(LocalServer::builder()).await,
    }
}

/// Runs the first program, which owns the server.
pub async fn example(server: LocalServerBuilder) -> Result {
    let script = Script::new()
        .call("terminal", json!({"command": "echo 1 > notes.txt"}))
        .finish("I wrote the first note.")
        .call("terminal", json!({"command": "echo 2 >> notes.txt"}))
        .finish("I wrote the second note.")
        .finish("There are two notes.");
    let model = Model::or_script(script).await?;
    println!("model: {model}");

    // 1. A server that is started again when it fails, at the same address. The connection file
    //    lets other programs of this user find it; it contains the key, and is removed at the end.
    let place = tempfile::tempdir()?;
    let connection = place.path().join("connection.json");
    let server = server
        .connection_file(&connection)
        .restart(RestartPolicy::on_failure(3))
        .start()
        .await?;
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(&server, agent).start().await?;
    conversation.send("Write 1 to notes.txt.").await?;
    println!("first: {}", conversation.run().await?.ensure_finished()?);

    // 2. The second program needs the file and the id. It could run at any time, also after this
    //    program has ended, if the server belongs to a service.
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("--second")
        .arg(&connection)
        .arg(conversation.id().to_string());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if !status.success() {
        return Err(format!("the second program failed: {status}").into());
    }
    // The events of the second program arrive here too. `reconcile` fetches any that are missing,
    // instead of waiting for them.
    conversation.reconcile().await?;
    println!("first: has {} events", conversation.events().len());

    // 3. A crash. The events are on disk, the supervisor starts the server again, and this
    //    conversation reconnects by itself. Nothing needs to be done here.
    let before = conversation.events().len();
    Command::new("kill")
        .args(["-9", &server.pid().to_string()])
        .status()?;
    let mut status = server.status();
    status.wait_for(|status| *status != Status::Ready).await;
    println!("server: {:?}", status.current());
    status.wait_for(|status| *status == Status::Ready).await;
    conversation.send("How many notes are there?").await?;
    println!("first: {}", conversation.run().await?.ensure_finished()?);
    println!("answer: {}", conversation.agent().final_response().await?);
    println!(
        "kept after the crash: {}",
        conversation.events().len() > before
    );

    conversation.close().await?;
    server.shutdown(Duration::from_secs(10)).await?;
    model.verify()
}

/// Runs the second program.
async fn second(connection: &str, id: &str) -> Result {
    let server = AttachedServer::from_file(connection)?.await?;
    // `tail` reads the newest events only, and older ones when they are asked for.
    let conversation = Conversation::attach(server.client(), id.parse()?)
        .tail(10)
        .await?;
    for event in conversation.events().last(3) {
        println!("second: found {event}");
    }
    conversation.send("Append 2 to notes.txt.").await?;
    println!("second: {}", conversation.run().await?.ensure_finished()?);
    conversation.close().await?;
    Ok(())
}
