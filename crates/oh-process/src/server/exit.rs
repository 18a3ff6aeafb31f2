//! How a server ended.

use std::{fmt, process::ExitStatus, time::Duration};

/// How a server ended, and what had to be done for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExitReport {
    /// How the process ended. A server that was asked to stop ends by SIGTERM.
    pub status: ExitStatus,
    /// Whether it had to be killed after its grace.
    pub killed: bool,
    /// How many processes it had started and left behind; they were killed.
    pub left_behind: usize,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.killed {
            "killed after its grace"
        } else {
            "stopped when asked"
        };
        write!(f, "{how} ({}) within {:.1?}", self.status, self.took)?;
        match self.left_behind {
            0 => Ok(()),
            1 => f.write_str(", 1 process it left was killed"),
            left => write!(f, ", {left} processes it left were killed"),
        }
    }
}
