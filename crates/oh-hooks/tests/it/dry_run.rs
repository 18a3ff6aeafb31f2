//! Tests of dry runs: what hooks get as input, what ends them, and that no process outlives them.

use std::time::{Duration, Instant};

use oh_hooks::{DryRun, ErrorKind, Hook, HookConfig, HookEventType, HookInput, HookMatcher};

/// Returns whether a process is running. A zombie has ended.
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
    HookConfig::new().stop(Hook::command(command).timeout(Duration::from_secs(1)))
}

#[tokio::test]
async fn grandchildren_end_with_a_hook_that_times_out() {
    let directory = tempfile::tempdir().unwrap();
    // Long enough for a busy machine to start the processes.
    let hook = Hook::command("sh -c 'sleep 600 & echo $! > pid; wait' & wait")
        .timeout(Duration::from_secs(3));
    let hooks = HookConfig::new().stop(hook);
    let input = HookInput::new(HookEventType::Stop);
    let outcomes = DryRun::new(directory.path())
        .run(&hooks, &input)
        .await
        .unwrap();
    assert_eq!((outcomes[0].exit_code, outcomes[0].blocked), (-1, false));
    assert!(outcomes[0].duration >= Duration::from_secs(3));
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
async fn processes_left_by_a_hook_end_with_the_hook() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::command("sleep 600 >/dev/null 2>&1 & echo $! > pid; exit 2");
    let hooks = HookConfig::new().stop(hook);
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
async fn a_hook_receives_the_event_the_project_and_the_session() {
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
async fn a_flood_of_output_is_read_to_its_end_and_kept_up_to_the_limit() {
    let hooks = HookConfig::new().stop(Hook::command(
        "head -c 100000000 /dev/zero | tr '\\0' x; head -c 5000 /dev/zero | tr '\\0' y >&2; exit 2",
    ));
    let run = DryRun::new(std::env::temp_dir()).output_cap(1000);
    let input = HookInput::new(HookEventType::Stop);
    let before = peak();
    let outcomes = run.run(&hooks, &input).await.unwrap();
    let grown = peak() - before;
    assert!(grown < 8 << 10, "{grown} KiB for 100 MB that nobody keeps");
    assert_eq!((outcomes[0].exit_code, outcomes[0].blocked), (2, true));
    assert_eq!(outcomes[0].stdout, "x".repeat(1000));
    assert_eq!(outcomes[0].stderr, "y".repeat(1000));
    assert!(outcomes[0].truncated);
}

/// Returns the peak memory of this process in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn json_cut_by_the_limit_is_reported_as_cut() {
    let line = r#"printf '{"decision": "deny", "reason": "%02000d"}' 0"#;
    let hooks = HookConfig::new().stop(Hook::command(line));
    let input = HookInput::new(HookEventType::Stop);
    let run = DryRun::new(std::env::temp_dir());
    assert!(run.run(&hooks, &input).await.unwrap().denied());
    let trial = run.output_cap(1000).run(&hooks, &input).await.unwrap();
    assert!(!trial.denied() && trial[0].truncated);
}

#[test]
fn hooks_do_not_see_private_variables_of_the_server() {
    // Uses a separate process, because all tests of one process share its environment.
    const INSIDE: &str = "OH_HOOKS_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let name = "hooks_do_not_see_private_variables_of_the_server";
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(INSIDE, "yes")
            .envs([
                ("SESSION_API_KEY", "canary"),
                ("OH_SESSION_API_KEYS_0", "canary"),
                ("OH_SESSION_API_KEYS_17", "canary"),
                ("OH_SECRET_KEY", "canary"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
                ("KEPT", "kept"),
            ])
            .status();
        assert!(ended.unwrap().success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let input = HookInput::new(HookEventType::Stop);
    let hooks = HookConfig::new().stop(Hook::command("env"));
    let trial = runtime
        .block_on(DryRun::new("/tmp").run(&hooks, &input))
        .unwrap();
    let seen = &trial[0].stdout;
    assert!(!seen.contains("canary"), "{seen}");
    for line in ["KEPT=kept", "AI_AGENT=", "OPENHANDS_SESSION_ID="] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
}

#[tokio::test]
async fn an_invalid_pattern_matches_nothing_as_on_the_server() {
    let guard = Hook::command("exit 2");
    let input = HookInput::new(HookEventType::PreToolUse).tool("terminal", serde_json::json!({}));
    for (pattern, denied) in [
        ("/[/", false),
        ("(?!browser).*", true),
        ("/terminal/", true),
        ("term", false),
    ] {
        let matcher = HookMatcher::new(pattern).hook(guard.clone());
        let hooks = HookConfig::new().pre_tool_use(matcher);
        let trial = DryRun::new("/tmp").run(&hooks, &input).await.unwrap();
        assert_eq!(trial.denied(), denied, "{pattern}");
    }
    let obscure = HookMatcher::new("(?i)é").hook(guard);
    let hooks = HookConfig::new().pre_tool_use(obscure);
    let error = DryRun::new("/tmp").run(&hooks, &input).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_detached_hook_runs_and_its_result_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = HookConfig::new().stop(Hook::command("echo x > ran; exit 2").detached());
    let input = HookInput::new(HookEventType::Stop);
    let trial = DryRun::new(directory.path())
        .run(&hooks, &input)
        .await
        .unwrap();
    assert!(!trial.denied() && trial[0].success && trial[0].exit_code == 0);
    assert!(directory.path().join("ran").exists());
}

#[tokio::test]
async fn a_model_answers_prompt_and_agent_hooks() {
    let input = HookInput::new(HookEventType::Stop);
    for hook in [Hook::prompt("be kind"), Hook::agent("judge")] {
        let hooks = HookConfig::new().stop(hook);
        let run = DryRun::new("/tmp");
        let trial = run.run(&hooks, &input).await.unwrap();
        assert!(!trial.denied() && !trial[0].success && trial[0].error.is_some());
        let run = run.reply(r#"Well: {"decision": "deny", "reason": "unkind"}"#);
        let trial = run.run(&hooks, &input).await.unwrap();
        assert_eq!(trial.feedback().as_deref(), Some("unkind"));
        assert!(trial[0].success);
    }
}

#[tokio::test]
async fn a_missing_directory_is_a_failure_of_the_hook() {
    let input = HookInput::new(HookEventType::Stop);
    let trial = DryRun::new("/no/such/place")
        .run(&stop("exit 2"), &input)
        .await
        .unwrap();
    assert!(!trial.denied() && trial[0].exit_code == -1);
    assert!(trial[0].error.as_deref().unwrap().contains("not found"));
}
