//! Results of hooks: exit codes and outputs, a model's replies, and all hooks of an event.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use openhands::{
    Hook, HookConfig,
    hooks::{DryRun, HookEventType, HookInput, HookOutcome},
};
use serde_json::{Value, json};

use super::python;

const COMMANDS: &[&str] = &[
    "exit 0",
    "exit 1",
    "echo 'no way ' >&2; exit 2",
    "exit 3",
    "exit 127",
    "exit 255",
    "/no/such/script",
    "./plain.sh",
    "kill -9 $$",
    "kill -TERM $$",
    "sleep 30",
    "sleep 30 & exit 2",
    "cat",
    "pwd; echo $OPENHANDS_EVENT_TYPE $OPENHANDS_SESSION_ID $OPENHANDS_TOOL_NAME",
    "echo '{broken'",
    "echo '{broken'; exit 2",
    "printf '\\377'",
    "printf '\\377' >&2; exit 2",
    "printf 'a\\r\\nb\\rc'",
    "head -c 100000000 /dev/zero | tr '\\0' x",
    "head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 2",
    r#"echo '{"decision": "deny", "reason": "r"}'"#,
    r#"echo '{"decision": "DENY"}'; exit 1"#,
    r#"echo '{"decision": "allow"}'; exit 2"#,
    r#"echo '{"decision": "block"}'"#,
    r#"echo '{"decision": true, "reason": 5}'"#,
    r#"echo '{"reason": null, "additionalContext": true}'"#,
    r#"echo '{"additionalContext": "more"}'"#,
    r#"echo '{"additionalContext": ""}'"#,
    r#"echo '{"continue": false}'"#,
    r#"echo '{"continue": 0}'"#,
    r#"echo '{"continue": 0.0}'"#,
    r#"echo '{"continue": ""}'"#,
    r#"echo '{"continue": "no"}'"#,
    r#"echo '{"continue": []}'"#,
    r#"echo '{"continue": null}'"#,
    r#"echo '["deny"]'"#,
    r#"echo 'text {"decision": "deny"}'"#,
    r#"echo '{"decision": "deny"} text'"#,
    r#"printf '\r\n {"decision": "deny"}\t\r'"#,
    r#"printf '\357\273\277{"decision": "deny"}'"#,
    r#"echo '{"decision": "deny", "n": NaN, "i": -Infinity}'"#,
    r#"echo '{"decision": "allow", "decision": "deny"}'"#,
    r#"echo '{"decision": "deny", "x": "\\ud800"}'"#,
    r#"echo '{"reason": ["it'"'"'s", {"a": 1e16, "b": -0.5}, "\\u00e9", 12345678901234567890]}'"#,
    r#"printf '{"decision": "deny", "deep": '; printf '[%.0s' $(seq 300); printf ']%.0s' $(seq 300); echo '}'"#,
    r#"printf '{"decision": "deny", "deep": '; head -c 200000 /dev/zero | tr '\0' '['"#,
    r#"printf '{"decision": "deny", "long": "'; head -c 900000 /dev/zero | tr '\0' x; echo '"}'"#,
];

const REPLIES: [&str; 14] = [
    "",
    "allow",
    r#"{"decision": "allow", "reason": "fine"}"#,
    r#"{"decision": "deny", "reason": "no"}"#,
    r#"{"decision": "DENY"}"#,
    r#"{"decision": "deny", "reason": null}"#,
    r#"{"decision": true}"#,
    r#"{"decision": "maybe"}"#,
    r#"{"reason": "no"}"#,
    "```json\n{\"decision\": \"deny\", \"reason\": \"fenced\"}\n```",
    r#"I say {this}: {"decision": "deny", "reason": "prose"} {"decision": "allow"}"#,
    r#"["deny", {"decision": "deny"}]"#,
    r#"{"decision": "deny""#,
    r#"{"inner": {"decision": "deny"}}"#,
];

/// Hooks of one event, in their order.
const CHAINS: [&[&str]; 9] = [
    &["exit 0", "exit 0"],
    &["exit 1", "exit 0"],
    &["exit 0", "echo one >&2; exit 2", "echo two >&2; exit 2"],
    &["exit 2"],
    &[r#"echo '{"reason": "r"}'; echo e >&2; exit 2"#],
    &[r#"echo '{"reason": ""}'; echo e >&2; exit 2"#],
    &[
        r#"echo '{"additionalContext": "c"}'"#,
        r#"echo '{"additionalContext": "d"}'"#,
    ],
    &[
        r#"echo '{"additionalContext": "c"}'"#,
        "echo no >&2; exit 2",
    ],
    &[
        r#"echo '{"additionalContext": "c", "reason": "r"}'; exit 2"#,
        "exit 0",
    ],
];

fn shown(one: &HookOutcome) -> Value {
    let cut = |text: &str| text.chars().take(200).collect::<String>();
    json!([
        one.success,
        one.blocked,
        one.exit_code,
        one.reason,
        one.additional_context,
        one.error.is_some(),
        cut(&one.stdout),
        cut(&one.stderr)
    ])
}

fn input(event: HookEventType) -> HookInput {
    let mut input = HookInput::new(event);
    input.session_id = Some("s".to_owned());
    if input.event_type.has_tool() {
        input = input.tool("terminal", json!({}));
    }
    input
}

#[tokio::test]
async fn verdicts_agree_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain.sh");
    std::fs::write(&plain, "#!/bin/sh\nexit 2\n").unwrap();
    std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let events: Vec<_> = HookEventType::ALL
        .into_iter()
        .flat_map(|event| CHAINS.iter().map(move |chain| (event.clone(), *chain)))
        .collect();
    let asked = json!({
        "dir": directory.path(), "commands": COMMANDS, "replies": REPLIES, "events": events,
    });
    let theirs = python(include_str!("verdicts.py"), &asked).await;

    let of = |key: &str| theirs[key].as_array().unwrap().iter();
    assert_eq!(of("commands").count(), COMMANDS.len());
    for (command, theirs) in COMMANDS.iter().zip(of("commands")) {
        // Only these are meant to exceed their limit, however busy the machine is.
        let limit = if command.starts_with("sleep") { 2 } else { 60 };
        let hook = Hook::command(*command).timeout(Duration::from_secs(limit));
        let ours = stop(directory.path(), hook, None).await;
        assert_eq!(shown(&ours), *theirs, "{command}");
    }

    let kinds = [Hook::prompt("p"), Hook::agent("a")];
    let asked = kinds
        .iter()
        .flat_map(|hook| REPLIES.iter().map(move |reply| (hook, *reply)));
    for ((hook, reply), theirs) in asked.zip(of("replies")) {
        let ours = stop(directory.path(), hook.clone(), Some(reply)).await;
        assert_eq!(shown(&ours), *theirs, "{reply}");
    }

    assert_eq!(of("events").count(), events.len());
    for ((event, chain), theirs) in events.iter().zip(of("events")) {
        let hook = |line: &&str| Hook::command(*line).timeout(Duration::from_secs(60));
        let hooks = chain
            .iter()
            .map(hook)
            .fold(HookConfig::new(), |all, hook| all.on(event.clone(), hook));
        let run = DryRun::new(directory.path());
        let trial = run.run(&hooks, &input(event.clone())).await.unwrap();
        let about = format!("{event} {chain:?}");
        let outcomes: Vec<_> = trial.iter().map(shown).collect();
        assert_eq!(json!(outcomes), theirs[3], "{about}");
        let stopped = theirs[0] == false;
        if *event == HookEventType::UserPromptSubmit {
            assert_eq!(json!(trial.context()), theirs[1], "{about}");
            // With added context the message gets a new id, and the denied one is the old message.
            assert_eq!(trial.denied(), stopped && theirs[1].is_null(), "{about}");
        } else {
            assert_eq!(trial.denied(), stopped, "{about}");
        }
        if *event == HookEventType::PreToolUse {
            assert_eq!(json!(trial.feedback()), theirs[2], "{about}");
        }
    }
}

async fn stop(directory: &Path, hook: Hook, reply: Option<&str>) -> HookOutcome {
    let run = DryRun::new(directory);
    let run = match reply {
        Some(reply) => run.reply(reply),
        None => run,
    };
    let hooks = HookConfig::new().stop(hook);
    let trial = run.run(&hooks, &input(HookEventType::Stop)).await.unwrap();
    trial.outcomes[0].clone()
}
