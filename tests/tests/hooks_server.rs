//! Hooks on the real server: every event denies what it can and allows, and is seen doing so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{path::Path, time::Duration};

use openhands::{
    Agent, Conversation, Hook, HookConfig, HookMatcher, Payload, WorkspaceExt,
    hooks::execution,
    protocol::{calls, config::Llm},
    testkit::{Script, ScriptedModel},
};
use serde_json::json;
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
        .map(|hook| {
            (
                hook.hook_event_type.to_string(),
                hook.blocked,
                hook.exit_code,
            )
        })
        .collect()
}

/// Denies once, and allows from then on.
fn once(directory: &Path, name: &str) -> Hook {
    let mark = directory.join(name);
    let mark = mark.display();
    Hook::command(format!(
        "test -e {mark} || {{ touch {mark}; echo 'told by {name}' >&2; exit 2; }}"
    ))
    .timeout(10)
}

#[tokio::test]
async fn every_event_denies_what_it_can_and_allows() {
    let marks = tempfile::tempdir().unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let script = Script::new()
        .call("terminal", json!({"command": "echo first"}))
        .call("terminal", json!({"command": "echo second"}))
        .finish("Done.")
        .finish("Done at last.");
    let model = ScriptedModel::start(script).await.unwrap();
    let ended = marks.path().join("ended");
    let denying = |line: &str| Hook::command(line).timeout(10);
    let hooks = HookConfig::new()
        .session_start(denying("exit 2"))
        .user_prompt_submit(once(marks.path(), "prompt"))
        .pre_tool_use(HookMatcher::exact("terminal").hook(once(marks.path(), "pre")))
        .post_tool_use(HookMatcher::regex("term.*").hook(denying("exit 2")))
        .stop(once(marks.path(), "stop"))
        .session_end(denying(&format!("touch {}; exit 2", ended.display())));
    let conversation = Conversation::builder(&workspace, agent(&model))
        .hooks(hooks)
        .start()
        .await
        .unwrap();

    // The first message is refused. But the refusal ends in a Stop, and the Stop hook that denies
    // that sends the agent to work on it all the same.
    conversation.send("Refuse this.").await.unwrap();
    timeout(LONG, conversation.run()).await.unwrap().unwrap();
    conversation.send("Finish.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let of = |event: &str, code| (event.to_owned(), code == 2, Some(code));
    assert_eq!(
        seen(&conversation),
        [
            of("SessionStart", 2),
            of("UserPromptSubmit", 2),
            of("Stop", 2),
            of("PreToolUse", 2),
            of("PreToolUse", 0),
            of("PostToolUse", 2),
            of("Stop", 0),
            of("UserPromptSubmit", 0),
            of("Stop", 0),
        ]
    );
    let events = conversation.events();
    let rejected: Vec<_> = events
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::UserReject(reject) => Some(reject.rejection_reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].contains("told by pre"), "{rejected:?}");
    assert!(events.iter().any(|event| {
        event.kind() == "MessageEvent"
            && String::from_utf8_lossy(event.raw()).contains("told by stop")
    }));

    let id = conversation.id();
    server.shutdown(Duration::from_secs(20)).await.unwrap();
    assert!(ended.exists(), "SessionEnd did not run for {id}");
}

#[tokio::test]
async fn a_broken_hook_lets_things_happen() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
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
