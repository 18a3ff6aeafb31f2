//! Compares dry runs with the real server, on the events that the server recorded.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use openhands::{
    Conversation, Hook, HookConfig, HookMatcher, LocalServer, Payload,
    hooks::{DryRun, HookEventType, HookInput, Trial, blocked_messages},
    testkit::Script,
};
use serde_json::{Value, json};

use super::{hook_events, model, ours, say, start, theirs};

/// Failing and valid commands. After a tool, no hook stops the next one.
const TABLE: &[&str] = &[
    "exit 0",
    "exit 1",
    "echo no >&2; exit 2",
    "exit 127",
    "/no/such/script",
    "./plain.sh",
    "sleep 30",
    "kill -9 $$",
    "kill -TERM $$",
    "echo '{broken'",
    "echo '{broken'; exit 2",
    "printf '\\377'",
    "printf 'a\\r\\nb'",
    "head -c 100000000 /dev/zero | tr '\\0' x; exit 2",
    r#"echo '{"decision": "deny", "reason": "r"}'"#,
    r#"echo '{"decision": "allow"}'; exit 2"#,
    r#"echo '{"decision": "deny", "n": NaN}'"#,
    r#"echo '{"continue": 0, "reason": ["a", 1.5, null]}'; exit 1"#,
    r#"echo '{"additionalContext": "more"}'"#,
];

const PROBE: &str = env!("CARGO_BIN_EXE_hook_probe");

/// Runs the command only once per directory.
fn once(name: &str, line: &str) -> Hook {
    let mark = format!("\"$OPENHANDS_PROJECT_DIR/.{name}\"");
    Hook::command(format!("test -e {mark} || {{ touch {mark}; {line}; }}"))
        .timeout(Duration::from_secs(60))
}

fn hooks() -> HookConfig {
    let probe = || Hook::command(PROBE).timeout(Duration::from_secs(60));
    let quick = |line: &str| Hook::command(line).timeout(Duration::from_secs(60));
    let context = r#"echo '{"additionalContext": "at the start"}'"#;
    let again = r#"echo '{"additionalContext": "more to do", "reason": "r"}'; exit 2"#;
    let mut hooks = HookConfig::new()
        .session_start(probe())
        .session_start(quick(&format!("{context}; exit 2")))
        .session_start(quick("exit 3"))
        .user_prompt_submit(probe())
        .user_prompt_submit(quick(r#"echo '{"additionalContext": "one"}'"#))
        .user_prompt_submit(quick(r#"echo '{"additionalContext": "two"}'"#))
        .pre_tool_use(HookMatcher::new("(?!finish$).*").hook(probe()))
        .pre_tool_use(HookMatcher::new("/[/").hook(quick("exit 2")))
        .pre_tool_use(HookMatcher::exact("terminal").hook(once("pre", "echo not yet >&2; exit 2")))
        .pre_tool_use(HookMatcher::exact("terminal").hook(quick("exit 1")))
        .stop(probe())
        .stop(once("stop", again))
        .stop(quick("exit 1"))
        .session_end(probe())
        .session_end(quick("exit 2"))
        .session_end(quick("echo last"))
        .post_tool_use(HookMatcher::regex("term.*").hook(probe()));
    for line in TABLE {
        // Only one command is meant to exceed its limit, however busy the machine is.
        let seconds = if line.starts_with("sleep") { 2 } else { 60 };
        let hook = Hook::command(*line).timeout(Duration::from_secs(seconds));
        hooks = hooks.post_tool_use(HookMatcher::exact("terminal").hook(hook));
    }
    hooks
}

fn plain(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let script = directory.join("plain.sh");
    fs::write(&script, "#!/bin/sh\nexit 2\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
}

fn place(server: &LocalServer) -> PathBuf {
    server.workspace_dir().join("trials")
}

pub(crate) async fn what_a_trial_says_is_what_the_server_does(server: &LocalServer) {
    let there = place(server);
    let here = tempfile::tempdir().unwrap();
    plain(&there);
    plain(here.path());
    let model = model(
        Script::new()
            .call("terminal", json!({"command": "echo denied"}))
            .call("terminal", json!({"command": "echo allowed"}))
            .finish("Done.")
            .finish("Done at last."),
    )
    .await;
    let conversation = start(server, &there, &model, &hooks()).await;
    let outcome = say(&conversation, "Work.").await;
    assert!(outcome.is_finished(), "{outcome}");
    model.verify().unwrap();

    let hooks = hooks();
    let run = DryRun::new(here.path());
    let mut said: Vec<Value> = Vec::new();
    let mut trials = Vec::new();
    for input in recorded(&conversation) {
        let trial = run.run(&hooks, &input).await.unwrap();
        let event = input.event_type.as_str();
        said.extend(trial.iter().map(|outcome| ours(event, outcome)));
        trials.push(trial);
    }
    let seen: Vec<_> = hook_events(&conversation).iter().map(theirs).collect();
    assert_eq!(seen.len(), 3 + 3 + 2 + 3 + 1 + TABLE.len() + 2 + 3);
    for (seen, said) in seen.iter().zip(&said) {
        assert_eq!(seen, said);
    }
    assert_eq!(seen.len(), said.len());
    effects(&conversation, &trials);
    probed(&there, &conversation);
}

/// Returns the events that concern hooks, in the order in which the server ran the hooks.
fn recorded(conversation: &Conversation) -> Vec<HookInput> {
    let events = conversation.events();
    let actions: Vec<_> = events.of_kind("ActionEvent").collect();
    let terminal = |index: usize| HookInput::recorded(actions[index]).unwrap();
    let message = events.of_kind("MessageEvent").find_map(HookInput::recorded);
    let seen = events.of_kind("ObservationEvent").next().unwrap();
    let mut stop = HookInput::new(HookEventType::Stop);
    stop.metadata
        .insert("reason".to_owned(), json!("agent_finished"));
    let mut inputs = vec![
        HookInput::new(HookEventType::SessionStart),
        message.unwrap(),
        terminal(0),
        terminal(1),
        HookInput::recorded_response(actions[1], seen).unwrap(),
        stop.clone(),
        stop,
    ];
    for input in &mut inputs {
        input.session_id = Some(conversation.id().to_string());
    }
    inputs
}

/// Asserts that each verdict had the effect on the server that the trial predicts.
fn effects(conversation: &Conversation, trials: &[Trial]) {
    let [start, prompt, denied, allowed, after, again, done] = trials else {
        panic!("{}", trials.len());
    };
    let events = conversation.events();
    let messages: Vec<_> = events
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::Message(message) => Some((event.source().to_string(), message)),
            _ => None,
        })
        .collect();
    let from_environment = |text: String| {
        messages
            .iter()
            .any(|(source, message)| source == "environment" && message.llm_message.text() == text)
    };
    assert!(!start.denied());
    assert!(from_environment(start.context().unwrap()));

    assert!(!prompt.denied());
    let raw: Vec<_> = events
        .of_kind("MessageEvent")
        .map(|event| event.as_json())
        .collect();
    let context = serde_json::to_string(&prompt.context().unwrap()).unwrap();
    assert!(
        raw.iter().any(|json| json.contains(&context)),
        "{context}: {raw:?}"
    );

    let rejections: Vec<_> = events
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::UserReject(reject) => Some(reject.rejection_reason.to_string()),
            _ => None,
        })
        .collect();
    assert!(denied.denied() && !allowed.denied());
    assert_eq!(rejections.len(), 1);
    assert!(
        rejections[0].contains(&denied.feedback().unwrap()),
        "{rejections:?}"
    );

    assert!(!after.denied() && after.iter().any(|outcome| outcome.blocked));

    assert!(again.denied() && !done.denied());
    let feedback = again.feedback().unwrap();
    assert_eq!(feedback, "more to do");
    assert!(from_environment(format!("[Stop hook feedback] {feedback}")));
}

/// Asserts the input that a program written with the kit received for each event.
fn probed(directory: &Path, conversation: &Conversation) {
    let text = fs::read_to_string(directory.join("probe.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = lines
        .iter()
        .map(|line| line["event"]["event_type"].as_str().unwrap())
        .collect();
    let expected = "SessionStart UserPromptSubmit PreToolUse PreToolUse PostToolUse Stop Stop";
    assert_eq!(names.join(" "), expected);
    let id = conversation.id().to_string();
    for line in &lines {
        let event = &line["event"];
        let environment = json!([event["event_type"], id, event["tool_name"]]);
        assert_eq!(line["environment"], environment, "{line}");
        assert_eq!(event["session_id"], id, "{line}");
        assert_eq!(
            event["working_dir"],
            directory.display().to_string(),
            "{line}"
        );
    }
    assert_eq!(lines[1]["event"]["message"], "Work.");
    for (line, command) in [(2, "echo denied"), (3, "echo allowed"), (4, "echo allowed")] {
        assert_eq!(lines[line]["action"], "TerminalAction");
        assert_eq!(lines[line]["command"], command);
    }
    assert!(
        lines[4]["answer"].as_str().unwrap().contains("allowed"),
        "{}",
        lines[4]
    );
    assert_eq!(lines[5]["reason"], "agent_finished");
}

pub(crate) async fn a_refused_message_is_refused_unless_it_gets_context(server: &LocalServer) {
    let deny = "echo never >&2; exit 2";
    let context = r#"echo '{"additionalContext": "but this"}'; exit 2"#;
    for (line, denied) in [(deny, true), (context, false)] {
        let script = match denied {
            true => Script::new(),
            false => Script::new().finish("Done."),
        };
        let model = model(script).await;
        let hooks = HookConfig::new()
            .user_prompt_submit(Hook::command(line).timeout(Duration::from_secs(60)));
        let directory = server.workspace_dir().join(format!("refused-{denied}"));
        let conversation = start(server, &directory, &model, &hooks).await;
        let outcome = say(&conversation, "Hello.").await;
        assert!(outcome.is_finished(), "{outcome}");
        model.verify().unwrap();
        let input = HookInput::new(HookEventType::UserPromptSubmit).message("Hello.");
        let trial = DryRun::new("/tmp").run(&hooks, &input).await.unwrap();
        assert_eq!(trial.denied(), denied);
        let worked = conversation
            .events()
            .of_kind("ActionEvent")
            .next()
            .is_some();
        assert_eq!(worked, !denied, "{line}");
        if denied {
            assert_eq!(trial.feedback().as_deref(), Some("never"));
            // The message was reported while it was blocked.
            let events = conversation.events();
            let reported = events.of_kind("ConversationStateUpdateEvent");
            let mut reported =
                reported.filter(|event| event.as_json().contains("blocked_messages"));
            let first = reported.next().unwrap();
            assert!(first.as_json().contains("never"), "{}", first.as_json());
        }
        // If the message got context, an entry is ignored or belongs to another message.
        assert!(
            blocked_messages(&conversation.state())
                .iter()
                .all(|(_, why)| !denied || why == "never")
        );
    }
}

pub(crate) async fn the_end_of_a_session_is_in_its_log(server: LocalServer) {
    let there = place(&server);
    let log = tempfile::tempdir().unwrap();
    // Copied, because the directory is removed with the server.
    let state = server.state_dir().to_owned();
    let keep = log.path().to_owned();
    let before = ends(&state);
    assert!(before.is_empty(), "{before:?}");
    fs::remove_file(there.join("probe.jsonl")).unwrap();
    let pid = server.pid();
    // Ended by a direct signal, so that its state directory can be inspected.
    let ended = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status();
    assert!(ended.unwrap().success());
    let written = async {
        while ends(&state).len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(super::LONG, written).await.unwrap();
    let seen = ends(&state);
    let run = DryRun::new(&keep);
    let input = HookInput::new(HookEventType::SessionEnd);
    let trial = run.run(&hooks(), &input).await.unwrap();
    assert!(!trial.denied() && trial[1].blocked);
    let said: Vec<_> = trial.iter().map(|one| ours("SessionEnd", one)).collect();
    assert_eq!(seen, said);
    let probe = fs::read_to_string(there.join("probe.jsonl")).unwrap();
    assert!(probe.contains(r#""event_type":"SessionEnd""#), "{probe}");
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

/// Returns the SessionEnd hooks in a server's stored logs, because no socket sends them.
fn ends(state: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    let mut places = vec![state.to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|end| end == "json")
                && let Ok(event) = openhands::Event::from_json(fs::read(&path).unwrap_or_default())
                && let Some(hook) = openhands::hooks::execution(&event)
                && *hook.hook_event_type == *"SessionEnd"
            {
                found.push((path, theirs(hook)));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, hook)| hook).collect()
}
