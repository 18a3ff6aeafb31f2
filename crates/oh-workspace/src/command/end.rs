//! How commands end: what the server's last piece of output means.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use oh_protocol::calls::bash::{BashCommand, BashOutput};

use super::order::unmarked;
use crate::{Error, ErrorKind};

/// What the server writes into stderr of a command it could not run.
const FAILED: &str = "Error executing command:";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEnd {
    exit_code: Option<i32>,
    timed_out: bool,
    duration: Duration,
}

/// How a command ended, and all it wrote.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandOutput {
    line: String,
    id: String,
    end: CommandEnd,
    stdout: String,
    stderr: String,
}

/// How a command ended, and the exact bytes it wrote: see
/// [`Execute::bytes`](crate::Execute::bytes).
#[derive(Clone, PartialEq, Eq)]
pub struct CommandBytes {
    output: CommandOutput,
    stdout: Bytes,
    stderr: Bytes,
}

impl CommandEnd {
    /// Reads the last piece. `limit` is the time the command had, and `expired` says that we
    /// ended it then; `waited` stands in for a clock of the server's that does not read.
    pub(super) fn read(
        command: &BashCommand,
        last: &BashOutput,
        limit: Duration,
        waited: Duration,
        expired: bool,
    ) -> Result<Self, Error> {
        let between = || {
            let begin: Timestamp = command.timestamp.parse().ok()?;
            let end: Timestamp = last.timestamp.parse().ok()?;
            Duration::try_from(end.duration_since(begin)).ok()
        };
        let duration = between().unwrap_or(waited);
        let code = last.exit_code.unwrap_or(-1);
        let why = last.stderr.as_deref().unwrap_or_default();
        if code == -1
            && last.order == 0
            && last.stdout.is_none()
            && let Some(why) = why.strip_prefix(FAILED)
            // What a command writes itself mostly ends its line.
            && !why.ends_with('\n')
        {
            // The line is not repeated: it may hold what nobody should read.
            let cwd = command.cwd.as_deref().unwrap_or_default();
            let why = why.trim().replace(cwd, unmarked(cwd));
            let context = format!("the command could not be run: {why}");
            return Err(Error::new(ErrorKind::NotStarted, context).of_command(&command.id));
        }
        // A command killed with SIGHUP ends with −1 too: only the time tells it from a timeout.
        // One that we ended may have handled the signal and given any code.
        let timed_out = (code < 0 || expired) && duration >= limit;
        Ok(Self {
            exit_code: (!timed_out).then_some(code),
            timed_out,
            duration,
        })
    }

    /// The exit code; −N after signal N. None when the command ran out of time.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// Whether it was ended because its time was over.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// How long it ran, by the server's clock.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

impl CommandOutput {
    pub(super) fn new(
        line: String,
        id: String,
        end: CommandEnd,
        stdout: String,
        stderr: String,
    ) -> Self {
        Self {
            line,
            id,
            end,
            stdout,
            stderr,
        }
    }

    /// The command line that was run, without the variables it was given.
    pub fn command(&self) -> &str {
        &self.line
    }

    /// The server's id of the command.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it ended, without what it wrote.
    pub fn end(&self) -> CommandEnd {
        self.end
    }

    /// The exit code; −N after signal N. None when the command ran out of time.
    pub fn exit_code(&self) -> Option<i32> {
        self.end.exit_code
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.end.success()
    }

    /// Whether it was ended because its time was over.
    pub fn timed_out(&self) -> bool {
        self.end.timed_out
    }

    /// What the command wrote to stdout. The server decodes it as UTF-8, 8192 bytes at a time: what
    /// is not UTF-8, and a character that lies across such a border, becomes U+FFFD. For exact
    /// bytes use [`Execute::bytes`](crate::Execute::bytes).
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// What it wrote to stderr, made text in the same way.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// How long it ran, by the server's clock.
    pub fn duration(&self) -> Duration {
        self.end.duration
    }
}

impl CommandBytes {
    pub(super) fn new(output: CommandOutput, stdout: Bytes, stderr: Bytes) -> Self {
        Self {
            output,
            stdout,
            stderr,
        }
    }

    /// The command line that was run, without the variables it was given.
    pub fn command(&self) -> &str {
        self.output.command()
    }

    /// The server's id of the command. Its history has no output of this command.
    pub fn id(&self) -> &str {
        self.output.id()
    }

    /// How the command ended.
    pub fn end(&self) -> CommandEnd {
        self.output.end()
    }

    /// The exit code; −N after signal N. None when the command ran out of time.
    pub fn exit_code(&self) -> Option<i32> {
        self.output.exit_code()
    }

    /// Whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.output.success()
    }

    /// What the command wrote to stdout.
    pub fn stdout(&self) -> &Bytes {
        &self.stdout
    }

    /// What the command wrote to stderr.
    pub fn stderr(&self) -> &Bytes {
        &self.stderr
    }
}

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandBytes")
            .field("id", &self.output.id)
            .field("end", &self.output.end)
            .field("stdout", &self.stdout.len())
            .field("stderr", &self.stderr.len())
            .finish_non_exhaustive()
    }
}

// What a command wrote may be megabytes: only its beginning is shown. Its line may hold what
// nobody should read.
impl fmt::Debug for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandOutput")
            .field("id", &self.id)
            .field("end", &self.end)
            .field("stdout", &cut(&self.stdout, 2000))
            .field("stderr", &cut(&self.stderr, 2000))
            .finish_non_exhaustive()
    }
}

/// What goes into an error is cut: it may be megabytes.
pub(crate) fn excerpt(line: &str, characters: usize) -> String {
    cut(line, characters).into_owned()
}

fn cut(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(code: i32, stderr: Option<&str>, ended: &str) -> Result<CommandEnd, Error> {
        let command =
            serde_json::json!({"id": "c", "command": "x", "timestamp": "2026-01-01T00:00:00Z"});
        let last = serde_json::json!({"command_id": "c", "exit_code": code, "stderr": stderr,
            "timestamp": ended});
        let command = serde_json::from_value(command).unwrap();
        let last = serde_json::from_value(last).unwrap();
        let limit = Duration::from_secs(2);
        CommandEnd::read(&command, &last, limit, Duration::from_millis(7), false)
    }

    #[test]
    fn a_timeout_is_told_by_the_time_not_by_the_code() {
        let hangup = read(-1, None, "2026-01-01T00:00:01.9Z").unwrap();
        assert_eq!((hangup.exit_code(), hangup.timed_out()), (Some(-1), false));
        let late = read(-1, None, "2026-01-01T00:00:02.001Z").unwrap();
        assert_eq!((late.exit_code(), late.timed_out()), (None, true));
        // Ended by us at its limit.
        let stopped = read(-15, None, "2026-01-01T00:00:02Z").unwrap();
        assert_eq!((stopped.exit_code(), stopped.timed_out()), (None, true));
        // It ended by itself, if late: its code is worth more.
        let slow = read(0, None, "2026-01-01T00:00:03Z").unwrap();
        assert_eq!((slow.exit_code(), slow.timed_out()), (Some(0), false));
        assert_eq!(slow.duration(), Duration::from_secs(3));
    }

    #[test]
    fn a_command_that_could_not_run_is_an_error() {
        let ended = "2026-01-01T00:00:00.1Z";
        let error = read(-1, Some("Error executing command: [Errno 2] no"), ended).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotStarted);
        assert_eq!(error.command_id(), Some("c"));
        // However late: the limit of a command that never ran is no matter.
        let late = read(
            -1,
            Some("Error executing command: no"),
            "2026-01-01T00:00:09Z",
        );
        assert_eq!(late.unwrap_err().kind(), ErrorKind::NotStarted);
        // The words alone mean nothing.
        let code = read(3, Some("Error executing command: hm"), ended).unwrap();
        assert_eq!(code.exit_code(), Some(3));
        let written = read(-1, Some("Error executing command: hm\n"), ended).unwrap();
        assert_eq!(written.exit_code(), Some(-1));
    }

    #[test]
    fn clocks_that_do_not_read_are_replaced() {
        let end = read(0, None, "yesterday").unwrap();
        assert_eq!(end.duration(), Duration::from_millis(7));
        // Set back by an hour meanwhile.
        let end = read(0, None, "2025-12-31T23:00:00Z").unwrap();
        assert_eq!(end.duration(), Duration::from_millis(7));
    }

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        assert_eq!(excerpt("ls", 80), "ls");
        assert_eq!(
            excerpt(&"ü".repeat(100), 80),
            format!("{}…", "ü".repeat(80))
        );
    }
}
