//! Real servers that are forked from a template: they behave like servers that are started cold,
//! and use less memory.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use openhands::{
    LocalServer, WorkspaceExt,
    process::{Startup, TemplateServer},
};

const GRACE: Duration = Duration::from_secs(30);
const ROLE: &str = "OH_TEST_OWNER";

/// Returns the memory of a process in MiB: private memory, and the total including its share of
/// shared memory.
fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sum = |names: &[&str]| -> u64 {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let wanted = lines.filter(|(name, _)| names.contains(name));
        let sizes = wanted.map(|(_, size)| size.trim().trim_end_matches(" kB").parse::<u64>());
        sizes.map(Result::unwrap).sum::<u64>() / 1024
    };
    (sum(&["Private_Clean", "Private_Dirty"]), sum(&["Pss"]))
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap().trim().chars().next();
    !matches!(state, None | Some('Z'))
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ten_servers_use_less_memory_than_four_cold_ones_and_outlive_their_template() {
    let template = openhands_tests::template().await;
    let home = openhands_tests::home();
    let mut servers = Vec::new();
    for _ in 0..10 {
        let builder = openhands_tests::server(&home).template(&template);
        let server = builder.start().await.unwrap();
        assert_eq!(server.startup(), Startup::Forked);
        servers.push(server);
    }
    let mut all = memory(template.pid().unwrap()).1;
    for server in &servers {
        let (own, share) = memory(server.pid());
        let (keepers, keepers_share) = memory(parent(server.pid()));
        println!("server {own} MiB of private memory, keeper {keepers} MiB");
        assert!(
            own + keepers <= 110,
            "{own} MiB and {keepers} MiB for its keeper"
        );
        all += share + keepers_share;
    }
    println!("{all} MiB in all");
    assert!(all <= 1331, "{all} MiB");
    let server = servers.pop().unwrap();
    drop(servers);
    a_killed_template_ends_no_server_and_is_replaced(&template, server).await;
}

async fn a_killed_template_ends_no_server_and_is_replaced(
    template: &TemplateServer,
    server: LocalServer,
) {
    let home = openhands_tests::home();
    let first = template.pid().unwrap();
    kill(first);
    eventually("another template", || {
        template.pid().is_some_and(|pid| pid != first)
    })
    .await;
    let output = server
        .workspace(server.workspace_dir())
        .execute("echo well")
        .await
        .unwrap();
    assert_eq!(output.stdout(), "well\n");
    let second: LocalServer = openhands_tests::server(&home)
        .template(template)
        .start()
        .await
        .unwrap();
    assert_eq!(second.startup(), Startup::Forked);
    for server in [server, second] {
        assert!(server.shutdown(GRACE).await.unwrap().success());
    }
}

async fn owner() {
    let template = openhands_tests::template().await;
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home)
        .template(&template)
        .start()
        .await
        .unwrap();
    let workspace = server.workspace(server.workspace_dir());
    workspace
        .execute("setsid sleep 6001 >/dev/null 2>&1 & tmux new-session -d 'sleep 6003'")
        .await
        .unwrap();
    println!(
        "OWNS {} {} {}",
        template.pid().unwrap(),
        server.pid(),
        server.state_dir().display()
    );
    std::future::pending::<()>().await;
}

/// Returns the number of processes whose environment names this keeper.
fn marked(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let holds = |path: &Path| {
        fs::read(path.join("environ")).is_ok_and(|bytes| {
            bytes
                .split(|byte| *byte == 0)
                .any(|part| part == mark.as_bytes())
        })
    };
    entries.filter(|entry| holds(&entry.path())).count()
}

#[tokio::test]
async fn a_killed_owner_leaves_no_template_and_no_process_of_an_agent() {
    if std::env::var_os(ROLE).is_some() {
        return owner().await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "a_killed_owner_leaves_no_template_and_no_process_of_an_agent",
        ])
        .env(ROLE, "1")
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("OWNS "))
        .unwrap();
    let words: Vec<_> = line.split_once("OWNS ").unwrap().1.split(' ').collect();
    let (template, server): (u32, u32) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    let state = Path::new(words[2]);
    let keeper = parent(server);
    let environ = fs::read_to_string(format!("/proc/{server}/environ")).unwrap();
    let mark = environ
        .split('\0')
        .find(|one| one.starts_with("OPENHANDS_RS_OWNED="))
        .unwrap();
    eventually("the server and two sleepers", || marked(mark) >= 3).await;
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all gone", || {
        [template, keeper, server].iter().all(|pid| !runs(*pid))
            && marked(mark) == 0
            && !state.exists()
    })
    .await;
}
