//! An agent in a container: the main job, with a server that a container engine runs. Against
//! `local_agent_server.rs`, only the lines that start the server differ.
//!
//! Run it with `cargo run -p openhands-examples --example docker`. `OPENHANDS_IMAGE` sets the
//! image, such as the one that `cargo xtask image` builds. The model is that of the main example.

use std::{env, error::Error, time::Duration};

use openhands::{prelude::*, sandbox::Volume};
use openhands_examples::Model;

const TASK: &str = "Create test_broken.py with a function that has a syntax error on purpose. \
    Then finish. If the file does not compile, correct it and finish again.";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    openhands_examples::init_tracing();
    // Dropping the job removes its container, so Ctrl-C leaves nothing behind.
    tokio::select! {
        outcome = job() => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn job() -> Result<(), Box<dyn Error>> {
    let model = Model::from_env().await?;
    println!("model: {model}");

    // The container sees the directory with the hook, and nothing else of this machine. It shares
    // the machine's network here, because the scripted model listens on loopback.
    let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks");
    let mut builder = DockerServer::builder()
        .volume(Volume::bind(hooks, "/hooks").read_only(true))
        .network("host")
        .on_progress(|step| println!("· {step}"));
    if let Ok(image) = env::var("OPENHANDS_IMAGE") {
        builder = builder.image(image);
    }
    let server = builder.start().await?;
    println!("server: {} at {}", server.info().version, server.url());

    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("pwd").await?;
    println!("$ {}: {}", output.command(), output.stdout().trim());

    let hook = Hook::command("/hooks/pycompile_check.sh").timeout(Duration::from_secs(60));
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(HookConfig::new().stop(hook))
        .on_event(|event| println!("{event}"))
        .start()
        .await?;
    conversation.send(TASK).await?;
    let outcome = conversation.run().await?.ensure_finished()?;
    println!("{outcome}");

    let check = "python3 -m py_compile test_broken.py";
    let compiles = workspace.execute(check).await?;
    conversation.close().await?;
    let ended = server.shutdown(Duration::from_secs(10)).await?;
    println!("server: {ended}");
    match compiles.success() {
        true => Ok(()),
        false => Err(format!("it does not compile: {}", compiles.stderr()).into()),
    }
}
