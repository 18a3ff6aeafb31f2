//! Runs a template's process: starts it once, requests a keeper for each server, and ends it with
//! its owner.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream as StdUnixStream},
    },
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{UnixStream, unix::pipe},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    Environment, Error, ErrorKind, Result,
    start::{
        launch::LAUNCH,
        settings::Settings,
        state::{Place, start_directory},
    },
    supervise::{
        keeper::{self, Keeper},
        logs::LogHub,
    },
    template::{
        fit::Fixed,
        parameters::{LIBRARIES, MODULES},
    },
};

const SCRIPT: &str = include_str!("template.py");

/// Reserved space in the process table for a server's arguments and variables.
const ARGUMENTS: usize = 1024;
const VARIABLES: usize = 16 * 1024;

/// A process that has imported the server's modules.
#[derive(Debug)]
pub(crate) struct Process {
    child: Mutex<Child>,
    pid: u32,
    control: StdUnixStream,
    pub(crate) fixed: Fixed,
}

/// Waits for the end of a template's process.
#[derive(Debug)]
pub(crate) struct End(BufReader<UnixStream>);

/// Why a process did not become a template.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether a retry would fail in the same way.
    pub(crate) is_final: bool,
}

/// Report of the process after its imports.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    places: Vec<String>,
    error: Option<String>,
    #[serde(default, rename = "final")]
    is_final: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            is_final: false,
        }
    }
}

impl Process {
    /// Starts the process and waits until the modules are imported. Cancel-safe: dropping the
    /// future stops everything that was started.
    pub(crate) async fn start(
        environment: &Environment,
        settings: &Settings,
    ) -> Result<(Self, End), Failed> {
        let failed = |error: io::Error| {
            let message = format!("cannot start a template: {error}");
            Error::new(ErrorKind::Spawn, message).with_source(error)
        };
        let place = Place::temporary()?;
        let root = place.root().to_owned();
        // This keeper removes the directories if this process ends while modules are imported.
        let variables = settings.variables.build(Vec::new(), &[])?;
        let keeper = Keeper::start(environment.python(), &variables).await?;
        keeper.remove_at_end(&root).map_err(failed)?;
        let variables = settings.ours(&place, &place.workspace());
        let variables = settings.variables.build(variables, &settings.local()?)?;
        let state = place.make(|lock, outside| {
            keeper.hold(lock)?;
            outside.map_or(Ok(()), |path| keeper.remove_at_end(path))
        })?;
        let directory = start_directory(&root)?;
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let (stdout, out) = io::pipe().map_err(failed)?;
        let (stderr, err) = io::pipe().map_err(failed)?;
        let child = Command::new(environment.python())
            .args(["-I", "-u", "-X", "utf8", "-c", keeper::LOADER])
            .arg("x".repeat(ARGUMENTS))
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("OPENHANDS_RS_ROOM", "x".repeat(VARIABLES))
            .current_dir(directory.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(out))
            .stderr(Stdio::from(err))
            .spawn()
            .map_err(failed)?;
        let mut process = Self {
            pid: child.id(),
            child: Mutex::new(child),
            control: ours.try_clone().map_err(failed)?,
            fixed: Fixed::default(),
        };
        let logs = LogHub::new(Vec::new());
        for output in [stdout, stderr] {
            let output = pipe::Receiver::from_owned_fd(output.into()).map_err(failed)?;
            let logs = logs.clone();
            // The task ends with the process.
            tokio::spawn(async move { logs.drain(output).await });
        }
        let mut stream = BufReader::new(UnixStream::from_std(ours).map_err(failed)?);
        process.brief(&root).map_err(failed)?;
        let mut line = Vec::new();
        let answered = timeout(
            settings.server.deadline,
            stream.read_until(b'\n', &mut line),
        )
        .await;
        let answer = match answered {
            Ok(Ok(1..)) => serde_json::from_slice::<Answer>(&line).ok(),
            Ok(_) => None,
            Err(_) => {
                let seconds = settings.server.deadline.as_secs_f32();
                let message = format!("the template was not ready within {seconds} s");
                return Err(Error::new(ErrorKind::NotReady, message)
                    .with_log_tail(logs.tail())
                    .into());
            }
        };
        // The directories are unused from now on.
        let tidied = spawn_blocking(move || {
            drop(directory);
            drop(keeper);
            drop(state);
        });
        let _runtime_going_down = tidied.await;
        let Some(answer) = answer else {
            let message = "the template ended while it imported the server's modules";
            return Err(Error::new(ErrorKind::Died, message)
                .with_log_tail(logs.tail())
                .into());
        };
        if let Some(why) = answer.error {
            let message = format!("cannot create a template of the server: {why}");
            return Err(Failed {
                error: Error::new(ErrorKind::BadEnvironment, message).with_log_tail(logs.tail()),
                is_final: answer.is_final,
            });
        }
        process.fixed = Fixed {
            variables: variables.into_iter().collect(),
            read: answer.read.into_iter().collect(),
            places: answer.places.into_iter().collect(),
        };
        Ok((process, End(stream)))
    }

    /// Sends the script and its parameters.
    fn brief(&self, root: &std::path::Path) -> io::Result<()> {
        let script = format!("{:08}{SCRIPT}", SCRIPT.len());
        keeper::write(&self.control, script.as_bytes())?;
        let mut payload = Vec::new();
        let texts = [keeper::SCRIPT, LAUNCH, MODULES, LIBRARIES].map(str::as_bytes);
        for text in texts.into_iter().chain([root.as_os_str().as_bytes()]) {
            payload.extend_from_slice(text);
            payload.push(0);
        }
        keeper::send(&self.control, b'm', &payload, &[])
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Forks a keeper whose commands run in the modules that this process has imported. Cancel
    /// safe: dropping the future ends the keeper.
    ///
    /// # Errors
    ///
    /// Returns the reason as text.
    pub(crate) async fn fork(&self, limit: Duration) -> Result<Keeper, String> {
        let failed =
            |error: io::Error| format!("the template cannot receive the fork request: {error}");
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        keeper::send(&self.control, b'f', b"", &[theirs.as_fd()]).map_err(failed)?;
        drop(theirs);
        match timeout(limit, Keeper::forked(ours)).await {
            Ok(forked) => forked,
            Err(_) => {
                // A process that hangs is replaced.
                self.kill();
                Err(format!("the template did not fork within {limit:?}"))
            }
        }
    }

    fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _gone = child.kill();
        let _taken_in_by_the_kernel = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The forked keepers keep running.
        self.kill();
    }
}

impl End {
    /// Waits until the process has ended. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        let mut nothing = [0; 64];
        while let Ok(1..) = self.0.read(&mut nothing).await {}
    }
}
