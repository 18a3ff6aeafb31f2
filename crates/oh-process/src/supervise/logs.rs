//! Reads the output of a process for as long as it runs. Keeps a bounded tail and sends each line,
//! without secrets, to tracing and to subscribers. `oh_protocol::redact` decides what is secret.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use oh_protocol::redact::{Redactor, StreamRedactor};
use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};

/// Maximum bytes of a line. A longer line is split.
const MAX_LINE: usize = 64 * 1024;
/// Limits of the tail, in lines and bytes.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: usize = 256 * 1024;
/// Buffer of a subscriber, in lines. A subscriber that falls further behind misses lines.
const SUBSCRIBER_LINES: usize = 1024;

/// Severity of a log line, as the server defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Details for debugging the server.
    Debug,
    /// Normal operation.
    Info,
    /// A problem that did not stop the operation.
    Warning,
    /// A failure.
    Error,
}

impl LogLevel {
    /// Returns the level as the server's settings spell it.
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
    /// Severity; `Info` if the line has none.
    pub level: LogLevel,
    /// Name of the server's logger that wrote the line; `None` for plain text.
    pub logger: Option<String>,
    /// The message text.
    pub message: String,
    /// Number of lines before this one that the subscriber missed because it was too slow.
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

/// A stream of the lines written from now on, including those after restarts. Ends when the server
/// is dropped or has exited permanently. A slow reader misses lines ([`LogLine::missed`]) and never
/// blocks the server.
///
/// ```no_run
/// # async fn follow(server: &oh_process::LocalServer) {
/// let mut logs = server.logs();
/// while let Some(line) = logs.next().await {
///     println!("{:?} {}", line.level, line.message);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Logs(mpsc::Receiver<LogLine>);

impl Logs {
    /// Waits for the next line. Returns `None` at the end. Cancel-safe.
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

/// Distributes the lines of one server.
#[derive(Clone)]
pub(crate) struct LogHub(Arc<Hub>);

struct Hub {
    redactor: Mutex<Redactor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tail: VecDeque<String>,
    tail_bytes: usize,
    subscribers: Vec<(mpsc::Sender<LogLine>, u64)>,
}

impl LogHub {
    /// Creates a hub that hides these secrets wherever they appear, and other secrets by their
    /// form.
    pub(crate) fn new(secrets: Vec<SecretString>) -> Self {
        let hub = Self(Arc::new(Hub {
            redactor: Mutex::default(),
            state: Mutex::default(),
        }));
        hub.hide(secrets);
        hub
    }

    /// Adds secrets to hide from now on.
    pub(crate) fn hide(&self, secrets: impl IntoIterator<Item = SecretString>) {
        let mut redactor = self.redactor();
        for secret in secrets {
            redactor.add(&secret);
        }
    }

    fn redactor(&self) -> MutexGuard<'_, Redactor> {
        let redactor = self.0.redactor.lock();
        redactor.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Logs {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_LINES);
        self.state().subscribers.push((sender, 0));
        Logs(receiver)
    }

    /// Returns the last lines, oldest first.
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
        let mut long: Option<LongLine> = None;
        loop {
            match pipe.read_buf(&mut pending).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let mut begin = 0;
            while let Some(length) = pending[begin..].iter().position(|byte| *byte == b'\n') {
                let line = &pending[begin..begin + length];
                match long.take() {
                    Some(long) => self.text(long.end(line).trim_end()),
                    None => self.line(line),
                }
                begin += length + 1;
            }
            pending.drain(..begin);
            if pending.len() >= MAX_LINE {
                let long = long.get_or_insert_with(|| LongLine::new(&self.redactor()));
                self.text(&long.next(&pending));
                pending.clear();
            }
            // A server that writes without pause must not block other tasks of this thread.
            tokio::task::yield_now().await;
        }
        match long {
            Some(long) => self.text(long.end(&pending).trim_end()),
            None => self.line(&pending),
        }
    }

    /// Processes a complete line.
    fn line(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        let mut line = parse(text);
        let redactor = self.redactor().clone();
        line.message = redactor.text(&line.message);
        line.logger = line.logger.map(|logger| redactor.text(&logger));
        self.notify(line);
    }

    /// Processes a part of a line that is too long, without its secrets.
    fn text(&self, shown: &str) {
        if !shown.is_empty() {
            self.notify(LogLine::plain(shown));
        }
    }

    fn notify(&self, mut line: LogLine) {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHub").finish_non_exhaustive()
    }
}

/// A line that exceeds [`MAX_LINE`]. The line is published in parts. A secret that crosses the end
/// of a part is hidden as well.
struct LongLine {
    redactor: StreamRedactor,
    /// First bytes of an incomplete character.
    half: Vec<u8>,
}

impl LongLine {
    fn new(redactor: &Redactor) -> Self {
        Self {
            redactor: redactor.stream(),
            half: Vec::new(),
        }
    }

    /// Returns the text of this part and of those before it that can be shown.
    fn next(&mut self, bytes: &[u8]) -> String {
        self.half.extend_from_slice(bytes);
        let mut whole = self.half.len();
        // A character has at most four bytes, and only the last character can be incomplete.
        for at in (whole.saturating_sub(3)..whole).rev() {
            let byte = self.half[at];
            if byte & 0xc0 != 0x80 {
                let length = usize::try_from(byte.leading_ones()).unwrap_or(1).max(1);
                if at + length > whole {
                    whole = at;
                }
                break;
            }
        }
        let rest = self.half.split_off(whole);
        let shown = self.redactor.push(&String::from_utf8_lossy(&self.half));
        self.half = rest;
        shown
    }

    /// Returns the text of the last part and of those before it that can be shown.
    fn end(mut self, bytes: &[u8]) -> String {
        self.half.extend_from_slice(bytes);
        let mut shown = self.redactor.push(&String::from_utf8_lossy(&self.half));
        shown.push_str(&self.redactor.finish());
        shown
    }
}

impl LogLine {
    fn plain(text: &str) -> Self {
        Self {
            level: LogLevel::Info,
            logger: None,
            message: text.to_owned(),
            missed: 0,
        }
    }
}

/// Parses the JSON that the server's logger writes. Anything else becomes a message at INFO.
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
        return LogLine::plain(text);
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

/// Sends a line to tracing. The target and level of an event are static, so each level has its own
/// event. The server's logger is a field.
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
    use oh_protocol::redact::HIDDEN;

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
    async fn secrets_are_hidden_even_if_one_contains_another() {
        let hub = LogHub::new(vec!["secret-1".into(), "my-secret-1-long".into()]);
        let seen = lines(&hub, b"a my-secret-1-long b secret-1 c\n").await;
        assert_eq!(seen[0].message, "a <redacted> b <redacted> c");
        assert_eq!(hub.tail(), ["a <redacted> b <redacted> c"]);
    }

    async fn text(hub: &LogHub, bytes: &[u8]) -> String {
        let lines = lines(hub, bytes).await;
        let lines: Vec<_> = lines.iter().map(LogLine::to_string).collect();
        lines.concat() + &hub.tail().concat()
    }

    #[tokio::test]
    async fn a_secret_across_any_cut_of_a_long_line_is_hidden() {
        let secret = "canary-äöü-0123456789";
        for before in MAX_LINE - 2 * secret.len()..MAX_LINE + 2 {
            let hub = LogHub::new(vec![secret.into()]);
            let mut bytes = "y".repeat(before - 1).into_bytes();
            bytes.push(b' ');
            bytes.extend_from_slice(secret.as_bytes());
            bytes.extend_from_slice(b" end\nnext\n");
            let shown = text(&hub, &bytes).await;
            assert_eq!(shown.matches(HIDDEN).count(), 2, "{before}");
            assert!(
                !shown.contains("canary") && !shown.contains("0123"),
                "{before}"
            );
            assert!(
                !shown.contains('\u{fffd}') && !shown.contains('ä'),
                "{before}"
            );
            assert!(shown.contains(" end") && shown.contains("next"));
        }
    }

    #[tokio::test]
    async fn a_secret_is_hidden_in_every_form_of_a_log() {
        let hub = LogHub::new(vec!["canary \"ä\" of 1".into()]);
        for line in [
            r#"{"message": "canary \"\u00e4\" of 1"}"#,
            r#"{"message": "{\"key\": \"canary \\\"\\u00e4\\\" of 1\"}"}"#,
            r#"{"message": "x", "name": "canary \"ä\" of 1"}"#,
            r#"{"message": "x", "exc_info": "canary \"ä\" of 1"}"#,
            r#"{"message": 1, "other": "canary \"\u00e4\" of 1"}"#,
            "GET /x/canary%20%22%C3%A4%22%20of%201/y",
            "GET /x/canary+%22%c3%a4%22+of+1/y",
            "Authorisation Y2FuYXJ5ICLDpCIgb2YgMQ==",
            "Authorisation dTpjYW5hcnkgIsOkIiBvZiAx",
        ] {
            let shown = text(&hub, line.as_bytes()).await;
            assert!(shown.contains(HIDDEN), "{line}: {shown}");
            for part in ["canary", "of 1", "Y2FuYXJ5", "FuYXJ5", "%22"] {
                assert!(!shown.contains(part), "{line}: {shown}");
            }
        }
    }

    #[tokio::test]
    async fn unknown_secrets_are_hidden_by_the_rules_for_errors() {
        let hub = LogHub::new(Vec::new());
        for line in [
            "LLM(api_key='canary', model='m')",
            r#"{"message": "POST https://u:canary@h/x?token=canary failed"}"#,
            "Authorization: Bearer canary-123-canary",
        ] {
            let shown = text(&hub, line.as_bytes()).await;
            assert!(!shown.contains("canary"), "{shown}");
        }
        let long = format!("{} api_key=canary\n", "y".repeat(MAX_LINE - 9));
        assert!(!text(&hub, long.as_bytes()).await.contains("canary"));
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
    async fn a_slow_subscriber_receives_the_number_of_missed_lines() {
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
