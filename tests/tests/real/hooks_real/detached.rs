//! Hooks of the other kinds, detached hooks, and hooks stored in a project.

use std::{fs, time::Duration};

use openhands::{
    Hook, HookConfig, HookMatcher, LocalServer, Payload,
    hooks::{DryRun, HookEventType, HookInput, load, save},
    protocol::calls,
    testkit::Script,
};
use serde_json::json;

use super::{hook_events, model, ours, say, start, theirs};

const AGENT_SAYS: &str = r#"{"decision": "deny", "reason": "the agent says no"}"#;
const PROMPT_SAYS: &str = r#"Well: {"decision": "deny", "reason": "the model says no"}"#;

pub(crate) async fn models_judge_and_fail_open(server: &LocalServer) {
    let hooks = HookConfig::new()
        .pre_tool_use(HookMatcher::exact("terminal").hook(Hook::agent("Be strict.").name("judge")))
        .stop(Hook::prompt("Never enough."));
    let model = model(
        Script::new()
            .call("terminal", json!({"command": "echo denied"}))
            .finish(AGENT_SAYS)
            .call("terminal", json!({"command": "echo allowed"}))
            .finish(r#"{"decision": "allow", "reason": "fine"}"#)
            .finish("Done.")
            .text(PROMPT_SAYS)
            .finish("Done at last.")
            .text("I cannot say."),
    )
    .await;
    let directory = server.workspace_dir().join("models");
    let conversation = start(server, &directory, &model, &hooks).await;
    let outcome = say(&conversation, "Work.").await;
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let terminal = HookInput::new(HookEventType::PreToolUse).tool("terminal", json!({}));
    let stop = HookInput::new(HookEventType::Stop);
    let mut said = Vec::new();
    for (input, reply) in [
        (&terminal, AGENT_SAYS),
        (&terminal, r#"{"decision": "allow", "reason": "fine"}"#),
        (&stop, PROMPT_SAYS),
        (&stop, "I cannot say."),
    ] {
        let trial = DryRun::new("/tmp")
            .reply(reply)
            .run(&hooks, input)
            .await
            .unwrap();
        let event = input.event_type.as_str();
        said.extend(trial.iter().map(|one| ours(event, one)));
    }
    let seen: Vec<_> = hook_events(&conversation).iter().map(theirs).collect();
    assert_eq!(seen, said);
    let events = conversation.events();
    let rejected = |event: &&_| matches!(openhands::Event::payload(event), Payload::UserReject(_));
    assert_eq!(events.iter().filter(rejected).count(), 1);
}

pub(crate) async fn detached_hooks_run_and_cannot_deny(server: &LocalServer) {
    let directory = server.workspace_dir().join("detached");
    let line = r#"cat > "$OPENHANDS_PROJECT_DIR/input"; exit 2"#;
    let hooks = HookConfig::new()
        .pre_tool_use(
            Hook::command(line)
                .timeout(Duration::from_secs(60))
                .detached(),
        )
        .stop(
            Hook::command(line)
                .timeout(Duration::from_secs(60))
                .detached(),
        );
    let model = model(Script::new().finish("Done.")).await;
    let conversation = start(server, &directory, &model, &hooks).await;
    let outcome = say(&conversation, "Finish.").await;
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let mut said = Vec::new();
    for event in [HookEventType::PreToolUse, HookEventType::Stop] {
        let input = match event.has_tool() {
            true => HookInput::new(event.clone()).tool("finish", json!({})),
            false => HookInput::new(event.clone()),
        };
        let here = tempfile::tempdir().unwrap();
        let trial = DryRun::new(here.path()).run(&hooks, &input).await.unwrap();
        said.extend(trial.iter().map(|one| ours(event.as_str(), one)));
    }
    let seen: Vec<_> = hook_events(&conversation).iter().map(theirs).collect();
    assert_eq!(seen, said);
    let arrived = async {
        while !fs::read_to_string(directory.join("input"))
            .is_ok_and(|text| text.contains("event_type"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::LONG, arrived).await.unwrap();
}

pub(crate) async fn a_project_is_searched_as_here(server: &LocalServer) {
    let directory = server.workspace_dir().join("searched");
    let file = directory.join(".openhands/hooks.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let discover = calls::hooks::Discover::new(directory.display().to_string());
    let search = || server.client().call(&discover);
    // The server reports neither a broken file nor the keys that it ignores. This library returns
    // an error for a broken file, and names the ignored keys.
    let of = |key: &str| format!(r#"{{"{key}": [{{"hooks": [{{"command": "x"}}]}}]}}"#);
    let misspelt = r#"{"stop": [{"hooks": [{"command": "x", "timout": 1}]}]}"#;
    let twice =
        r#"{"stop": [{"hooks": [{"command": "x"}]}], "stop": [{"hooks": [{"command": "y"}]}]}"#;
    for (text, read, ignored) in [
        (of("stop"), true, 0),
        (of("Stop"), true, 0),
        (of("preToolUse"), true, 0),
        (format!(r#"{{"hooks": {}}}"#, of("PostToolUse")), true, 0),
        (of("Stpo"), false, 0),
        ("{\"stop\": [".to_owned(), false, 0),
        (misspelt.to_owned(), true, 1),
        (twice.to_owned(), true, 1),
    ] {
        fs::write(&file, &text).unwrap();
        let found = search().await.unwrap();
        let loaded = load(&file);
        assert_eq!((found.is_some(), loaded.is_ok()), (read, read), "{text}");
        let Ok(loaded) = loaded else { continue };
        assert_eq!(loaded.ignored().len(), ignored, "{text}: {loaded:?}");
        assert_eq!(found, Some(loaded), "{text}");
    }
    let hooks = HookConfig::new()
        .stop(
            Hook::agent("Be strict.")
                .tool("terminal")
                .max_iterations(5)
                .name("n"),
        )
        .session_end(Hook::command("x").detached());
    save(&hooks, &file).unwrap();
    assert_eq!(search().await.unwrap(), Some(hooks));
    fs::remove_file(&file).unwrap();
    assert_eq!(search().await.unwrap(), None);
}
