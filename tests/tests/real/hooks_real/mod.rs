//! Hooks on one real server. A dry run predicts the server's behaviour for each event. Programs
//! written with the kit receive the documented input. Models act as judges. Configurations that are
//! rejected here are rejected by the server.

mod detached;
mod refused;
mod trials;

use std::{path::Path, time::Duration};

use openhands::{
    Agent, Conversation, HookConfig, LocalServer, RunOutcome, WorkspaceExt,
    hooks::{HookExecutionEvent, HookOutcome, execution},
    protocol::config::Llm,
    testkit::{Script, ScriptedModel},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(180);

#[tokio::test]
async fn hooks_behave_as_documented() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    trials::what_a_trial_says_is_what_the_server_does(&server).await;
    trials::a_refused_message_is_refused_unless_it_gets_context(&server).await;
    detached::models_judge_and_fail_open(&server).await;
    detached::detached_hooks_run_and_cannot_deny(&server).await;
    detached::a_project_is_searched_as_here(&server).await;
    refused::what_is_refused_here_is_refused_there(&server).await;
    trials::the_end_of_a_session_is_in_its_log(server).await;
}

/// Starts a conversation in its own directory.
async fn start(
    server: &LocalServer,
    directory: &Path,
    model: &ScriptedModel,
    hooks: &HookConfig,
) -> Conversation {
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let workspace = server.workspace(directory.display().to_string());
    Conversation::builder(&workspace, Agent::default_preset(llm).cli_mode(true))
        .hooks(hooks.clone())
        .start()
        .await
        .unwrap()
}

async fn model(script: Script) -> ScriptedModel {
    ScriptedModel::start(script).await.unwrap()
}

/// Sends a message and runs the agent until it is done.
async fn say(conversation: &Conversation, text: &str) -> RunOutcome {
    conversation.send(text).await.unwrap();
    timeout(LONG, conversation.run()).await.unwrap().unwrap()
}

fn hook_events(conversation: &Conversation) -> Vec<HookExecutionEvent> {
    let events = conversation.events();
    events.iter().filter_map(execution).cloned().collect()
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Returns the server's report of a hook, for comparison.
fn theirs(hook: &HookExecutionEvent) -> Value {
    json!({
        "event": &*hook.hook_event_type,
        "hook": &*hook.hook_command,
        "success": hook.success,
        "blocked": hook.blocked,
        "exit": hook.exit_code,
        "reason": hook.reason.as_deref(),
        "context": hook.additional_context.as_deref(),
        "failed": hook.error.is_some(),
        "stdout": cut(&hook.stdout),
        "stderr": cut(&hook.stderr),
    })
}

/// Returns the dry run's report of a hook, for comparison.
fn ours(event: &str, hook: &HookOutcome) -> Value {
    json!({
        "event": event,
        "hook": hook.hook,
        "success": hook.success,
        "blocked": hook.blocked,
        "exit": hook.exit_code,
        "reason": hook.reason,
        "context": hook.additional_context,
        "failed": hook.error.is_some(),
        "stdout": cut(&hook.stdout),
        "stderr": cut(&hook.stderr),
    })
}
