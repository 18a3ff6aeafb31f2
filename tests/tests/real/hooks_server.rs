//! Hooks on the real server. Every event that can be denied is denied and allowed once, and the
//! executions are observed. A failing hook has the same effect as in a dry run.

use std::{
    future::poll_fn,
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::{Pin, pin},
    time::Duration,
};

use futures_core::Stream;
use openhands::{
    Agent, Conversation, Cursor, Hook, HookConfig, HookMatcher, Payload, WorkspaceExt,
    hooks::{
        DryRun, HookEventType, HookExecution, HookInput, SessionHooks, blocked_messages, execution,
        executions,
    },
    protocol::{calls, config::Llm},
    testkit::{Script, ScriptedModel},
};
use serde_json::json;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(20);

fn agent(model: &ScriptedModel) -> Agent {
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1);
    Agent::default_preset(llm).cli_mode(true)
}

/// Returns the event, denial and exit code of each hook, in order.
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

/// Returns a hook that denies once and allows from then on.
fn once(directory: &Path, name: &str) -> Hook {
    let mark = directory.join(name);
    let mark = mark.display();
    Hook::command(format!(
        "test -e {mark} || {{ touch {mark}; echo 'denied by {name}' >&2; exit 2; }}"
    ))
    .timeout(Duration::from_secs(60))
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Returns the first `count` items.
async fn first<S: Stream>(mut stream: Pin<&mut S>, count: usize) -> Vec<S::Item> {
    let mut items = Vec::new();
    while items.len() < count {
        items.extend(poll_fn(|cx| stream.as_mut().poll_next(cx)).await);
    }
    items
}

#[tokio::test]
async fn every_event_allows_and_denies_as_documented() {
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
    let (starts, ends) = (marks.path().join("starts"), marks.path().join("ends"));
    let hook = |line: &str| Hook::command(line).timeout(Duration::from_secs(60));
    let noting = |file: &Path, rest: &str| hook(&format!("echo x >> {}; {rest}", file.display()));
    let context = |text: &str| hook(&format!("echo '{}'", json!({"additionalContext": text})));
    let hooks = HookConfig::new()
        .session_start(noting(&starts, "exit 2"))
        .session_start(context("context at the start"))
        .user_prompt_submit(once(marks.path(), "prompt"))
        .user_prompt_submit(context("context of the message"))
        .pre_tool_use(HookMatcher::exact("terminal").hook(once(marks.path(), "pre")))
        .post_tool_use(HookMatcher::regex("term.*").hook(hook("exit 2")))
        .post_tool_use(HookMatcher::exact("terminal").hook(hook("exit 0")))
        .stop(once(marks.path(), "stop"))
        .session_end(noting(&ends, "exit 2"))
        .session_end(noting(&ends, "exit 0"));
    let conversation = Conversation::builder(&workspace, agent(&model))
        .hooks(hooks.clone())
        .start()
        .await
        .unwrap();
    // This server runs the session's hooks, so only the program's own hooks run locally.
    let mut session = SessionHooks::new(marks.path())
        .of_conversation(&hooks, server.info())
        .own(HookConfig::new().session_start(hook("echo own")));
    let mut watched =
        pin!(executions(conversation.subscribe(Cursor::Start)).with_local(session.watch()));
    session.start().await.unwrap();

    // The first message is denied. The denial still ends in a Stop event, and a Stop hook that
    // denies it makes the agent work on the message nevertheless.
    conversation.send("Refuse this.").await.unwrap();
    let refused = timeout(LONG, async {
        loop {
            match blocked_messages(&conversation.state()) {
                refused if refused.is_empty() => tokio::time::sleep(TICK).await,
                refused => break refused,
            }
        }
    });
    assert_eq!(refused.await.unwrap()[0].1, "denied by prompt");
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    conversation.send("Finish.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();
    let of = |event: &str, code| (event.to_owned(), code == 2, Some(code));
    let expected = [
        of("SessionStart", 2),
        of("SessionStart", 0),
        of("UserPromptSubmit", 2),
        of("Stop", 2),
        of("PreToolUse", 2),
        of("PreToolUse", 0),
        of("PostToolUse", 2),
        of("PostToolUse", 0),
        of("Stop", 0),
        of("UserPromptSubmit", 0),
        of("UserPromptSubmit", 0),
        of("Stop", 0),
    ];
    assert_eq!(seen(&conversation), expected);
    let events = conversation.events();
    let rejected: Vec<_> = events
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::UserReject(reject) => Some(reject.rejection_reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].contains("denied by pre"), "{rejected:?}");
    for reported in [
        "denied by stop",
        "context at the start",
        "context of the message",
    ] {
        let messages = events.iter().filter(|e| e.kind() == "MessageEvent");
        let mut texts = messages.map(|event| String::from_utf8_lossy(event.raw()));
        assert!(texts.any(|text| text.contains(reported)), "{reported}");
    }

    // The stream contains the same hooks. The local one appears once and is marked as local.
    let all = timeout(LONG, first(watched.as_mut(), expected.len() + 1)).await;
    let all: Vec<HookExecution> = all.unwrap().into_iter().map(Result::unwrap).collect();
    let local: Vec<_> = all.iter().filter(|hook| hook.local).collect();
    assert_eq!(local.len(), 1);
    assert!(local[0].stdout.starts_with("own") && local[0].duration.is_some());
    let denied = all.iter().find(|hook| *hook.hook_event_type == *"Stop");
    assert_eq!(denied.unwrap().feedback(), Some("denied by stop"));
    assert!(all.iter().any(|hook| hook.action_id.is_some()));
    assert!(all.iter().any(|hook| hook.message_id.is_some()));
    assert_eq!(lines(&starts), 1, "on the server, and not here too");

    let id = conversation.id();
    session.end().await.unwrap();
    server.shutdown(Duration::from_secs(20)).await.unwrap();
    assert_eq!(lines(&ends), 2, "SessionEnd of {id}");
}

/// Failing and valid commands.
const COMMANDS: [&str; 11] = [
    "exit 0",
    "exit 1",
    "exit 127",
    "/no/such/script",
    "./plain.sh",
    "sleep 30",
    "kill -9 $$",
    "kill -TERM $$",
    "echo '{broken'",
    "head -c 100000000 /dev/zero | tr '\\0' x",
    r#"echo '{"decision": "allow", "reason": "fine"}'"#,
];

fn plain(directory: &Path) {
    let script = directory.join("plain.sh");
    std::fs::write(&script, "#!/bin/sh\nexit 2\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn a_broken_hook_allows_on_the_server_as_in_a_dry_run() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir().display().to_string());
    let script = Script::new()
        .call("terminal", json!({"command": "echo first"}))
        .finish("Done.");
    let model = ScriptedModel::start(script).await.unwrap();
    let here = tempfile::tempdir().unwrap();
    plain(server.workspace_dir());
    plain(here.path());
    // Only one command is meant to exceed its limit, however busy the machine is.
    let timeouts = COMMANDS.iter().fold(HookConfig::new(), |hooks, command| {
        let limit = if command.starts_with("sleep") { 1 } else { 60 };
        hooks.stop(Hook::command(*command).timeout(Duration::from_secs(limit)))
    });
    let never = here.path().join("never");
    let line = format!("touch {}; exit 2", never.display());
    let with_bad_pattern = timeouts
        .clone()
        .pre_tool_use(HookMatcher::new("/[/").hook(Hook::command(line)));
    let conversation = Conversation::builder(&workspace, agent(&model))
        .hooks(with_bad_pattern)
        .start()
        .await
        .unwrap();
    conversation.send("Finish.").await.unwrap();
    let outcome = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let input = HookInput::new(HookEventType::Stop);
    let ours = DryRun::new(here.path()).run(&timeouts, &input).await;
    let ours: Vec<_> = ours
        .unwrap()
        .into_iter()
        .map(|o| {
            (
                o.hook,
                o.blocked,
                Some(o.exit_code),
                o.success,
                o.error.is_some(),
                o.reason,
            )
        })
        .collect();
    let events = conversation.events();
    let theirs: Vec<_> = events
        .iter()
        .filter_map(execution)
        .map(|hook| {
            assert!(hook.stdout.chars().count() <= 50_000);
            (
                hook.hook_command.to_string(),
                hook.blocked,
                hook.exit_code,
                hook.success,
                hook.error.is_some(),
                hook.reason.as_deref().map(str::to_owned),
            )
        })
        .collect();
    assert_eq!(ours.len(), COMMANDS.len());
    assert_eq!(theirs, ours);
    assert!(!never.exists(), "an invalid pattern matches nothing");
    let count = server
        .client()
        .call(&calls::events::Count::new(conversation.id()))
        .await
        .unwrap();
    assert!(count > 0);
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}
