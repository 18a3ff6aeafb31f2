//! What a process writes: read for life, kept in a bounded tail, told to tracing and to whoever
//! subscribed, without its secrets. Knows no process.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};

/// A longer line is cut into several.
const MAX_LINE: usize = 64 * 1024;
/// What the tail keeps.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: usize = 256 * 1024;
/// Lines a subscriber may fall behind before it misses some.
const SUBSCRIBER_LINES: usize = 1024;
/// What stands for a secret.
const REDACTED: &str = "<redacted>";

/// How grave a line is, in the server's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// For those who look into the server.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Something is not as it should be.
    Warning,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// As the server's settings spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// A line that the server wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// How grave it is; `Info` where the line does not say.
    pub level: LogLevel,
    /// Which of the server's loggers wrote it; `None` for plain text.
    pub logger: Option<String>,
    /// The text.
    pub message: String,
    /// How many lines this subscriber missed before this one, for being slow.
    pub missed: u64,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.logger {
            Some(logger) => write!(f, "{} {logger}: {}", self.level.as_str(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The lines written from now on, over restarts too; ends when the server is dropped or has
/// exited for good. A slow reader misses lines ([`LogLine::missed`]) and never holds the server up.
#[derive(Debug)]
pub struct Logs(mpsc::Receiver<LogLine>);

impl Logs {
    /// The next line; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<LogLine> {
        self.0.recv().await
    }
}

impl Stream for Logs {
    type Item = LogLine;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogLine>> {
        self.0.poll_recv(cx)
    }
}

/// Where the lines of one server go.
#[derive(Clone)]
pub(crate) struct LogHub(Arc<Hub>);

struct Hub {
    secrets: Mutex<Vec<SecretString>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tail: VecDeque<String>,
    tail_bytes: usize,
    subscribers: Vec<(mpsc::Sender<LogLine>, u64)>,
}

impl LogHub {
    /// A hub that hides these secrets wherever they appear; those under 6 bytes are too common
    /// as parts of words to be hidden.
    pub(crate) fn new(secrets: Vec<SecretString>) -> Self {
        let hub = Self(Arc::new(Hub {
            secrets: Mutex::default(),
            state: Mutex::default(),
        }));
        hub.hide(secrets);
        hub
    }

    /// Hides more secrets from now on.
    pub(crate) fn hide(&self, secrets: impl IntoIterator<Item = SecretString>) {
        let mut hidden = self.secrets();
        hidden.extend(secrets);
        hidden.retain(|secret| secret.expose_secret().len() >= 6);
        // The longest first: one may hold another.
        hidden.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    }

    fn secrets(&self) -> MutexGuard<'_, Vec<SecretString>> {
        self.0
            .secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Logs {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_LINES);
        self.state().subscribers.push((sender, 0));
        Logs(receiver)
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.state().tail.iter().cloned().collect()
    }

    /// Ends the streams of all subscribers.
    pub(crate) fn close(&self) {
        self.state().subscribers.clear();
    }

    /// Reads a pipe to its end.
    pub(crate) async fn drain(&self, mut pipe: impl AsyncRead + Unpin) {
        let mut pending = Vec::with_capacity(8 * 1024);
        loop {
            match pipe.read_buf(&mut pending).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let mut begin = 0;
            while let Some(length) = pending[begin..].iter().position(|byte| *byte == b'\n') {
                self.line(&pending[begin..begin + length]);
                begin += length + 1;
            }
            pending.drain(..begin);
            if pending.len() >= MAX_LINE {
                self.line(&pending);
                pending.clear();
            }
            // A server that writes without pause must not keep others from this thread.
            tokio::task::yield_now().await;
        }
        if !pending.is_empty() {
            self.line(&pending);
        }
    }

    fn line(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        let mut line = parse(text);
        line.message = self.redact(&line.message);
        emit(&line);
        let shown = line.to_string();
        let mut state = self.state();
        state.tail_bytes += shown.len();
        state.tail.push_back(shown);
        while state.tail.len() > TAIL_LINES || state.tail_bytes > TAIL_BYTES {
            match state.tail.pop_front() {
                Some(old) => state.tail_bytes -= old.len(),
                None => break,
            }
        }
        state.subscribers.retain_mut(|(sender, missed)| {
            line.missed = *missed;
            match sender.try_send(line.clone()) {
                Ok(()) => *missed = 0,
                Err(mpsc::error::TrySendError::Full(_)) => *missed += 1,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
            true
        });
    }

    fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets().iter() {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), REDACTED);
            }
        }
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHub").finish_non_exhaustive()
    }
}

/// Reads the JSON that the server's logger writes; everything else is a message at INFO.
fn parse(text: &str) -> LogLine {
    #[derive(serde::Deserialize)]
    struct Wire {
        levelname: Option<String>,
        name: Option<String>,
        message: String,
        exc_info: Option<String>,
    }
    let wire = text
        .starts_with('{')
        .then(|| serde_json::from_str::<Wire>(text).ok())
        .flatten();
    let Some(wire) = wire else {
        return LogLine {
            level: LogLevel::Info,
            logger: None,
            message: text.to_owned(),
            missed: 0,
        };
    };
    let level = match wire.levelname.as_deref() {
        Some("CRITICAL" | "ERROR") => LogLevel::Error,
        Some("WARNING") => LogLevel::Warning,
        Some("DEBUG") => LogLevel::Debug,
        _ => LogLevel::Info,
    };
    let message = match wire.exc_info {
        Some(trace) => format!("{}\n{trace}", wire.message),
        None => wire.message,
    };
    LogLine {
        level,
        logger: wire.name,
        message,
        missed: 0,
    }
}

/// A tracing event's target and level are fixed where it stands, hence the repetition; the
/// server's own logger is a field.
fn emit(line: &LogLine) {
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(
                target: "openhands::server",
                tracing::Level::$level,
                logger = line.logger.as_deref(),
                "{}",
                line.message
            )
        };
    }
    match line.level {
        LogLevel::Error => event!(ERROR),
        LogLevel::Warning => event!(WARN),
        LogLevel::Info => event!(INFO),
        LogLevel::Debug => event!(DEBUG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(hub: &LogHub, bytes: &[u8]) -> Vec<LogLine> {
        let mut logs = hub.subscribe();
        hub.drain(bytes).await;
        hub.close();
        let mut lines = Vec::new();
        while let Some(line) = logs.next().await {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn json_lines_have_level_and_logger_and_others_are_messages() {
        let hub = LogHub::new(Vec::new());
        let seen = lines(
            &hub,
            b"{\"levelname\":\"WARNING\",\"name\":\"uvicorn\",\"message\":\"slow\",\"new\":1}\n\
              plain \xff text\n{\"no\":\"message\"}\n\nlast without end",
        )
        .await;
        assert_eq!(seen[0].level, LogLevel::Warning);
        assert_eq!(seen[0].to_string(), "WARNING uvicorn: slow");
        let rest: Vec<_> = seen[1..].iter().map(|line| line.message.as_str()).collect();
        assert_eq!(
            rest,
            [
                "plain \u{fffd} text",
                "{\"no\":\"message\"}",
                "last without end"
            ]
        );
    }

    #[tokio::test]
    async fn secrets_never_pass_even_when_one_holds_another() {
        let hub = LogHub::new(vec!["secret-1".into(), "my-secret-1-long".into()]);
        let seen = lines(&hub, b"a my-secret-1-long b secret-1 c\n").await;
        assert_eq!(seen[0].message, "a <redacted> b <redacted> c");
        assert_eq!(hub.tail(), ["a <redacted> b <redacted> c"]);
    }

    #[tokio::test]
    async fn the_tail_is_bounded_in_lines_and_bytes_and_long_lines_are_cut() {
        let hub = LogHub::new(Vec::new());
        hub.drain(&b"x\n".repeat(10_000)[..]).await;
        assert_eq!(hub.tail().len(), TAIL_LINES);
        hub.drain(&vec![b'y'; 3 * 1024 * 1024][..]).await;
        let bytes: usize = hub.tail().iter().map(String::len).sum();
        assert!(bytes <= TAIL_BYTES, "{bytes}");
        assert!(bytes > 0);
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_how_much_it_missed() {
        let hub = LogHub::new(Vec::new());
        let mut logs = hub.subscribe();
        hub.drain(&b"line\n".repeat(SUBSCRIBER_LINES + 10)[..])
            .await;
        for _ in 0..SUBSCRIBER_LINES {
            assert_eq!(logs.next().await.map(|line| line.missed), Some(0));
        }
        hub.drain(&b"after\n"[..]).await;
        let line = logs.next().await.expect("a line");
        assert_eq!((line.message.as_str(), line.missed), ("after", 10));
    }
}
