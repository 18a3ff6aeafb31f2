//! A command under a keeper: a small process that outlives neither the command nor its owner,
//! and lets nothing that the command started outlive either. Knows nothing of servers.
//!
//! Why a process between: the owner may die in ways that run no code (`kill -9`), and
//! `PR_SET_PDEATHSIG` would follow the spawning *thread*, reach only one process, and need
//! unsafe code. The keeper holds the other end of a socket whose end the kernel closes with the
//! owner, and is a subreaper: whatever the command starts, even a daemon in a session of its
//! own, is a descendant of the keeper, so that "nothing is left" can be checked, not hoped for.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{UnixStream, unix::pipe},
};

use crate::{Error, ErrorKind, Result, status::ExitReport, sweep};

const SCRIPT: &str = include_str!("keeper.py");

/// Names, in the environment of everything a command starts, the command it belongs to: how
/// survivors are found where the keeper itself was killed.
pub(crate) const MARK: &str = "OPENHANDS_RS_OWNED";

/// What to run.
#[derive(Debug)]
pub(crate) struct Spawn {
    /// Runs the keeper: any Python 3.9 or newer.
    pub(crate) python: PathBuf,
    /// The command and its arguments; the command's path is absolute.
    pub(crate) command: Vec<OsString>,
    /// The whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    /// Removed by the keeper when the owner dies without a word.
    pub(crate) doomed: Option<PathBuf>,
}

/// The means to end a command and everything it started. Does so when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    child: Mutex<Child>,
    control: StdUnixStream,
    mark: String,
}

/// A command that runs: its output, and its end.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) keeper: Keeper,
    pub(crate) pid: u32,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    pub(crate) end: End,
}

/// Waits for the end of a command.
#[derive(Debug)]
pub(crate) struct End {
    keeper: Keeper,
    reports: BufReader<UnixStream>,
    line: Vec<u8>,
    exit: Option<ExitReport>,
}

impl Spawn {
    /// Starts the command. Cancel safe: dropping this ends what was started.
    pub(crate) async fn start(self) -> Result<Running> {
        self.start_with(|_| true).await
    }

    /// The same; `enter` learns of the keeper as soon as there is one, and may refuse it.
    pub(crate) async fn start_with(self, enter: impl FnOnce(&Keeper) -> bool) -> Result<Running> {
        let what = self.command.first().cloned().unwrap_or_default();
        let failed = |error: io::Error| {
            let what = what.to_string_lossy();
            Error::new(ErrorKind::Spawn, format!("cannot start {what}")).with_source(error)
        };
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let mut child = Command::new(&self.python)
            .args(["-I", "-S", "-c", SCRIPT])
            .arg(self.doomed.unwrap_or_default())
            .args(&self.command)
            .env_clear()
            .envs(self.environment)
            .env(MARK, &mark)
            .current_dir(&self.directory)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let keeper = Keeper(Arc::new(Inner {
            child: Mutex::new(child),
            control: ours.try_clone().map_err(failed)?,
            mark,
        }));
        if !enter(&keeper) {
            return Err(Error::new(ErrorKind::Spawn, "it is not wanted any more"));
        }
        let pipe = |end: Option<OwnedFd>| {
            let end = end.ok_or_else(|| io::Error::other("no pipe"))?;
            pipe::Receiver::from_owned_fd(end)
        };
        let mut end = End {
            keeper: keeper.clone(),
            reports: BufReader::new(UnixStream::from_std(ours).map_err(failed)?),
            line: Vec::new(),
            exit: None,
        };
        let stdout = pipe(stdout.map(OwnedFd::from)).map_err(failed)?;
        let stderr = pipe(stderr.map(OwnedFd::from)).map_err(failed)?;
        let pid = match end.report().await {
            Some(Report::Pid(pid)) => pid,
            Some(Report::Failed(code)) => return Err(failed(io::Error::from_raw_os_error(code))),
            _ => return Err(failed(io::Error::other("its keeper did not start"))),
        };
        Ok(Running {
            keeper,
            pid,
            stdout,
            stderr,
            end,
        })
    }
}

impl Keeper {
    /// SIGTERM to the command's process group.
    pub(crate) fn terminate(&self) {
        self.0.order(b"t");
    }

    /// Kills everything, without waiting for it.
    pub(crate) fn kill(&self) {
        self.0.order(b"k");
    }

    /// Kills everything and waits until it is gone: some milliseconds. Needs no runtime.
    pub(crate) fn kill_blocking(&self) {
        self.0.kill_blocking();
    }
}

impl Inner {
    fn order(&self, order: &[u8]) {
        // When the keeper is gone there is nobody left to order about.
        let _gone = (&self.control).write(order);
    }

    fn kill_blocking(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.order(b"k");
        let begun = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(12) {
                let _gone = child.kill();
                let _gone = child.wait();
                sweep::kill_marked(MARK, &self.mark);
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kill_blocking();
    }
}

enum Report {
    Pid(u32),
    Failed(i32),
    Exit(i32, u32),
}

impl End {
    /// Waits until the command and everything it started are gone. Cancel safe.
    pub(crate) async fn wait(&mut self) -> ExitReport {
        while let Some(report) = self.report().await {
            if let Report::Exit(code, others) = report {
                self.exit = Some(ExitReport::from_code(code, others));
            }
        }
        let inner = &self.keeper.0;
        let mut child = inner.child.lock().unwrap_or_else(PoisonError::into_inner);
        // The socket closed, so this only takes the dead keeper in.
        let _status = child.wait();
        drop(child);
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        // The keeper itself was killed. The command went with it; others may not have.
        let others = sweep::kill_marked(MARK, &inner.mark);
        self.exit.insert(ExitReport::from_code(-9, others)).clone()
    }

    async fn report(&mut self) -> Option<Report> {
        loop {
            // `read_until` leaves in `line` what was read before a cancellation.
            let read = self.reports.read_until(b'\n', &mut self.line).await;
            if !matches!(read, Ok(1..)) || !self.line.ends_with(b"\n") {
                return None;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split_whitespace();
            let word = words.next();
            let mut number = || words.next().and_then(|word| word.parse::<i32>().ok());
            let report = match (word, number(), number()) {
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
