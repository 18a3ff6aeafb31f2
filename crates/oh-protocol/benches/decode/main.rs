//! Benchmark for decoding a recorded conversation on one core: this crate, other decoders, and a
//! lower bound, in turns.
//!
//! `typed` decodes every event with its action, observation and state; `header` decodes only what
//! `Event::from_json` does. Both drop the result. `serde_json` decodes the same types without this
//! crate's scanner. The lower bound reads every byte once. Python is set by `OPENHANDS_PYTHON` and
//! needs the SDK; Node is `node`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench that cannot measure has nothing better to do than to stop"
)]

mod plain;

use std::{
    fs,
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use bytes::Bytes;
use oh_protocol::Event;
use serde_json::json;

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/1.58.2/conversation.jsonl"
);
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (rounds, passes) = if smoke { (1, 1) } else { (9, 600) };
    let lines: Vec<Bytes> = fs::read_to_string(CORPUS)
        .unwrap()
        .lines()
        .map(|line| Bytes::from(line.to_owned()))
        .collect();
    let mut node = Peer::start(Command::new("node").arg(format!("{PEERS}/decode.mjs")));
    let mut python = std::env::var_os("OPENHANDS_PYTHON").and_then(|python| {
        Peer::start(
            Command::new(python)
                .arg(format!("{PEERS}/decode.py"))
                .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
                .env("OPENHANDS_SUPPRESS_BANNER", "1"),
        )
    });
    for _ in 0..rounds {
        let typed = rate(&lines, passes, |line| {
            let event = Event::from_json(line.clone()).unwrap();
            assert!(event.malformed().is_none());
            black_box(event);
        });
        let plain = rate(&lines, passes, |line| {
            black_box(plain::Event::from_json(line).unwrap());
        });
        let header = rate(&lines, passes, |line| {
            black_box(Event::from_json(line.clone()).unwrap());
        });
        let floor = rate(&lines, passes, |line| {
            black_box(line.iter().fold(0_u8, |sum, byte| sum ^ byte));
        });
        row("typed", "ours", typed);
        row("header", "ours", header);
        row("typed", "serde_json", plain);
        for work in ["typed", "header"] {
            row(work, "memory scan", floor);
        }
        if let Some(rate) = node.as_mut().map(|peer| peer.rate(passes)) {
            row("typed", "Node JSON.parse", rate);
            row("header", "Node JSON.parse", rate);
        }
        if let Some(rate) = python.as_mut().map(|peer| peer.rate(passes.div_ceil(20))) {
            row("typed", "Python SDK", rate);
            row("header", "Python SDK", rate);
        }
    }
    held(&lines, if smoke { 1_000 } else { 100_000 });
}

/// Measures the memory of events whose bodies have not been decoded.
fn held(lines: &[Bytes], count: usize) {
    // The system prompt would dominate the result.
    let lines: Vec<&Bytes> = lines.iter().filter(|line| line.len() < 8192).collect();
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let mean = bytes as f64 / lines.len() as f64;
    let before = resident();
    let events: Vec<Event> = lines
        .iter()
        .cycle()
        .take(count)
        .map(|line| Event::from_json(line.to_vec()).unwrap())
        .collect();
    let each = (resident() - before) / count as f64;
    black_box(events);
    for (subject, value) in [
        ("ours", each),
        ("1.3 times its bytes + 200", 1.3 * mean + 200.0),
    ] {
        let row = json!({"work": "held event", "subject": subject, "value": value, "unit": "B"});
        println!("{row}");
    }
}

/// Returns the resident memory of this process in bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024.0
}

/// Returns the number of events per second.
fn rate(lines: &[Bytes], passes: u32, mut work: impl FnMut(&Bytes)) -> f64 {
    let begun = Instant::now();
    for _ in 0..passes {
        lines.iter().for_each(&mut work);
    }
    f64::from(passes) * lines.len() as f64 / begun.elapsed().as_secs_f64()
}

fn row(work: &str, subject: &str, value: f64) {
    let row = json!({"work": work, "subject": subject, "value": value, "unit": "events/s"});
    println!("{row}");
}

/// A program that decodes the corpus as often as requested on its stdin, and reports events per
/// second.
struct Peer(Child, ChildStdin, BufReader<ChildStdout>);

impl Peer {
    /// Starts the program. Returns `None` if it does not exist, so that it is not measured.
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command
            .arg(CORPUS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let mut peer = Self(child, stdin, BufReader::new(stdout));
        // The first response arrives after start-up, so that imports are not measured.
        peer.rate(1);
        Some(peer)
    }

    fn rate(&mut self, passes: u32) -> f64 {
        writeln!(self.1, "{passes}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.2.read_line(&mut line).unwrap() > 0, "the peer ended");
            if let Ok(rate) = line.trim().parse() {
                return rate;
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
