//! What supervision adds to a server's own start and end, and what a warm spare saves.
//!
//! Start and end are measured on a stand-in that is ready in some 30 ms: the real server's own
//! 12 s vary by more than what is looked for. The cold start and the spare are the real server.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot measure has nothing better to do than to stop"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::StandIn;
use oh_process::{LocalServer, Provisioner, WarmPool};

const GRACE: Duration = Duration::from_secs(30);

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        supervision(if smoke { 1 } else { 15 }).await;
        if !smoke {
            warmth(3).await;
        }
    });
}

/// Ours and the barest program that does it, in turns; what ours adds, and what it may.
async fn supervision(rounds: usize) {
    let stand_in = StandIn::new().await;
    let config = r#"{"session_api_keys": ["key"], "secret_key": "key"}"#;
    fs::write(stand_in.directory.path().join("bare.json"), config).unwrap();
    for _ in 0..rounds {
        let begun = Instant::now();
        let server = stand_in.builder("").start().await.unwrap();
        let ready = begun.elapsed();
        let begun = Instant::now();
        server.shutdown(GRACE).await.unwrap();
        let ours = [ready, begun.elapsed()];
        let bare = bare_round(&stand_in);
        for (at, work) in ["start", "shutdown"].into_iter().enumerate() {
            row(work, "ours", ours[at]);
            row(work, "bare", bare[at]);
            let added = ours[at].as_secs_f64() - bare[at].as_secs_f64();
            write(&format!("{work}, added"), "ours", added * 1000.0, "ms");
        }
    }
    write("start, added", "promised", 30.0, "ms");
    write("shutdown, added", "promised", 20.0, "ms");
}

/// Spawn, poll, SIGTERM, wait: without proof, logs, privacy or cleaning up.
fn bare_round(stand_in: &StandIn) -> [Duration; 2] {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let begun = Instant::now();
    let mut child = Command::new(stand_in.environment.python())
        .args([
            "-m",
            "openhands.agent_server",
            "--host",
            "127.0.0.1",
            "--port",
        ])
        .arg(address.port().to_string())
        .env(
            "OPENHANDS_AGENT_SERVER_CONFIG_PATH",
            stand_in.directory.path().join("bare.json"),
        )
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(address).is_err() {
        sleep(Duration::from_millis(1));
    }
    let ready = begun.elapsed();
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    [ready, begun.elapsed()]
}

/// The real server, started and taken from a pool.
async fn warmth(rounds: usize) {
    let environment = Provisioner::new().provision().await.unwrap();
    let builder = LocalServer::builder().environment(environment);
    for _ in 0..rounds {
        let begun = Instant::now();
        let server = builder.clone().start().await.unwrap();
        row("server at hand", "cold start", begun.elapsed());
        drop(server);

        let pool = WarmPool::start(1, builder.clone());
        common::eventually_within(Duration::from_secs(120), "a spare", || pool.ready() == 1).await;
        let begun = Instant::now();
        let server = pool.acquire().await.unwrap();
        row("server at hand", "ours", begun.elapsed());
        pool.shutdown().await;
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let resident = resident.trim().trim_end_matches(" kB");
        let resident = resident.parse::<f64>().unwrap() / 1024.0;
        write("memory of a spare", "ours", resident, "MiB");
    }
}

fn row(work: &str, subject: &str, time: Duration) {
    write(work, subject, time.as_secs_f64() * 1000.0, "ms");
}

fn write(work: &str, subject: &str, value: f64, unit: &str) {
    let row = serde_json::json!({ "work": work, "subject": subject, "value": value, "unit": unit });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{row}").unwrap();
}
