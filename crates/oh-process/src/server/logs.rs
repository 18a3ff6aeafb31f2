//! What a server writes: drained for life, into tracing, a bounded tail and streams.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
};

/// Lines the tail keeps.
const TAIL: usize = 200;
/// A longer line is cut.
const LONGEST: usize = 16 * 1024;
/// Lines a stream's reader may be behind.
const BEHIND: usize = 1024;

/// A line of a server's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`; empty for a plain line.
    pub level: String,
    /// The server's logger; empty for a plain line.
    pub logger: String,
    /// The text, with secrets replaced.
    pub message: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.level.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{} {}: {}", self.level, self.logger, self.message)
    }
}

/// The log of one server; clones share it.
#[derive(Clone)]
pub(super) struct Logs(Arc<Inner>);

struct Inner {
    secrets: Vec<String>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    tail: VecDeque<LogLine>,
    readers: Vec<mpsc::Sender<LogLine>>,
}

impl Logs {
    /// A log in which these texts never appear.
    pub(super) fn new(secrets: Vec<String>) -> Self {
        Self(Arc::new(Inner {
            secrets,
            shared: Mutex::default(),
        }))
    }

    /// Reads a pipe to its end.
    pub(super) async fn drain(self, pipe: impl AsyncRead + Unpin) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            let (used, complete) = match pipe.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(bytes) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    let room = LONGEST.saturating_sub(line.len());
                    line.extend_from_slice(&part[..part.len().min(room)]);
                    (part.len() + usize::from(end.is_some()), end.is_some())
                }
            };
            pipe.consume(used);
            if complete {
                self.take(&line);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.take(&line);
        }
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().map(LogLine::to_string).collect()
    }

    pub(super) fn stream(&self) -> impl Stream<Item = LogLine> + Send + use<> {
        let (sender, receiver) = mpsc::channel(BEHIND);
        self.lock().readers.push(sender);
        Lines(receiver)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // The data is whole even if a holder panicked: every change is one push.
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: &[u8]) {
        let mut text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if text.is_empty() {
            return;
        }
        for secret in &self.0.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        let line = parse(text);
        report(&line);
        let mut shared = self.lock();
        if shared.tail.len() == TAIL {
            shared.tail.pop_front();
        }
        shared.tail.push_back(line.clone());
        shared
            .readers
            .retain(|reader| match reader.try_send(line.clone()) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
    }
}

struct Lines(mpsc::Receiver<LogLine>);

impl Stream for Lines {
    type Item = LogLine;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogLine>> {
        self.0.poll_recv(cx)
    }
}

/// A JSON line of the server, or a plain one (tracebacks, banners).
fn parse(text: String) -> LogLine {
    #[derive(Deserialize)]
    struct Wire {
        levelname: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_str::<Wire>(&text) {
        Ok(wire) => LogLine {
            level: wire.levelname,
            logger: wire.name,
            message: wire.message,
        },
        Err(_) => LogLine {
            level: String::new(),
            logger: String::new(),
            message: text,
        },
    }
}

fn report(line: &LogLine) {
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(
                target: "openhands::server",
                tracing::Level::$level,
                logger = line.logger.as_str(),
                "{}",
                line.message
            )
        };
    }
    match line.level.as_str() {
        "ERROR" | "CRITICAL" => event!(ERROR),
        "WARNING" => event!(WARN),
        "INFO" => event!(INFO),
        _ => event!(DEBUG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn json_plain_invalid_and_endless_lines_are_all_taken() {
        let logs = Logs::new(vec!["canary".to_owned()]);
        let mut text =
            br#"{"levelname": "WARNING", "name": "a.b", "message": "key canary"}"#.to_vec();
        text.extend_from_slice(b"\nplain canary\n\xff\xfe\n");
        text.extend(std::iter::repeat_n(b'x', 3 * LONGEST));
        logs.clone().drain(&text[..]).await;
        let tail = logs.tail();
        assert_eq!(tail[0], "WARNING a.b: key ***");
        assert_eq!(tail[1], "plain ***");
        assert_eq!(tail[2], "\u{fffd}\u{fffd}");
        assert_eq!(tail[3].len(), LONGEST);
    }

    #[tokio::test]
    async fn the_tail_is_bounded() {
        let logs = Logs::new(Vec::new());
        let text: String = (0..TAIL + 50).map(|n| format!("line {n}\n")).collect();
        logs.clone().drain(text.as_bytes()).await;
        assert_eq!(logs.tail().len(), TAIL);
        assert_eq!(logs.tail()[0], "line 50");
    }
}
