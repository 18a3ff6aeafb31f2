//! The status of a supervised server, how it ended, and when it is restarted.

use std::{fmt, time::Duration};

use tokio::sync::watch;

/// The current status of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The process is running but does not answer yet.
    Starting,
    /// The server answers, and its identity is verified.
    Ready,
    /// The server ended unexpectedly and is being restarted.
    Restarting {
        /// Number of the attempt, from 1. Starts over after the server was stable for a while.
        attempt: u32,
    },
    /// The server is frozen: it keeps its memory, but uses no CPU time and answers nothing. Only a
    /// server in a container can be paused.
    Paused,
    /// The server was asked to end and is still running.
    Stopping,
    /// The server has ended and will not be restarted.
    Exited(ExitReport),
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExitReport {
    /// The exit code, if the server exited. 3: the port was taken when it tried to listen.
    pub code: Option<i32>,
    /// The signal, if the server was killed by one. An orderly shutdown ends with SIGTERM (15).
    pub signal: Option<i32>,
    /// Whether the server was killed because the grace period had passed.
    pub killed: bool,
    /// Whether the kernel killed the server because the memory limit of its container was reached.
    pub out_of_memory: bool,
    /// Number of other processes (terminals, commands) that outlived the server and were killed.
    pub left_behind: u32,
    /// Time from the shutdown request until everything was gone. Zero if there was no request.
    pub duration: Duration,
}

impl ExitReport {
    /// Creates a report from a code of the keeper, in which a negative number is a signal.
    pub(crate) fn from_code(code: i32, left_behind: u32) -> Self {
        Self {
            code: (code >= 0).then_some(code),
            signal: (code < 0).then_some(-code),
            killed: false,
            out_of_memory: false,
            left_behind,
            duration: Duration::ZERO,
        }
    }

    /// Creates the report of a container's main process. Engines and shells report a signal as a
    /// code above 128.
    #[doc(hidden)]
    pub fn of_container(code: Option<i64>, out_of_memory: bool) -> Self {
        let code = code.and_then(|code| i32::try_from(code).ok());
        let signal = code.filter(|code| (129..=192).contains(code));
        let mut report = match (code, signal) {
            (_, Some(signal)) => Self::from_code(128 - signal, 0),
            (Some(code), None) => Self::from_code(code, 0),
            (None, None) => Self {
                code: None,
                ..Self::from_code(0, 0)
            },
        };
        report.out_of_memory = out_of_memory;
        report
    }

    /// Returns whether the server ended in an orderly way: it exited with 0, or by the SIGTERM that
    /// it was sent.
    pub fn success(&self) -> bool {
        self.code == Some(0) || (self.signal == Some(15) && !self.killed)
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}")?,
            (None, Some(15)) => write!(f, "stopped (SIGTERM)")?,
            (None, Some(signal)) => match name(signal) {
                Some(name) => write!(f, "killed by {name}")?,
                None => write!(f, "killed by signal {signal}")?,
            },
            (None, None) => write!(f, "ended with an unknown status")?,
        }
        if self.killed {
            f.write_str(" after the grace period")?;
        }
        if self.out_of_memory {
            f.write_str(": out of memory")?;
        }
        Ok(())
    }
}

/// Returns the name of a signal that commonly ends a process.
fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        _ => return None,
    })
}

/// A watch on the status of a server. Yields the latest status; intermediate ones may be skipped.
///
/// ```no_run
/// # async fn watch(server: &oh_process::LocalServer) {
/// let mut status = server.status();
/// while let Some(status) = status.changed().await {
///     println!("{status:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StatusWatch(pub(crate) watch::Receiver<Status>);

impl StatusWatch {
    /// Returns the current status.
    pub fn current(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Waits until the status changes. Returns `None` if there will be no other status. Cancel
    /// safe.
    pub async fn changed(&mut self) -> Option<Status> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until `wanted` returns true. Returns `None` if it never will. Cancel-safe.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        self.0.wait_for(wanted).await.ok().map(|seen| seen.clone())
    }
}

/// When to restart a server that ended unexpectedly. A restarted server has the same port, keys and
/// state directory, so conversations continue.
///
/// ```no_run
/// # async fn start() -> oh_process::Result<()> {
/// use oh_process::{LocalServer, RestartPolicy};
///
/// let server = LocalServer::builder().restart(RestartPolicy::on_failure(3)).start().await?;
/// # drop(server);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    pub(crate) limit: u32,
    pub(crate) first_delay: Duration,
    pub(crate) max_delay: Duration,
    pub(crate) stable_after: Duration,
}

impl RestartPolicy {
    /// Never restarts the server. The default.
    pub fn never() -> Self {
        Self::on_failure(0)
    }

    /// Restarts a server that failed: one that ended by itself with a status other than 0. Restarts
    /// at most `limit` times in a row, after 0.5 s, 1 s, 2 s … up to 30 s. The count starts over
    /// when the server has been ready for 60 s.
    pub fn on_failure(limit: u32) -> Self {
        Self {
            limit,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
        }
    }

    /// Sets the first delay. It is doubled for each attempt, up to `max`.
    #[must_use]
    pub fn delays(mut self, first: Duration, max: Duration) -> Self {
        self.first_delay = first;
        self.max_delay = max;
        self
    }

    /// Sets how long the server must be ready for the count to start over.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// Returns the delay before an attempt, counted from 1. Returns `None` if the limit is
    /// exceeded, or the server did not fail.
    pub(crate) fn delay(&self, attempt: u32, exit: &ExitReport) -> Option<Duration> {
        if attempt > self.limit || exit.code == Some(0) {
            return None;
        }
        let factor = 2u32.saturating_pow(attempt.saturating_sub(1).min(20));
        Some(self.first_delay.saturating_mul(factor).min(self.max_delay))
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self::never()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_cap_and_end_at_the_limit() {
        let policy =
            RestartPolicy::on_failure(4).delays(Duration::from_secs(1), Duration::from_secs(3));
        let failed = ExitReport::from_code(1, 0);
        let delays: Vec<_> = (1..=5)
            .map(|attempt| policy.delay(attempt, &failed))
            .collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(
            delays,
            [seconds(1), seconds(2), seconds(3), seconds(3), None]
        );
        assert_eq!(RestartPolicy::never().delay(1, &failed), None);
        assert_eq!(policy.delay(1, &ExitReport::from_code(0, 0)), None);
        let killed = ExitReport::from_code(-9, 0);
        assert_eq!(policy.delay(1, &killed), seconds(1));
    }

    #[test]
    fn a_clean_shutdown_is_not_reported_as_a_kill() {
        let report = |code| ExitReport::from_code(code, 0).to_string();
        assert_eq!(report(-15), "stopped (SIGTERM)");
        assert_eq!(report(0), "exit status 0");
        assert_eq!(report(-9), "killed by SIGKILL");
        assert_eq!(report(-64), "killed by signal 64");
        let late = ExitReport {
            killed: true,
            ..ExitReport::from_code(-9, 0)
        };
        assert_eq!(late.to_string(), "killed by SIGKILL after the grace period");
    }

    #[test]
    fn the_end_of_a_container_has_its_signal_and_its_reason() {
        let report = |code, memory| ExitReport::of_container(code, memory).to_string();
        assert_eq!(report(Some(137), true), "killed by SIGKILL: out of memory");
        assert_eq!(report(Some(143), false), "stopped (SIGTERM)");
        assert_eq!(report(Some(3), false), "exit status 3");
        assert_eq!(report(Some(255), false), "exit status 255");
        assert_eq!(report(None, false), "ended with an unknown status");
    }

    #[test]
    fn a_signal_is_distinguished_from_an_exit_code() {
        let report = ExitReport::from_code(-15, 2);
        assert_eq!(
            (report.code, report.signal, report.left_behind),
            (None, Some(15), 2)
        );
        assert!(report.success());
        assert!(!ExitReport::from_code(3, 0).success());
    }
}
