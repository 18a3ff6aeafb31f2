//! The example hooks in a project's hooks file, found and run by the real server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf, time::Duration};

use openhands::{
    Agent, Conversation, Hook, HookConfig, HookMatcher, LocalServer, Payload, WorkspaceExt,
    hooks::{self, DryRun, HookEventType, HookInput, execution},
    protocol::{calls, config::Llm},
    testkit::{Script, ScriptedModel},
};
use serde_json::json;

/// Returns the path of the Rust hook, as Cargo built it.
fn guard() -> String {
    env!("CARGO_BIN_EXE_hook_guard").to_owned()
}

fn check() -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("hooks/pycompile_check.sh");
    format!("sh {}", script.display())
}

fn both() -> HookConfig {
    HookConfig::new()
        .pre_tool_use(
            HookMatcher::exact("terminal")
                .hook(Hook::command(guard()).timeout(Duration::from_secs(20))),
        )
        .stop(Hook::command(check()).timeout(Duration::from_secs(30)))
}

#[tokio::test]
async fn the_hooks_of_a_project_are_found_and_guard_the_agent() {
    let home = tempfile::tempdir().unwrap();
    let server = LocalServer::builder()
        .env("HOME", home.path())
        .start()
        .await
        .unwrap();
    let project = server.workspace_dir();
    fs::write(project.join("broken.py"), "def f(:\n").unwrap();
    hooks::save(&both(), project.join(".openhands/hooks.json")).unwrap();
    let discover = calls::hooks::Discover::new(project.display().to_string());
    let found = server.client().call(&discover).await.unwrap();
    assert_eq!(found, Some(both()));

    let mend = "printf 'x = 1\\n' > broken.py";
    let script = Script::new()
        .call("terminal", json!({"command": "rm -rf /tmp/no-such-tree"}))
        .finish("Done.")
        .call("terminal", json!({"command": mend}))
        .finish("Done at last.");
    let model = ScriptedModel::start(script).await.unwrap();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    let workspace = server.workspace(project.display().to_string());
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .hooks(found.unwrap())
        .start()
        .await
        .unwrap();
    conversation.send("Tidy up.").await.unwrap();
    let run = tokio::time::timeout(Duration::from_secs(120), conversation.run());
    let outcome = run.await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let events = conversation.events();
    let seen: Vec<_> = events.iter().filter_map(execution).collect();
    let short: Vec<_> = seen
        .iter()
        .map(|hook| (hook.hook_event_type.as_str(), hook.blocked, hook.exit_code))
        .collect();
    assert_eq!(
        short,
        [
            ("PreToolUse", true, Some(2)),
            ("Stop", true, Some(2)),
            ("PreToolUse", false, Some(0)),
            ("Stop", false, Some(0)),
        ]
    );
    assert_eq!(seen[0].reason.as_deref(), Some("do not remove whole trees"));
    assert!(seen[1].stderr.contains("broken.py does not compile"));
    let rejected = |event: &&_| matches!(openhands::Event::payload(event), Payload::UserReject(_));
    assert_eq!(events.iter().filter(rejected).count(), 1);
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn hooks_can_be_tried_without_a_server() {
    let project = tempfile::tempdir().unwrap();
    let run = DryRun::new(project.path());
    let terminal = |line: &str| {
        HookInput::new(HookEventType::PreToolUse).tool("terminal", json!({"command": line}))
    };
    let stop = HookInput::new(HookEventType::Stop);
    fs::write(project.path().join("fine.py"), "x = 1\n").unwrap();
    for (input, blocked) in [
        (terminal("ls"), false),
        (terminal("rm -rf /"), true),
        (stop.clone(), false),
    ] {
        let outcomes = run.run(&both(), &input).await.unwrap();
        assert_eq!(outcomes[0].blocked, blocked, "{outcomes:?}");
        assert!(outcomes[0].error.is_none() && outcomes[0].exit_code != 1);
    }
    fs::write(project.path().join("broken.py"), "def f(:\n").unwrap();
    let outcomes = run.run(&both(), &stop).await.unwrap();
    let feedback = outcomes[0].feedback().unwrap();
    assert!(
        feedback.contains("broken.py does not compile"),
        "{feedback}"
    );
}
