//! Runs commands under a keeper: a small process that ends after its owner, and first kills every
//! process that the commands started.
//!
//! The owner may die in ways that run no code (`kill -9`), so a separate process is necessary.
//! `PR_SET_PDEATHSIG` would follow the spawning *thread*, reach only one process, and need unsafe
//! code. The keeper holds the other end of a socket that the kernel closes when the owner ends. The
//! keeper is also a subreaper: every process that a command starts, even a daemon in its own
//! session, is a descendant of the keeper, so the keeper can verify that nothing is left.
//!
//! The keeper lives as long as its owner wants, over many commands. It therefore also holds the
//! owner's locks and removes the owner's directories: both stay until all processes are gone.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IoSlice, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
    task::spawn_blocking,
};

use super::{
    process::Process,
    reports::{Report, Reports},
    status::ExitReport,
    sweep,
};
use crate::{Error, ErrorKind, Result};

/// Reads a script from stdin, which keeps the script out of the command line.
pub(crate) const LOADER: &str = include_str!("loader.py");
pub(crate) const SCRIPT: &str = include_str!("keeper.py");

/// Variable in the environment of every process that a command starts. Its value identifies the
/// keeper, so that surviving processes can be found if the keeper itself was killed.
pub(crate) const MARK: &str = "OPENHANDS_RS_OWNED";

/// Prefixes of the names of the variables that a keeper gets: its interpreter needs them to find
/// programs and libraries, and to choose an encoding.
const NEEDED: &[&str] = &["PATH", "LD_", "DYLD_", "LANG", "LC_"];

/// Maximum time for a keeper to kill everything before it is killed itself, or left to its script.
const PATIENCE: Duration = Duration::from_secs(12);

/// Flags for sending: if the reader is gone, return an error instead of raising SIGPIPE.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// Maximum time that the socket to the keeper may be full. The keeper normally reads at once.
const SEND_LIMIT: Duration = Duration::from_millis(200);

/// A single command with its own keeper.
#[derive(Debug)]
pub(crate) struct Spawn {
    /// Interpreter for the keeper: any Python 3.9 or newer.
    pub(crate) python: PathBuf,
    /// The command and its arguments; the command's path is absolute.
    pub(crate) command: Vec<OsString>,
    /// The complete environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    /// Directory that the keeper removes if the owner dies without cleaning up.
    pub(crate) remove_if_orphaned: Option<PathBuf>,
}

/// A command for a keeper to run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The command and its arguments; the command's path is absolute.
    pub(crate) command: &'a [OsString],
    /// The complete environment.
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) directory: &'a Path,
    /// Configuration that the command reads from [`config_path`]. Never written to disk unless
    /// there is no alternative.
    pub(crate) config: &'a [u8],
    /// File for the configuration on systems where it cannot be kept in memory.
    pub(crate) config_file: &'a Path,
}

/// Returns the path from which a command reads its configuration. `file` is used where the
/// configuration cannot be kept in memory.
pub(crate) fn config_path(file: &Path) -> PathBuf {
    match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/fd/3"),
        false => file.to_owned(),
    }
}

/// A handle that runs commands and ends everything they started. Dropping the last clone ends
/// everything.
#[derive(Debug, Clone)]
pub(crate) struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: Mutex<Process>,
    pid: u32,
    /// Written to from any thread. Shares its end of the socket with `reports`.
    control: StdUnixStream,
    reports: tokio::sync::Mutex<Reports>,
    mark: String,
    /// Whether the keeper has a script for its end, which must not be cut off.
    has_script: AtomicBool,
}

/// A running command, with its output and its end.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    pub(crate) end: End,
}

/// Waits for the end of a command.
#[derive(Debug)]
pub(crate) struct End {
    keeper: Keeper,
    exit: Option<ExitReport>,
    /// Whether the keeper ended first, so that a process may have escaped.
    unkept: bool,
}

impl Spawn {
    /// Starts the command. Cancel-safe: dropping the future ends what was started.
    pub(crate) async fn start(self) -> Result<Running> {
        self.start_holding(&[]).await
    }

    /// Starts the command and holds these locks until everything that was started is gone, even if
    /// this process is killed first.
    pub(crate) async fn start_holding(self, locks: &[&File]) -> Result<Running> {
        let keeper = Keeper::start(&self.python, &self.environment).await?;
        let failed = |error| cannot_start(self.python.as_os_str(), error);
        for lock in locks {
            keeper.hold(lock).map_err(failed)?;
        }
        if let Some(path) = &self.remove_if_orphaned {
            keeper.remove_if_orphaned(path).map_err(failed)?;
        }
        let job = Job {
            command: &self.command,
            environment: &self.environment,
            directory: &self.directory,
            config: b"",
            config_file: Path::new(""),
        };
        keeper.run(job).await
    }
}

impl Keeper {
    /// Waits for a keeper that a template process forks for this socket. Cancel-safe: dropping the
    /// future ends the keeper.
    ///
    /// # Errors
    ///
    /// Returns the reason from the template or the operating system.
    #[cfg(target_os = "linux")]
    pub(crate) async fn forked(ours: StdUnixStream) -> std::result::Result<Self, String> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let failed = |error: io::Error| error.to_string();
        ours.set_nonblocking(true).map_err(failed)?;
        let control = ours.try_clone().map_err(failed)?;
        let stream = UnixStream::from_std(ours).map_err(failed)?;
        let mut reports = Reports::new(stream);
        let pid = match reports.next().await {
            Some(Report::Up(pid)) => pid,
            Some(Report::Refused(why)) => return Err(why),
            _ => return Err("the template ended while it was forking the server".to_owned()),
        };
        let gone = || "the keeper process ended immediately".to_owned();
        let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let known = known.ok_or_else(gone)?;
        let process = pidfd_open(known, PidfdFlags::empty())
            .map_err(|error| format!("cannot watch the keeper process: {error}"))?;
        // The process id cannot be reused as long as the keeper holds the other end.
        let mut polled = [PollFd::new(&control, PollFlags::empty())];
        if poll(&mut polled, Some(&Timespec::default())) != Ok(0) {
            return Err(gone());
        }
        Ok(Self(Arc::new(Inner {
            pid,
            process: Mutex::new(Process::Forked(process)),
            control,
            reports: tokio::sync::Mutex::new(reports),
            mark: uuid::Uuid::new_v4().simple().to_string(),
            has_script: AtomicBool::new(false),
        })))
    }

    /// Starts a keeper with this interpreter. The keeper gets only those variables of `environment`
    /// that an interpreter needs to run; the others are for the keeper's commands. Cancel-safe:
    /// dropping the future ends the keeper.
    pub(crate) async fn start(python: &Path, environment: &[(OsString, OsString)]) -> Result<Self> {
        let needed = environment.iter().filter(|(name, _)| {
            let name = name.to_string_lossy();
            NEEDED.iter().any(|needed| name.starts_with(needed))
        });
        let failed = |error| cannot_start(python.as_os_str(), error);
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let mut child = Command::new(python)
            .args(["-I", "-S", "-c", LOADER])
            .env_clear()
            .envs(needed.map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = child.stderr.take();
        let control = ours.try_clone().map_err(failed)?;
        let keeper = Self(Arc::new(Inner {
            pid: child.id(),
            process: Mutex::new(Process::Child(child)),
            control,
            reports: tokio::sync::Mutex::new(Reports::new(
                UnixStream::from_std(ours).map_err(failed)?,
            )),
            mark,
            has_script: AtomicBool::new(false),
        }));
        let script = format!("{:08}{SCRIPT}", SCRIPT.len());
        keeper.0.write(script.as_bytes()).map_err(failed)?;
        match keeper.0.reports.lock().await.next().await {
            Some(Report::Up(_)) => Ok(keeper.clone()),
            _ => Err(failed(io::Error::other(reason(stderr).await))),
        }
    }

    /// Returns the id of the keeper's process, the ancestor of every process that runs here.
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Holds a lock until everything is gone, even if this process is killed first.
    pub(crate) fn hold(&self, lock: &File) -> io::Result<()> {
        self.0.send(b'l', b"", &[lock.as_fd()])
    }

    /// Removes this path if the owner dies without cleaning up.
    pub(crate) fn remove_if_orphaned(&self, path: &Path) -> io::Result<()> {
        self.0.send(b'd', path.as_os_str().as_bytes(), &[])
    }

    /// Removes this path when the keeper ends, for any reason.
    pub(crate) fn remove_at_end(&self, path: &Path) -> io::Result<()> {
        self.0.send(b'D', path.as_os_str().as_bytes(), &[])
    }

    /// Removes the directories in the file `record` each time a command has ended. The browser's
    /// library creates them outside of all directories that it was given.
    pub(crate) fn remove_browser_directories(&self, record: &Path) -> io::Result<()> {
        self.0.send(b'b', record.as_os_str().as_bytes(), &[])
    }

    /// Sets how long a command may take to end by itself after the owner has died. Default: zero.
    pub(crate) fn grace(&self, grace: Duration) -> io::Result<()> {
        self.0
            .send(b'g', grace.as_millis().to_string().as_bytes(), &[])
    }

    /// Runs this Python script now, and its function `end` last of all: after everything else is
    /// gone, whether the owner has died or not. Replaces an earlier script. Returns the script's
    /// variable `said`, a string without line breaks, when it ran. Not cancel-safe: a dropped
    /// future leaves the report of the script to the next caller.
    pub(crate) async fn at_end(&self, script: &str) -> io::Result<String> {
        let mut reports = self.0.reports.lock().await;
        self.0.has_script.store(true, Ordering::Relaxed);
        self.0.send(b'e', script.as_bytes(), &[])?;
        match reports.next().await {
            Some(Report::Ran(said)) => Ok(said),
            _ => Err(io::Error::other("the keeper process has ended")),
        }
    }

    /// Starts a command while no other command runs. Not cancel-safe: if the future is dropped, the
    /// command may run until [`kill`](Self::kill) or the end of the keeper.
    pub(crate) async fn run(&self, job: Job<'_>) -> Result<Running> {
        let what = job.command.first().cloned().unwrap_or_default();
        let failed = |error| cannot_start(&what, error);
        let (stdout, out) = io::pipe().map_err(failed)?;
        let (stderr, err) = io::pipe().map_err(failed)?;
        let receiver = |end: OwnedFd| pipe::Receiver::from_owned_fd(end).map_err(failed);
        let (stdout, stderr) = (receiver(stdout.into())?, receiver(stderr.into())?);
        let payload = job.payload(&self.0.mark);
        let mut reports = self.0.reports.lock().await;
        self.0
            .send(b'r', &payload, &[out.as_fd(), err.as_fd()])
            .map_err(failed)?;
        drop((out, err));
        let pid = loop {
            match reports.next().await {
                Some(Report::Pid(pid)) => break pid,
                Some(Report::Failed(code)) => {
                    return Err(failed(io::Error::from_raw_os_error(code)));
                }
                // The report belongs to an earlier command whose end no caller has awaited.
                Some(Report::Exit(..) | Report::Up(_) | Report::Ran(_) | Report::Refused(_)) => {}
                None => {
                    return Err(failed(io::Error::other("the keeper process has ended")));
                }
            }
        };
        drop(reports);
        Ok(Running {
            pid,
            stdout,
            stderr,
            end: End {
                keeper: self.clone(),
                exit: None,
                unkept: false,
            },
        })
    }

    /// Wipes the configuration of the running command, which has read it. Returns when it is wiped,
    /// or when the keeper has ended. Cancel-safe.
    pub(crate) async fn wipe_config(&self) -> io::Result<()> {
        let (wiped, end) = io::pipe()?;
        let mut wiped = pipe::Receiver::from_owned_fd(wiped.into())?;
        match self.0.send(b'w', b"", &[end.as_fd()]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
        drop(end);
        // The keeper closes the other end, and writes nothing.
        wiped.read(&mut [0]).await.map(drop)
    }

    /// Sends SIGTERM to the command's process group.
    pub(crate) fn terminate(&self) {
        self.0.order(b't');
    }

    /// Kills the command and everything it started, without waiting for the end.
    pub(crate) fn kill(&self) {
        self.0.order(b'k');
    }

    /// Kills everything, ends the keeper and waits a few milliseconds until all processes are gone.
    /// Requires no runtime.
    pub(crate) fn close_blocking(&self) {
        self.0.close_blocking();
    }

    /// Returns whether the keeper can still run commands.
    pub(crate) fn is_alive(&self) -> bool {
        !self.0.ended()
    }
}

impl Job<'_> {
    fn payload(&self, mark: &str) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut field = |parts: &[&[u8]]| {
            for part in parts {
                payload.extend_from_slice(part);
            }
            payload.push(0);
        };
        field(&[self.directory.as_os_str().as_bytes()]);
        field(&[self.config_file.as_os_str().as_bytes()]);
        field(&[self.config]);
        field(&[(self.environment.len() + 1).to_string().as_bytes()]);
        for (name, value) in self.environment {
            field(&[name.as_bytes(), b"=", value.as_bytes()]);
        }
        field(&[MARK.as_bytes(), b"=", mark.as_bytes()]);
        for argument in self.command {
            field(&[argument.as_bytes()]);
        }
        payload
    }
}

impl Inner {
    /// Sends a single-letter command. Ignored if the keeper is gone.
    fn order(&self, letter: u8) {
        let _gone = self.send(letter, b"", &[]);
    }

    fn send(&self, letter: u8, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.control, letter, payload, descriptors)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.control, bytes)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_blocking(&self) {
        self.order(b'q');
        let begun = Instant::now();
        // Checks whether the process has ended, not only whether it can be reaped: if this process
        // ignores SIGCHLD, the kernel reaps children by itself.
        while !self.ended() {
            if begun.elapsed() > PATIENCE {
                let leaves = self.has_script.load(Ordering::Relaxed);
                if leaves {
                    self.process().leave();
                } else {
                    self.process().kill();
                }
                sweep::kill_marked(MARK, &self.mark, leaves.then_some(self.pid));
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns whether the keeper's process has ended, and reaps it.
    fn ended(&self) -> bool {
        self.process().ended(self.pid)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close_blocking();
    }
}

/// Sends a message to a keeper or a template process, in the format of keeper.py.
pub(crate) fn send(
    control: &StdUnixStream,
    letter: u8,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let head = format!("{}{:08x}", char::from(letter), payload.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(
            "too many file descriptors for one message",
        ));
    }
    // The kernel sends so few bytes completely or not at all.
    let head = [IoSlice::new(head.as_bytes())];
    writable(|| rustix::net::sendmsg(control, &head, &mut ancillary, SEND_FLAGS))?;
    write(control, payload)
}

pub(crate) fn write(control: &StdUnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = writable(|| rustix::net::send(control, bytes, SEND_FLAGS))?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Retries until the socket has room, which is at once unless the reader hangs.
fn writable(mut send: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        match send() {
            Err(rustix::io::Errno::AGAIN) if begun.elapsed() < SEND_LIMIT => {
                thread::sleep(Duration::from_micros(100));
            }
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

impl End {
    /// Waits until the command and everything it started are gone. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> ExitReport {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let report = self.keeper.0.reports.lock().await.next().await;
        let exit = match report {
            Some(Report::Exit(code, others)) => ExitReport::from_code(code, others),
            // The keeper itself was killed. The command ended with it, but other processes may not
            // have.
            _ => {
                self.unkept = true;
                let keeper = self.keeper.clone();
                let swept = spawn_blocking(move || sweep::kill_marked(MARK, &keeper.0.mark, None));
                ExitReport::from_code(-9, swept.await.unwrap_or_default())
            }
        };
        self.exit.insert(exit).clone()
    }
}

impl End {
    /// Returns whether a process may have escaped and still hold the output, after the end.
    pub(crate) fn may_have_escaped(&self) -> bool {
        self.unkept
    }
}

fn cannot_start(what: &OsStr, error: io::Error) -> Error {
    let what = what.to_string_lossy();
    Error::new(ErrorKind::Spawn, format!("cannot start {what}: {error}")).with_source(error)
}

/// Returns why a keeper did not start: the last line that its interpreter wrote.
async fn reason(stderr: Option<ChildStderr>) -> String {
    let read = spawn_blocking(move || {
        let mut text = String::new();
        if let Some(stderr) = stderr {
            let _best_effort = stderr.take(64 * 1024).read_to_string(&mut text);
        }
        text
    });
    let text = read.await.unwrap_or_default();
    match text.lines().rfind(|line| !line.trim().is_empty()) {
        Some(last) => format!("the keeper process did not start: {last}"),
        None => "the keeper process did not start".to_owned(),
    }
}
