//! The main example as a separate process, as a user runs it, ended in every possible way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use openhands::testkit::{Script, ScriptedModel};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Returns the path of the example, which Cargo builds next to the test binaries.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/local_agent_server")
}

/// Returns the example with its own temporary directory, which also identifies its processes, and
/// an empty home: the agent's shell must not run the user's start-up files.
fn demo(place: &TempDir) -> Command {
    let cache = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = cache("OPENHANDS_CACHE_DIR")
        .or_else(|| Some(cache("XDG_CACHE_HOME")?.join("openhands-rs")))
        .or_else(|| Some(cache("HOME")?.join(".cache/openhands-rs")))
        .unwrap();
    for name in ["home", "tmp"] {
        fs::create_dir_all(place.path().join(name)).unwrap();
    }
    let mut command = Command::new(program());
    command
        .env("TMPDIR", place.path().join("tmp"))
        .env("HOME", place.path().join("home"));
    command
        .env("OPENHANDS_CACHE_DIR", cache)
        .env_remove("LLM_API_KEY");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Returns the living processes that have the directory in their environment: the server's state is
/// in it.
fn processes_of(temporary: &TempDir) -> Vec<String> {
    let needle = temporary.path().to_str().unwrap().as_bytes().to_vec();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let found = environ.windows(needle.len()).any(|window| window == needle);
            let line = || fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.then(|| line().replace('\0', " "))
        })
        .collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn nothing_is_left(place: &TempDir) {
    wait_until("no process left", || processes_of(place).is_empty());
    let files = || {
        fs::read_dir(place.path().join("tmp"))
            .unwrap()
            .flatten()
            .collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while !files().is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "left: {:?}",
            files()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the code of an example, without what a server in a container needs: other imports, and
/// the statement that creates the builder.
fn same_for_all_servers(code: &str) -> Vec<&str> {
    let mut lines = code.lines();
    let mut same = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("let (builder, hooks) = ") {
            let mut statement = std::iter::once(line).chain(&mut lines);
            assert!(statement.any(|line| line.ends_with(';')));
        } else if !line.starts_with("use ") && !line.trim_start().starts_with("//") {
            same.push(line);
        }
    }
    same
}

#[test]
fn the_main_job_in_a_container_differs_in_one_statement() {
    let local = include_str!("../local_agent_server.rs");
    let contained = include_str!("../docker.rs");
    assert!(contained.contains("DockerServer::builder()"));
    assert_eq!(same_for_all_servers(local), same_for_all_servers(contained));
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_main_job_shows_a_denied_stop_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&temporary).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}\n{err}");
    for expected in [
        "SCRIPTED",
        "blocked true",
        "blocked false",
        "does not compile",
        "title: ",
        "status finished",
        "cost $0.0054",
    ] {
        assert!(out.contains(expected), "no `{expected}` in\n{out}");
    }
    nothing_is_left(&temporary);
}

/// Starts the example, and returns it once its output shows `line`.
fn started(temporary: &TempDir, line: &str) -> Child {
    let mut child = demo(temporary).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.lines().map(Result::unwrap);
    assert!(
        lines.any(|shown| shown.contains(line)),
        "ended before it showed `{line}`"
    );
    assert!(
        processes_of(temporary)
            .iter()
            .any(|line| line.contains("openhands.agent_server"))
    );
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn pitfall_24_kill_9_of_the_owner_leaves_no_server() {
    let temporary = tempfile::tempdir().unwrap();
    // The agent now has a terminal: tmux, in its own session.
    let mut child = started(&temporary, "ObservationEvent: terminal");
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    nothing_is_left(&temporary);
}

#[test]
fn an_interrupt_ends_the_server_and_fails() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = started(&temporary, "MessageEvent");
    signal(&child, Signal::INT);
    assert!(!child.wait().unwrap().success());
    nothing_is_left(&temporary);
}

#[tokio::test]
async fn a_rejected_model_key_is_reported_to_the_user_and_leaves_nothing() {
    let script = Script::new().forever(|script| script.fail(401, "Incorrect API key provided"));
    let model = ScriptedModel::start(script).await.unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = demo(&temporary);
    command
        .env("LLM_API_KEY", "canary-key")
        .env("LLM_BASE_URL", model.base_url());
    command
        .env("LLM_MODEL", "openai/scripted")
        .env("RUST_LOG", "trace");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let (out, err) = text(&output);
    assert!(!output.status.success(), "{out}");
    assert!(
        out.contains("ConversationErrorEvent: LLMAuthenticationError"),
        "{out}"
    );
    assert!(err.contains("LLMAuthenticationError"), "{err}");
    assert!(
        !out.contains("canary-key") && !err.contains("canary-key"),
        "the key was shown"
    );
    nothing_is_left(&temporary);
}
