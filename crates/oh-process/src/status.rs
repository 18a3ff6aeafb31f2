//! What a supervised server is doing, and how it ended. Values only; decides nothing.

use std::{fmt, time::Duration};

use tokio::sync::watch;

/// What a server is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Its process runs; it does not answer yet.
    Starting,
    /// It answers, and has proven to be ours.
    Ready,
    /// It ended by itself and is started again.
    Restarting {
        /// Counts from 1; begins anew after the server was well for a while.
        attempt: u32,
    },
    /// It was asked to end and has not yet.
    Stopping,
    /// It is gone, and stays so.
    Exited(ExitReport),
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExitReport {
    /// The exit code, where it exited. 3: the port was taken when it came to listen.
    pub code: Option<i32>,
    /// The signal, where it was killed by one. A server ends by SIGTERM (15) when asked to.
    pub signal: Option<i32>,
    /// Whether the grace passed and it had to be killed.
    pub killed: bool,
    /// How many other processes (terminals, commands) outlived it and were killed.
    pub left_behind: u32,
    /// From the request to end until all was gone; zero when nobody asked.
    pub took: Duration,
}

impl ExitReport {
    /// From a code as the keeper writes it: negative is a signal.
    pub(crate) fn from_code(code: i32, left_behind: u32) -> Self {
        Self {
            code: (code >= 0).then_some(code),
            signal: (code < 0).then_some(-code),
            killed: false,
            left_behind,
            took: Duration::ZERO,
        }
    }

    /// Whether it ended in order: by itself with 0, or by the SIGTERM it was sent.
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
            (None, None) => write!(f, "ended unseen")?,
        }
        if self.killed {
            f.write_str(" after the grace period")?;
        }
        Ok(())
    }
}

/// The names of the signals by which a process usually ends.
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

/// Follows the status of a server. Sees the newest only, never each in between.
#[derive(Debug, Clone)]
pub struct StatusWatch(pub(crate) watch::Receiver<Status>);

impl StatusWatch {
    /// The status now.
    pub fn current(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Waits for a status not seen yet; `None` when there will be no other. Cancel safe.
    pub async fn changed(&mut self) -> Option<Status> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until `wanted` holds; `None` when it never will. Cancel safe.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Status) -> bool) -> Option<Status> {
        self.0.wait_for(wanted).await.ok().map(|seen| seen.clone())
    }
}

/// Whether a server that ends by itself is started again: on the same port, with the same keys
/// and state directory, so that conversations go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    pub(crate) limit: u32,
    pub(crate) first_delay: Duration,
    pub(crate) max_delay: Duration,
    pub(crate) well_after: Duration,
}

impl RestartPolicy {
    /// Never; the default.
    pub fn never() -> Self {
        Self::on_failure(0)
    }

    /// Restarts a server that failed: that ended by itself with another status than 0. At most
    /// `limit` times in a row, after 0.5 s, 1 s, 2 s … up to 30 s. The count starts over once the
    /// server was ready for 60 s.
    pub fn on_failure(limit: u32) -> Self {
        Self {
            limit,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            well_after: Duration::from_secs(60),
        }
    }

    /// The first delay, doubled each time up to `max`.
    #[must_use]
    pub fn delays(mut self, first: Duration, max: Duration) -> Self {
        self.first_delay = first;
        self.max_delay = max;
        self
    }

    /// How long it must be ready for the count to begin anew.
    #[must_use]
    pub fn well_after(mut self, time: Duration) -> Self {
        self.well_after = time;
        self
    }

    /// The delay before an attempt that counts from 1; `None` when the limit is passed, or the end
    /// was no failure.
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
    fn a_signal_is_told_from_a_code() {
        let report = ExitReport::from_code(-15, 2);
        assert_eq!(
            (report.code, report.signal, report.left_behind),
            (None, Some(15), 2)
        );
        assert!(report.success());
        assert!(!ExitReport::from_code(3, 0).success());
    }
}
