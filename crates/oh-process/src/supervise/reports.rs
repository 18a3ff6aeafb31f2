//! Reads what keeper and template processes report, in the format of keeper.py.

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
};

/// Reads the reports of one process.
#[derive(Debug)]
pub(crate) struct Reports {
    stream: BufReader<UnixStream>,
    /// Bytes of an incomplete line that was read before a cancellation.
    line: Vec<u8>,
}

/// A report of a keeper or of a template process.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "servers can be forked only on Linux")
)]
pub(crate) enum Report {
    /// The process runs and takes orders.
    Up(u32),
    /// A script ran, and said this.
    Ran(String),
    /// A template process does not fork, for this reason.
    Refused(String),
    /// The command has started.
    Pid(u32),
    /// The command did not start, with this number of an error.
    Failed(i32),
    /// The command has ended with this code, and this many other processes with it.
    Exit(i32, u32),
}

impl Reports {
    /// Reads from this end of the socket.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            line: Vec::new(),
        }
    }

    /// Returns the next report, or `None` when the process has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        loop {
            // After a cancellation `line` still contains the bytes that `read_until` had read.
            let read = self.stream.read_until(b'\n', &mut self.line).await;
            if !matches!(read, Ok(1..)) || !self.line.ends_with(b"\n") {
                return None;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split_whitespace();
            let word = words.next();
            let mut number = || words.next().and_then(|word| word.parse::<i32>().ok());
            let report = match (word, number(), number()) {
                (Some("up"), pid, _) => Report::Up(pid.unwrap_or_default().unsigned_abs()),
                (Some("no"), ..) => Report::Refused(after("no", &line)),
                (Some("ran"), ..) => Report::Ran(after("ran", &line)),
                (Some("pid"), Some(pid), _) => Report::Pid(pid.unsigned_abs()),
                (Some("fail"), Some(code), _) => Report::Failed(code),
                (Some("exit"), Some(code), Some(others)) => {
                    Report::Exit(code, others.unsigned_abs())
                }
                _ => continue,
            };
            return Some(report);
        }
    }
}

/// Returns the text after the first word of a line.
fn after(word: &str, line: &str) -> String {
    let text = line.trim().strip_prefix(word).unwrap_or_default();
    text.trim().to_owned()
}
