//! Decoding a recorded conversation, one core: ours, the peers' decoders, and the floor, in turns.
//!
//! `typed` reads every event and its body down to action, observation and state; `header` what
//! `Event::from_json` reads; both drop what they read. The floor is one look at every byte. The
//! Python is the one of `OPENHANDS_PYTHON`, with the SDK installed; Node is `node`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench that cannot measure has nothing better to do than to stop"
)]

use std::{
    fs,
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use bytes::Bytes;
use oh_protocol::{Event, Payload};
use serde_json::json;

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/1.58.0/conversation.jsonl"
);
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (rounds, passes) = if smoke { (1, 1) } else { (9, 200) };
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
            if let Payload::ConversationStateUpdate(update) = event.payload() {
                black_box(update.change());
            }
        });
        let header = rate(&lines, passes, |line| {
            black_box(Event::from_json(line.clone()).unwrap());
        });
        let floor = rate(&lines, passes, |line| {
            black_box(line.iter().fold(0_u8, |sum, byte| sum ^ byte));
        });
        row("typed", "ours", typed);
        row("header", "ours", header);
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
}

/// Events a second.
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

/// A program that decodes the corpus as often as a line on its stdin says, and tells events/s.
struct Peer(Child, ChildStdin, BufReader<ChildStdout>);

impl Peer {
    /// Nothing where the program is not there: it is not measured, then.
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command
            .arg(CORPUS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let mut peer = Self(child, stdin, BufReader::new(stdout));
        // The first answer comes when it has started: its imports must not count.
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
