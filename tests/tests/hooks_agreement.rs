//! Patterns and verdicts here and in the server's own Python, on tables: they must agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use openhands::{
    Hook, HookConfig, HookMatcher,
    hooks::{DryRun, HookEventType, HookInput, matches, parse},
    process::Provisioner,
};
use serde_json::{Value, json};

const PATTERNS: &str = "
import json, sys
from openhands.sdk.hooks.config import HookMatcher
table = json.load(sys.stdin)
print(json.dumps([HookMatcher(matcher=m).matches(t) for m, t in table]))
";

const VERDICTS: &str = "
import json, sys
from openhands.sdk.hooks.config import HookDefinition
from openhands.sdk.hooks.executor import HookExecutor
from openhands.sdk.hooks.types import HookEvent
table = json.load(sys.stdin)
executor = HookExecutor(working_dir=table['dir'])
out = []
for command in table['commands']:
    event = HookEvent(event_type='Stop', session_id='s', working_dir=table['dir'])
    r = executor.execute(HookDefinition(command=command, timeout=2), event)
    out.append([r.success, r.blocked, r.exit_code, r.reason, r.additional_context,
                r.error is not None, r.stdout[:200], r.stderr[:200]])
print(json.dumps(out))
";

const RULES: &str = "
import json, sys
from openhands.sdk.hooks.config import HookConfig
def taken(text):
    try:
        HookConfig.model_validate(json.loads(text))
        return True
    except Exception:
        return False
print(json.dumps([taken(text) for text in json.load(sys.stdin)]))
";

async fn python(program: &str, input: &Value) -> Value {
    let environment = Provisioner::new().provision().await.unwrap();
    let mut child = Command::new(environment.python())
        .args(["-c", program])
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn patterns_agree_with_the_server() {
    let patterns = [
        "*",
        "",
        "terminal",
        "Terminal",
        "/terminal/",
        "/term/",
        "term",
        "term.*",
        "/.*nal/",
        "Edit|Write",
        "/Edit|Write/",
        "file_(edit|read)",
        "[",
        "/[/",
        "*foo",
        "a**",
        "//",
        "/",
        "(?i)TERMINAL",
        "^terminal$",
        "a|ab",
        "\\w+",
        "mcp__.*__x",
        ".",
    ];
    let tools = [
        None,
        Some("terminal"),
        Some("Edit"),
        Some("EditWrite"),
        Some("file_edit"),
        Some("["),
        Some("*foo"),
        Some("a**"),
        Some("//"),
        Some("/"),
        Some("ab"),
        Some("mcp__é__x"),
        Some(""),
    ];
    let table: Vec<_> = patterns
        .iter()
        .flat_map(|pattern| tools.iter().map(move |tool| (*pattern, *tool)))
        .collect();
    let theirs = python(PATTERNS, &json!(table)).await;
    for ((pattern, tool), theirs) in table.iter().zip(theirs.as_array().unwrap()) {
        let ours = matches(&HookMatcher::new(*pattern), *tool).unwrap();
        assert_eq!(json!(ours), *theirs, "pattern {pattern:?}, tool {tool:?}");
    }
}

#[tokio::test]
async fn rules_agree_with_the_server() {
    let of = |hook: &str| format!(r#"{{"stop": [{{"hooks": [{hook}]}}]}}"#);
    let table = [
        "{}".to_owned(),
        r#"{"hooks": {"Stop": []}}"#.to_owned(),
        r#"{"Stop": [], "stop": []}"#.to_owned(),
        r#"{"Stpo": []}"#.to_owned(),
        r#"{"stop": {}}"#.to_owned(),
        of(r#"{"command": "x"}"#),
        of(r#"{"command": "x", "async": true}"#),
        of(r#"{"command": "x", "timeout": "soon"}"#),
        of(r#"{"command": ""}"#),
        of("{}"),
        of(r#"{"type": "wasm", "command": "x"}"#),
        of(r#"{"type": "prompt", "prompt": "p"}"#),
        of(r#"{"type": "prompt"}"#),
        of(r#"{"type": "prompt", "prompt": "p", "command": "x"}"#),
        of(r#"{"type": "prompt", "prompt": "p", "async": true}"#),
        of(r#"{"type": "agent", "system_prompt": "p", "tools": ["terminal"]}"#),
        of(r#"{"type": "agent", "system_prompt": "p", "command": "x"}"#),
        of(r#"{"type": "agent", "system_prompt": "p", "async": true}"#),
    ];
    let theirs = python(RULES, &json!(table)).await;
    for (text, theirs) in table.iter().zip(theirs.as_array().unwrap()) {
        let ours = parse(text);
        assert_eq!(json!(ours.is_ok()), *theirs, "{text}: {ours:?}");
    }
}

#[tokio::test]
async fn verdicts_agree_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain.sh");
    std::fs::write(&plain, "#!/bin/sh\nexit 2\n").unwrap();
    std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let commands = [
        "exit 0",
        "exit 1",
        "echo 'no way ' >&2; exit 2",
        "exit 127",
        "/no/such/script",
        "./plain.sh",
        "kill -9 $$",
        "kill -TERM $$",
        "sleep 30",
        "cat",
        "pwd; echo $OPENHANDS_EVENT_TYPE $OPENHANDS_SESSION_ID $OPENHANDS_TOOL_NAME",
        "echo '{broken'",
        "echo '{broken'; exit 2",
        "printf '\\377'",
        "head -c 100000000 /dev/zero | tr '\\0' x",
        "head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 2",
        r#"echo '{"decision": "deny", "reason": "r"}'"#,
        r#"echo '{"decision": "DENY"}'; exit 1"#,
        r#"echo '{"decision": "allow"}'; exit 2"#,
        r#"echo '{"decision": "block"}'"#,
        r#"echo '{"decision": true, "reason": 5}'"#,
        r#"echo '{"reason": null, "additionalContext": true}'"#,
        r#"echo '{"additionalContext": "more"}'"#,
        r#"echo '{"continue": false}'"#,
        r#"echo '{"continue": 0}'"#,
        r#"echo '{"continue": ""}'"#,
        r#"echo '{"continue": "no"}'"#,
        r#"echo '{"continue": []}'"#,
        r#"echo '["deny"]'"#,
        r#"echo 'text {"decision": "deny"}'"#,
    ];
    let table = json!({"dir": directory.path(), "commands": commands});
    let theirs = python(VERDICTS, &table).await;
    assert_eq!(theirs.as_array().unwrap().len(), commands.len());
    for (command, theirs) in commands.iter().zip(theirs.as_array().unwrap()) {
        assert_eq!(ours(directory.path(), command).await, *theirs, "{command}");
    }
}

async fn ours(directory: &Path, command: &str) -> Value {
    let hooks = HookConfig::new().stop(Hook::command(command).timeout(2));
    let mut input = HookInput::new(HookEventType::Stop);
    input.session_id = Some("s".to_owned());
    let outcomes = DryRun::new(directory).run(&hooks, &input).await.unwrap();
    let cut = |text: &str| text.chars().take(200).collect::<String>();
    let one = &outcomes[0];
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
