//! The real server and the processes that its agents start: they end with their owner.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the owner's role is played outside of a test function"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use openhands::{LocalServer, workspace::WorkspaceExt};

const ROLE: &str = "OH_TEST_OWNER";
/// A duration longer than any operation takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// Starts sleepers in a new session, as a detached daemon, and under tmux.
const SLEEPERS: &str = "setsid sleep 6001 >/dev/null 2>&1 & \
    (setsid sh -c 'env -i sleep 6002 &' >/dev/null 2>&1 &) ; \
    tmux new-session -d 'sleep 6003' ; echo started";

/// Returns the processes whose arguments contain the tag, with any parent.
fn running(tag: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let holds = |file: &str| {
            fs::read(format!("/proc/{pid}/{file}"))
                .is_ok_and(|bytes| bytes.windows(tag.len()).any(|part| part == tag.as_bytes()))
        };
        holds("environ") || holds("cmdline")
    })
    .collect()
}

/// Waits for a state of other processes that is reached soon.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn owner(tag: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let home = openhands_tests::home();
        let server = openhands_tests::server(&home)
            .env("TEST_TAG", tag)
            .start()
            .await
            .unwrap();
        let workspace = server.workspace(server.workspace_dir());
        let line = SLEEPERS.replace("sleep 600", &format!("sleep {tag}"));
        let output = workspace.execute(line).await.unwrap();
        println!(
            "OWNS {} {}",
            output.exit_code().unwrap_or(-1),
            server.state_dir().display()
        );
        std::future::pending::<()>().await;
    });
}

#[test]
fn pitfall_24_a_killed_owner_leaves_neither_server_nor_terminals() {
    if let Ok(tag) = std::env::var(ROLE) {
        return owner(&tag);
    }
    // A number, because the sleepers also use it as their duration.
    let tag = format!("77{}", std::process::id());
    // The home belongs to the test, so it stays when the owner ends.
    let place = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "pitfall_24_a_killed_owner_leaves_neither_server_nor_terminals",
        ])
        .env(ROLE, &tag)
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("OWNS "))
        .unwrap();
    let (code, state) = line.split_once("OWNS ").unwrap().1.split_once(' ').unwrap();
    assert_eq!(code, "0");
    let me = [std::process::id(), child.id()];
    let left = || -> Vec<u32> {
        let mut pids = running(&tag);
        pids.retain(|pid| !me.contains(pid));
        pids
    };
    // The command returns before the sleepers have been executed.
    eventually("keeper, server and three sleepers", || left().len() >= 5);

    child.kill().unwrap();
    child.wait().unwrap();

    eventually("nothing is left", || {
        left().is_empty() && !Path::new(state).exists()
    });
}

/// Returns the number of direct children of this process, including zombies.
fn children() -> usize {
    let me = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let rest = stat.rsplit(')').next().unwrap_or_default();
            rest.split_whitespace().nth(1) == Some(me.as_str())
        })
        .count()
}

#[tokio::test]
async fn several_cycles_leave_no_process_no_descriptor_and_no_directory() {
    let tag = format!("78{}", std::process::id());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mut after_first = None;
    let template = openhands_tests::template().await;
    for cycle in 0..3 {
        let server = LocalServer::builder()
            .template(&template)
            .env("TEST_TAG", &tag)
            .start()
            .await
            .unwrap();
        let state = server.state_dir().to_owned();
        let workspace = server.workspace(server.workspace_dir());
        let line = SLEEPERS.replace("sleep 600", &format!("sleep {tag}"));
        workspace.execute(line).await.unwrap();
        drop(workspace);
        // The keeper has cleared its variables.
        eventually("a server and three sleepers", || running(&tag).len() >= 4);
        if cycle % 2 == 0 {
            let report = server.shutdown(Duration::from_secs(30)).await.unwrap();
            assert!(report.success(), "{report}");
        } else {
            drop(server);
        }
        assert_eq!(running(&tag), Vec::<u32>::new(), "cycle {cycle}");
        assert!(!state.exists());
        // The first start creates the runtime's own descriptors, which stay open. Sockets are
        // closed by tasks that are still ending.
        let before = *after_first.get_or_insert((children(), descriptors()));
        let begun = Instant::now();
        while (children(), descriptors()) > before {
            assert!(begun.elapsed() < LONG, "cycle {cycle}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
