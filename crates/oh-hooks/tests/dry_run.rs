//! Hooks run here: what they are told, what ends them, and that nothing outlives them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use oh_hooks::{DryRun, Hook, HookConfig, HookEventType, HookInput};

/// Whether a process is there and has not ended; a zombie has.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

fn gone(pid: &str) -> bool {
    let begun = Instant::now();
    while alive(pid) {
        if begun.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn stop(command: &str) -> HookConfig {
    HookConfig::new().stop(Hook::command(command).timeout(1))
}

#[tokio::test]
async fn grandchildren_end_with_a_hook_that_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = stop("sh -c 'sleep 600 & echo $! > pid; wait' & wait");
    let input = HookInput::new(HookEventType::Stop);
    let outcomes = DryRun::new(directory.path())
        .run(&hooks, &input)
        .await
        .unwrap();
    assert_eq!((outcomes[0].exit_code, outcomes[0].blocked), (-1, false));
    assert!(outcomes[0].took >= Duration::from_secs(1));
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    assert!(gone(pid.trim()));
}

#[tokio::test]
async fn grandchildren_end_when_the_run_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = HookConfig::new().stop(Hook::command("sleep 600 & echo $! > pid; wait"));
    let (run, input) = (
        DryRun::new(directory.path()),
        HookInput::new(HookEventType::Stop),
    );
    let file = directory.path().join("pid");
    let written = async {
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text.ends_with('\n') => break text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let pid = tokio::select! {
        _ = run.run(&hooks, &input) => String::new(),
        pid = written => pid,
    };
    assert!(gone(pid.trim()), "{pid}");
    assert!(!pid.is_empty(), "the hook ended by itself");
}

#[tokio::test]
async fn what_a_hook_leaves_behind_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = stop("sleep 600 >/dev/null 2>&1 & echo $! > pid; exit 2");
    let input = HookInput::new(HookEventType::Stop);
    let outcomes = DryRun::new(directory.path())
        .run(&hooks, &input)
        .await
        .unwrap();
    assert!(outcomes[0].blocked);
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    assert!(gone(pid.trim()));
}

#[tokio::test]
async fn a_hook_is_told_the_event_the_project_and_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let line = r#"cat; echo; echo "$OPENHANDS_PROJECT_DIR|$OPENHANDS_SESSION_ID|$OPENHANDS_EVENT_TYPE|$OPENHANDS_TOOL_NAME|$MINE""#;
    let hooks = HookConfig::new().pre_tool_use(Hook::command(line));
    let mut input = HookInput::new(HookEventType::PreToolUse)
        .tool("terminal", serde_json::json!({"command": "ls"}));
    input.session_id = Some("abc".to_owned());
    let run = DryRun::new(directory.path()).env("MINE", "yes");
    let outcomes = run.run(&hooks, &input).await.unwrap();
    let (event, variables) = outcomes[0].stdout.trim_end().split_once('\n').unwrap();
    let here = directory.path().display();
    assert_eq!(variables, format!("{here}|abc|PreToolUse|terminal|yes"));
    let event: HookInput = serde_json::from_str(event).unwrap();
    assert_eq!(event.command(), Some("ls"));
    assert_eq!(event.working_dir, Some(here.to_string()));
}

#[tokio::test]
async fn a_flood_is_read_to_its_end_and_kept_up_to_the_cap() {
    let hooks = HookConfig::new().stop(Hook::command(
        "head -c 100000000 /dev/zero | tr '\\0' x; head -c 5000 /dev/zero | tr '\\0' y >&2; exit 2",
    ));
    let run = DryRun::new(std::env::temp_dir()).output_cap(1000);
    let input = HookInput::new(HookEventType::Stop);
    let outcomes = run.run(&hooks, &input).await.unwrap();
    assert_eq!((outcomes[0].exit_code, outcomes[0].blocked), (2, true));
    assert_eq!(outcomes[0].stdout, "x".repeat(1000));
    assert_eq!(outcomes[0].stderr, "y".repeat(1000));
}
