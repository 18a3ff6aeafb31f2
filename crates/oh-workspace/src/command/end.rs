//! Results of commands: decodes the end of a command from the server's last piece of output.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use oh_protocol::calls::bash::{BashCommand, BashOutput};

use super::order::unmarked;
use crate::{Error, ErrorKind};

/// The prefix that the server writes to stderr for a command it could not run.
const FAILED: &str = "Error executing command:";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEnd {
    exit_code: Option<i32>,
    timed_out: bool,
    duration: Duration,
}

/// The end of a command and its whole output.
///
/// ```no_run
/// # async fn status(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
/// let output = workspace.execute("git status --short").await?;
/// match output.exit_code() {
///     Some(0) => println!("{}", output.stdout()),
///     Some(code) => eprintln!("exit code {code}: {}", output.stderr()),
///     None => eprintln!("timed out after {:?}", output.duration()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CommandOutput {
    line: String,
    id: String,
    end: CommandEnd,
    stdout: String,
    stderr: String,
}

/// The end of a command and the exact bytes of its output: see
/// [`Execute::bytes`](crate::Execute::bytes).
#[derive(Clone, PartialEq, Eq)]
pub struct CommandBytes {
    output: CommandOutput,
    stdout: Bytes,
    stderr: Bytes,
}

impl CommandEnd {
    /// Decodes the last piece. `limit` is the command's timeout; `expired` means that the client
    /// stopped the command at that timeout. `waited` is the duration to use when the server's
    /// timestamps are invalid.
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
            // Output of a command usually ends with a line break.
            && !why.ends_with('\n')
        {
            // The line may contain secrets, so the error does not repeat it.
            let cwd = command.cwd.as_deref().unwrap_or_default();
            let why = why.trim().replace(cwd, unmarked(cwd));
            let context = format!("cannot run the command: {why}");
            return Err(Error::new(ErrorKind::NotStarted, context).of_command(&command.id));
        }
        // A command killed by SIGHUP also ends with −1, so only the time distinguishes a timeout. A
        // command that the client stopped may have handled the signal and exited with any code.
        let timed_out = (code < 0 || expired) && duration >= limit;
        Ok(Self {
            exit_code: (!timed_out).then_some(code),
            timed_out,
            duration,
        })
    }

    /// Returns the exit code; −N after signal N. `None` when the command timed out.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Returns whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// Returns whether the command was stopped because of its timeout.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Returns how long the command ran, by the server's clock.
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

    /// Returns the command line that was run, without its environment variables.
    pub fn command(&self) -> &str {
        &self.line
    }

    /// Returns the command's id on the server.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns how the command ended, without its output.
    pub fn end(&self) -> CommandEnd {
        self.end
    }

    /// Returns the exit code; −N after signal N. `None` when the command timed out.
    pub fn exit_code(&self) -> Option<i32> {
        self.end.exit_code
    }

    /// Returns whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.end.success()
    }

    /// Returns whether the command was stopped because of its timeout.
    pub fn timed_out(&self) -> bool {
        self.end.timed_out
    }

    /// Returns the output on stdout. The server decodes it as UTF-8, 8192 bytes at a time. Invalid
    /// UTF-8, and a character that crosses such a boundary, become U+FFFD. For exact bytes use
    /// [`Execute::bytes`](crate::Execute::bytes).
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// Returns the output on stderr, decoded in the same way.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Returns how long the command ran, by the server's clock.
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

    /// Returns the command line that was run, without its environment variables.
    pub fn command(&self) -> &str {
        self.output.command()
    }

    /// Returns the command's id on the server. The history does not contain this command's output.
    pub fn id(&self) -> &str {
        self.output.id()
    }

    /// Returns how the command ended.
    pub fn end(&self) -> CommandEnd {
        self.output.end()
    }

    /// Returns the exit code; −N after signal N. `None` when the command timed out.
    pub fn exit_code(&self) -> Option<i32> {
        self.output.exit_code()
    }

    /// Returns whether the command exited with 0.
    pub fn success(&self) -> bool {
        self.output.success()
    }

    /// Returns the output on stdout.
    pub fn stdout(&self) -> &Bytes {
        &self.stdout
    }

    /// Returns the output on stderr.
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

// Output may be megabytes, so only its beginning is shown. The command line may contain secrets.
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

/// Shortens text for an error message, because output may be megabytes.
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
    fn a_timeout_is_recognised_by_time_and_not_by_exit_code() {
        let hangup = read(-1, None, "2026-01-01T00:00:01.9Z").unwrap();
        assert_eq!((hangup.exit_code(), hangup.timed_out()), (Some(-1), false));
        let late = read(-1, None, "2026-01-01T00:00:02.001Z").unwrap();
        assert_eq!((late.exit_code(), late.timed_out()), (None, true));
        // The client stopped the command at its timeout.
        let stopped = read(-15, None, "2026-01-01T00:00:02Z").unwrap();
        assert_eq!((stopped.exit_code(), stopped.timed_out()), (None, true));
        // The command ended by itself, if late: its exit code matters more.
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
        // The timeout of a command that never ran does not matter.
        let late = read(
            -1,
            Some("Error executing command: no"),
            "2026-01-01T00:00:09Z",
        );
        assert_eq!(late.unwrap_err().kind(), ErrorKind::NotStarted);
        // The text alone is not enough.
        let code = read(3, Some("Error executing command: hm"), ended).unwrap();
        assert_eq!(code.exit_code(), Some(3));
        let written = read(-1, Some("Error executing command: hm\n"), ended).unwrap();
        assert_eq!(written.exit_code(), Some(-1));
    }

    #[test]
    fn unreadable_clocks_are_replaced() {
        let end = read(0, None, "yesterday").unwrap();
        assert_eq!(end.duration(), Duration::from_millis(7));
        // The clock was set back by an hour in between.
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
