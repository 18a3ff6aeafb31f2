//! The real server and what its agents start: gone with their owner, and warm when wanted.

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

use openhands::{LocalServer, process::WarmPool, workspace::WorkspaceExt};

const ROLE: &str = "OH_TEST_OWNER";

/// Sleepers in a session of their own, as a detached daemon, and under tmux.
const SLEEPERS: &str = "setsid sleep 6001 >/dev/null 2>&1 & \
    (setsid sh -c 'env -i sleep 6002 &' >/dev/null 2>&1 &) ; \
    tmux new-session -d 'sleep 6003' ; echo started";

/// Processes below `root` in the tree, whoever adopted them, by what they were given to run.
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
fn a_killed_owner_leaves_neither_server_nor_terminals() {
    if let Ok(tag) = std::env::var(ROLE) {
        return owner(&tag);
    }
    // A number, for it is what sleepers sleep too.
    let tag = format!("77{}", std::process::id());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "a_killed_owner_leaves_neither_server_nor_terminals",
        ])
        .env(ROLE, &tag)
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
    assert!(
        left().len() >= 5,
        "keeper, server and three sleepers: {:?}",
        left()
    );

    child.kill().unwrap();
    child.wait().unwrap();

    let begun = Instant::now();
    while !left().is_empty() || Path::new(state).exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "left: {:?}",
            left()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_warm_server_is_usable_with_the_variables_it_was_acquired_with() {
    let pool = WarmPool::start(1, LocalServer::builder());
    let server = pool.acquire().env("PROJECT", "one").await.unwrap();
    pool.shutdown().await;
    let workspace = server.workspace(server.workspace_dir());
    let output = workspace.execute("echo $PROJECT; env").await.unwrap();
    let said = output.stdout();
    assert!(said.starts_with("one\n"), "{said}");
    assert!(
        !said.contains("CARGO_PKG_NAME"),
        "the owner's variables are not the agent's"
    );
    let report = server.shutdown(Duration::from_secs(30)).await.unwrap();
    assert!(report.success(), "{report}");
}
