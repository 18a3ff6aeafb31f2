//! Owns a server's processes and sees to their end, with or without a runtime.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, Command},
    task::AbortHandle,
    time::timeout,
};

use super::{ExitReport, logs::Logs, sweep};
use crate::{Error, ErrorKind, Result};

/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(2);

pub(super) struct Guard {
    child: Child,
    pid: u32,
    marker: String,
    warden: Warden,
    logs: Logs,
    drains: Vec<AbortHandle>,
    /// Removed last, when nothing writes to it any more.
    temporary: Option<TempDir>,
    ended: bool,
}

/// The process that outlives the owner just long enough to clean up.
struct Warden {
    child: Child,
    input: Option<ChildStdin>,
}

impl Warden {
    /// Started before the server, so that there is no moment without it.
    fn spawn(python: &Path, marker: &str, temporary: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(python);
        command
            .args(["-I", "-S", "-c", sweep::WARDEN])
            .arg(format!("{}={marker}", sweep::VARIABLE))
            .arg(temporary.unwrap_or(Path::new("")))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to the owner's group are not for it.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            Error::new(ErrorKind::Died, format!("cannot run {}", python.display())).because(error)
        })?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }
}

impl Guard {
    pub(super) fn spawn(
        python: &Path,
        mut command: Command,
        marker: String,
        logs: Logs,
        temporary: Option<TempDir>,
    ) -> Result<Self> {
        let warden = Warden::spawn(python, &marker, temporary.as_ref().map(TempDir::path))?;
        let mut child = command
            .env(sweep::VARIABLE, &marker)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Error::new(ErrorKind::Died, format!("cannot run {}", python.display()))
                    .because(error)
            })?;
        let pid = child.id().unwrap_or_default();
        let mut drains = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            drains.push(tokio::spawn(logs.clone().drain(pipe)).abort_handle());
        }
        if let Some(pipe) = child.stderr.take() {
            drains.push(tokio::spawn(logs.clone().drain(pipe)).abort_handle());
        }
        Ok(Self {
            child,
            pid,
            marker,
            warden,
            logs,
            drains,
            temporary,
            ended: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Hands out the temporary directory, for a second start in it.
    pub(super) fn take_temporary(&mut self) -> Option<TempDir> {
        self.temporary.take()
    }

    /// Waits for the server's own end.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.map_err(|error| {
            Error::new(ErrorKind::Io, "cannot wait for the server's end").because(error)
        })
    }

    pub(super) async fn shutdown(mut self, grace: Duration) -> Result<ExitReport> {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let (status, killed) = match timeout(grace, self.wait()).await {
            Ok(status) => (status?, false),
            Err(_) => {
                self.signal(Signal::KILL);
                (self.wait().await?, true)
            }
        };
        self.ended = true;
        let marker = self.marker.clone();
        let left_behind = tokio::task::spawn_blocking(move || sweep::sweep(&marker))
            .await
            .unwrap_or_default();
        if let Some(mut input) = self.warden.input.take() {
            let _ = input.write_all(b"done").await;
        }
        let _ = timeout(DYING, self.warden.child.wait()).await;
        Ok(ExitReport {
            status,
            killed,
            left_behind,
            took: begun.elapsed(),
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for drain in &self.drains {
            drain.abort();
        }
        if !self.ended {
            self.signal(Signal::KILL);
            sweep::sweep(&self.marker);
            reap(&mut self.child);
        }
        // Nothing is left for the warden to do.
        let _ = self.warden.child.start_kill();
        reap(&mut self.warden.child);
    }
}

/// Waits for a killed child without a runtime: a zombie would still hold leases.
fn reap(child: &mut Child) {
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < DYING {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A directory for tmux's socket, whose path must be short, and the same on every start.
pub(super) fn tmux_dir(state_dir: &Path) -> PathBuf {
    let within = state_dir.join("tmux");
    if within.as_os_str().len() <= 70 {
        return within;
    }
    let text = state_dir.to_string_lossy();
    let tag = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    std::env::temp_dir().join(format!("oh-tmux-{tag:016x}"))
}
