//! The main job: a local agent server, a command, a conversation with live events, and a Stop
//! hook that sends the agent back to work until its Python file compiles.
//!
//! Run it with `cargo xtask demo`. It uses the model of `LLM_API_KEY` (with `LLM_MODEL` and
//! `LLM_BASE_URL`), or else a scripted one on loopback. The server is a real one either way.

use std::{collections::BTreeSet, error::Error, time::Duration};

use openhands::prelude::*;
use openhands_examples::{Model, ProvisionBar, say};

const TASK: &str = "Create test_broken.py holding a Python function with a syntax error on \
    purpose (a missing closing bracket). Then finish. If you are told that a file does not \
    compile, mend it and finish again.";

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
    say!("model: {model}");

    // A server of our own: provisioned on first use, private state, a fresh session key.
    let bar = ProvisionBar::new();
    let server = LocalServer::builder().on_progress(move |step| bar.show(step)).start().await?;
    say!("server: {} (version {})", server.url(), server.info().version());

    // A command in the workspace.
    let directory = server.workspace_dir();
    let workspace = server.workspace(directory);
    let output = workspace.execute("pwd").await?;
    say!("$ {} -> exit {:?}: {}", output.command(), output.exit_code(), output.stdout().trim());

    // A conversation. The Stop hook runs on the server each time the agent wants to finish.
    let hook = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/pycompile_check.sh");
    let agent = Agent::default_preset(model.agent()).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(HookConfig::new().stop(Hook::command(hook).timeout(60)))
        .on_event(|event| say!("{event}"))
        .start()
        .await?;

    // Callbacks can be added at any time; this one sees hook executions only.
    let (seen, mut stops) = tokio::sync::mpsc::unbounded_channel();
    let watching = conversation.on_event(move |event| {
        if let Payload::HookExecution(hook) = event.payload() {
            let _ = seen.send(hook.clone());
        }
    });

    conversation.send(TASK).await?;
    let outcome = conversation.run().await?;
    let title = conversation.generate_title().llm(model.title()).max_length(60).await?;
    watching.cancel().await;

    say!("\ntitle: {title}");
    let mut verdicts = Vec::new();
    while let Ok(hook) = stops.try_recv() {
        say!("hook {} `{}` blocked={} exit={:?} {}", hook.hook_event_type, hook.hook_command,
            hook.blocked, hook.exit_code, hook.reason.as_deref().unwrap_or_default().trim());
        verdicts.push(hook.blocked);
    }
    let events = conversation.events();
    say!("{} events, kinds {:?}", events.len(),
        events.iter().map(|event| event.kind().to_owned()).collect::<BTreeSet<_>>());
    for event in events.last(10) {
        say!("  {} {}", event.timestamp(), event.kind());
    }
    for event in events.iter() {
        if let Payload::ConversationStateUpdate(update) = event.payload() {
            say!("  state {} = {}", update.key, update.value);
        }
    }
    let state = conversation.state();
    let usage = state.stats().combined();
    say!("status {}, cost ${:.6}, tokens {} in, {} out", state.execution_status(),
        usage.accumulated_cost, usage.prompt_tokens(), usage.completion_tokens());

    let compiles = workspace.execute("python3 -m py_compile test_broken.py").await?;
    conversation.close().await?;
    conversation.delete().await?;
    let ended = server.shutdown(Duration::from_secs(5)).await?;
    say!("server ended: {ended}");

    match outcome {
        RunOutcome::Finished(_) => {}
        other => return Err(format!("the agent did not finish: {other}").into()),
    }
    if !verdicts.contains(&true) || verdicts.last() != Some(&false) {
        return Err("the Stop hook should have denied once and allowed at last".into());
    }
    if compiles.exit_code() != Some(0) {
        return Err("test_broken.py does not compile".into());
    }
    Ok(())
}
