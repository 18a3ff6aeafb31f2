//! Hooks on the real server: what breaks is seen, and lets things happen.

use std::time::Duration;

use openhands::{
    Agent, Conversation, Hook, HookConfig, LocalServer, WorkspaceExt,
    hooks::execution,
    protocol::{calls, config::Llm},
    testkit::{Script, ScriptedModel},
};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

fn agent(model: &ScriptedModel) -> Agent {
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    Agent::default_preset(llm).cli_mode(true)
}

/// What each hook did, in order: event, whether it denied, exit code.
fn seen(conversation: &Conversation) -> Vec<(String, bool, Option<i32>)> {
    let events = conversation.events();
    let hooks = events.iter().filter_map(execution);
    hooks
        .map(|hook| (hook.hook_event_type.clone(), hook.blocked, hook.exit_code))
        .collect()
}

#[tokio::test]
async fn a_broken_hook_lets_things_happen() {
    let server = LocalServer::builder().start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let script = Script::new().finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let hooks = HookConfig::new()
        .stop(Hook::command("/no/such/script"))
        .stop(Hook::command("sleep 30").timeout(1))
        .stop(Hook::command("kill -9 $$"));
    let conversation = Conversation::builder(&workspace, agent(&model))
        .hooks(hooks)
        .start()
        .await
        .unwrap();
    conversation.send("Finish.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let codes: Vec<_> = seen(&conversation).into_iter().map(|hook| hook.2).collect();
    assert_eq!(codes, [Some(127), Some(-1), Some(-9)]);
    let count = server
        .client()
        .call(&calls::events::Count::new(conversation.id()))
        .await
        .unwrap();
    assert!(count > 0);
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
