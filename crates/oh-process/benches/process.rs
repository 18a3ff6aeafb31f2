//! Measures the overhead of supervision on a server's start and end, and the savings of a template
//! and a warm spare.
//!
//! Start and end are measured on a stand-in that is ready in about 30 ms: the real server's start
//! takes 12 s and varies by more than the overhead. The cold start, the forked server and the spare
//! use the real server.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot measure has nothing better to do than to stop"
)]

#[path = "../tests/it/common/mod.rs"]
mod common;

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{StandIn, parent};
use oh_process::{LocalServer, Provisioner, Startup, TemplateServer, WarmPool};

const GRACE: Duration = Duration::from_secs(30);
const PROCESSOR: &str = "forked server, processor time";

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

/// Measures this crate and the smallest equivalent program in turns; prints the overhead and its
/// limit.
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

/// Runs one round of spawn, poll, SIGTERM and wait, without verification, logs, privacy or cleanup.
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

/// Measures the real server: cold start, fork from a template, and acquisition from a pool.
async fn warmth(rounds: usize) {
    let environment = Provisioner::new().provision().await.unwrap();
    let builder = LocalServer::builder().environment(environment.clone());
    for _ in 0..rounds {
        let begun = Instant::now();
        let server = builder.clone().start().await.unwrap();
        let cold = begun.elapsed();
        row("warm server", "cold start", cold);
        row("forked server", "cold start", cold);
        row(PROCESSOR, "cold start", processor(server.pid()));
        write(
            "memory of a server",
            "cold start",
            memory(server.pid()).0,
            "MiB",
        );
        drop(server);

        let template = TemplateServer::builder().environment(environment.clone());
        let template = template.start().await.unwrap();
        row("template", "ours", template.statistics().import_time);
        let (mut servers, mut times) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let begun = Instant::now();
            let server = builder.clone().template(&template).start().await.unwrap();
            times.push((begun.elapsed(), processor(server.pid())));
            assert_eq!(server.startup(), Startup::Forked);
            servers.push(server);
        }
        times.sort();
        let (time, processor) = times[times.len() / 2];
        row("forked server", "ours", time);
        row(PROCESSOR, "ours", processor);
        let mut all = memory(template.pid().unwrap()).1;
        let mut largest = 0.0_f64;
        for server in &servers {
            let (own, share) = memory(server.pid());
            let (keeper, keepers_share) = memory(parent(server.pid()));
            largest = largest.max(own + keeper);
            all += share + keepers_share;
        }
        write("memory of a server", "ours", largest, "MiB");
        write("memory of a server", "promised", 110.0, "MiB");
        write("memory of ten servers", "ours", all, "MiB");
        write("memory of ten servers", "promised", 1.3 * 1024.0, "MiB");
        drop(servers);

        let pool = WarmPool::start(1, builder.clone().template(&template));
        common::eventually_within(Duration::from_secs(120), "a spare", || pool.ready() == 1).await;
        let begun = Instant::now();
        let server = pool.acquire().await.unwrap();
        row("warm server", "ours", begun.elapsed());
        write("warm server", "promised", 50.0, "ms");
        pool.shutdown().await;
        drop(server);
    }
}

/// Returns the CPU time that a process has used so far. The kernel counts in hundredths of a
/// second.
fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>());
    Duration::from_millis(10 * ticks.map(Result::unwrap).sum::<u64>())
}

/// Returns the memory of a process in MiB: private memory, and the total including its share of
/// shared memory.
fn memory(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sum = |begin: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(begin));
        let sizes = lines.filter_map(|line| line.split_whitespace().nth(1));
        sizes
            .map(|size| size.parse::<f64>().unwrap() / 1024.0)
            .sum()
    };
    (sum("Private_Clean:") + sum("Private_Dirty:"), sum("Pss:"))
}

fn row(work: &str, subject: &str, time: Duration) {
    write(work, subject, time.as_secs_f64() * 1000.0, "ms");
}

fn write(work: &str, subject: &str, value: f64, unit: &str) {
    let row = serde_json::json!({ "work": work, "subject": subject, "value": value, "unit": unit });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{row}").unwrap();
}
