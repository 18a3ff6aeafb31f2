//! The main job: a local agent server, a command, a conversation with live events, and a Stop
//! hook that sends the agent back to work until its Python file compiles.
//!
//! Run it with `cargo xtask demo`. It uses the model of `LLM_API_KEY` (with `LLM_MODEL` and
//! `LLM_BASE_URL`), or else a scripted one on loopback. The server is a real one either way.

use std::{collections::BTreeSet, error::Error, time::Duration};

use openhands::prelude::*;
use openhands_examples::{Model, ProvisionBar};

const TASK: &str = "Create test_broken.py with a function that has a syntax error on purpose. \
    Then finish. If you are told that it does not compile, mend it and finish again.";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    openhands_examples::init_tracing();
    // Dropping the job drops its server: Ctrl-C leaves nothing behind either.
    tokio::select! {
        outcome = job() => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn job() -> Result<(), Box<dyn Error>> {
    let model = Model::from_env().await?;
    println!("model: {model}");

    // A server of our own: provisioned on first use, private state, a fresh session key.
    let bar = ProvisionBar::new();
    let server = LocalServer::builder()
        .on_progress(move |step| bar.show(&step))
        .start()
        .await?;
    println!(
        "server: {} at {}, pid {}",
        server.info().version,
        server.url(),
        server.pid()
    );

    // A command in the workspace.
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("pwd").await?;
    println!(
        "$ {} (exit {:?}): {}",
        output.command(),
        output.exit_code(),
        output.stdout().trim()
    );

    // A conversation. On the server, the Stop hook runs each time the agent wants to finish.
    let hook = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/pycompile_check.sh");
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(HookConfig::new().stop(Hook::command(hook).timeout(60)))
        .on_event(|event| println!("{event}"))
        .start()
        .await?;

    // Callbacks can be added at any time. This one sees hook executions only.
    let (seen, executions) = std::sync::mpsc::channel();
    let watching = conversation.on_hook(move |hook| _ = seen.send(hook.clone()));

    conversation.send(TASK).await?;
    let outcome = conversation.run().await?;
    watching.cancel().await;
    if !outcome.is_finished() {
        conversation.close().await?;
        return Err(format!("the agent did not finish: {outcome}").into());
    }

    // Another model configuration than the agent's makes the title.
    let title = conversation
        .generate_title()
        .llm(model.title())
        .max_length(60)
        .await?;
    conversation.set_title(&title).await?;
    println!("title: {title}");

    let mut blocked = Vec::new();
    for hook in executions.iter() {
        let (event, command, feedback) = (hook.hook_event_type, hook.hook_command, hook.stderr);
        println!(
            "hook {event} `{command}`: blocked {}, {}",
            hook.blocked,
            feedback.trim()
        );
        println!("  exit {:?}", hook.exit_code);
        blocked.push(hook.blocked);
    }

    let events = conversation.events();
    let kinds: BTreeSet<_> = events.iter().map(Event::kind).collect();
    println!(
        "{} events of the kinds {kinds:?}; the last 10:",
        events.len()
    );
    for event in events.last(10) {
        println!("  {} {}", event.timestamp(), event.kind());
    }
    for event in &events {
        if let Payload::ConversationStateUpdate(update) = event.payload() {
            println!("  state {}: {:.100}", update.key, update.value.to_string());
        }
    }

    let status = conversation.state().execution_status();
    let used = conversation.state().stats().combined();
    let (read, written) = (used.prompt_tokens(), used.completion_tokens());
    println!(
        "status {status}, cost ${:.4}, tokens {read} in, {written} out",
        used.accumulated_cost
    );

    let compiles = workspace
        .execute("python3 -m py_compile test_broken.py")
        .await?;
    conversation.close().await?;
    conversation.delete().await?;
    println!(
        "server: {}",
        server.shutdown(Duration::from_secs(10)).await?
    );

    model.verify()?;
    if !blocked.contains(&true) || blocked.last() != Some(&false) {
        return Err("the Stop hook should have denied at least once and allowed at last".into());
    }
    if !compiles.success() {
        return Err(format!("test_broken.py does not compile: {}", compiles.stderr()).into());
    }
    Ok(())
}
