//! The main example: a local agent server, a command, a conversation with live events, and a Stop
//! hook that sends the agent back to work until its Python file compiles.
//!
//! Run it with `cargo xtask demo`. It uses the model with the key in `LLM_API_KEY` (and `LLM_MODEL`
//! and `LLM_BASE_URL`), or else a scripted one on loopback. The server is a real one in both cases.

use std::{collections::BTreeSet, error::Error, time::Duration};

use openhands::prelude::*;
use openhands_examples::{Model, ProvisionBar};

const TASK: &str = "Create test_broken.py with a function that has a syntax error on purpose. \
    Then finish. If the file does not compile, correct it and finish again.";
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    openhands_examples::init_tracing();
    // Dropping the job drops its server, so Ctrl-C leaves nothing behind either.
    tokio::select! {
        outcome = job() => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn job() -> Result<(), Box<dyn Error>> {
    let model = Model::from_env().await?;
    println!("model: {model}");

    // Start a private server: provisioned on first use, with its own state and a new session key.
    let (builder, hooks) = (LocalServer::builder(), HOOKS);
    let bar = ProvisionBar::new();
    let builder = builder.on_progress(move |step| bar.show(&step));
    let server = builder.start().await?;
    println!("server: {} at {}", server.info().version, server.url());

    // Run a command in the workspace.
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("pwd").await?;
    println!("$ {}: {}", output.command(), output.stdout().trim());

    // Start a conversation. On the server, the Stop hook runs each time the agent wants to finish.
    let hook = format!("{hooks}/pycompile_check.sh");
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(HookConfig::new().stop(Hook::command(hook).timeout(Duration::from_secs(60))))
        .on_event(|event| println!("{event}"))
        .start()
        .await?;

    // Callbacks can be added at any time. This one passes hook executions on.
    let (seen, executions) = std::sync::mpsc::channel();
    let watching = conversation.on_event(move |event| {
        if let Payload::HookExecution(hook) = event.payload() {
            _ = seen.send(hook.clone());
        }
    });

    conversation.send(TASK).await?;
    let outcome = conversation.run().await?;
    watching.cancel().await;
    if !outcome.is_finished() {
        conversation.close().await?;
        return Err(format!("the agent did not finish: {outcome}").into());
    }

    // The title uses another model configuration than the agent.
    let title = conversation.title().generate().llm(model.title());
    let title = title.max_length(60).await?;
    conversation.title().set(&title).await?;
    println!("title: {title}");

    let mut blocked = Vec::new();
    for hook in executions.iter() {
        let (event, command) = (hook.hook_event_type, hook.hook_command);
        let exit = hook
            .exit_code
            .map_or("unknown".into(), |code| code.to_string());
        let feedback = hook.stderr.trim();
        println!(
            "hook {event} `{command}`: exit {exit}, blocked {}",
            hook.blocked
        );
        println!("  feedback: {feedback}");
        blocked.push(hook.blocked);
    }

    let events = conversation.events();
    let kinds: BTreeSet<_> = events.iter().map(Event::kind).collect();
    println!("{} events of the kinds {kinds:?}; the last:", events.len());
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
    println!("status {status}, cost ${:.4}", used.accumulated_cost);
    println!("tokens: {read} in, {written} out");

    let check = "python3 -m py_compile test_broken.py";
    let compiles = workspace.execute(check).await?;
    conversation.close().await?;
    conversation.delete().await?;
    let ended = server.shutdown(Duration::from_secs(10)).await?;
    println!("server: {ended}");

    model.verify()?;
    if !blocked.contains(&true) || blocked.last() != Some(&false) {
        return Err("the Stop hook should have denied, then allowed".into());
    }
    if !compiles.success() {
        return Err(format!("it does not compile: {}", compiles.stderr()).into());
    }
    Ok(())
}
