//! Replaces the keeper on systems where cleanup cannot be guaranteed. Always fails to start.
//! Windows would need a job object, which requires unsafe code.

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::Empty;

use crate::{Error, ErrorKind, Result, supervise::status::ExitReport};

/// A command; never run on this system.
#[derive(Debug)]
pub(crate) struct Spawn {
    pub(crate) python: PathBuf,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    pub(crate) remove_if_orphaned: Option<PathBuf>,
}

/// A command; never run on this system.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) command: &'a [OsString],
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) directory: &'a Path,
    pub(crate) config: &'a [u8],
    pub(crate) config_file: &'a Path,
}

/// Placeholder; never created.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {}

/// Placeholder; never created.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) stdout: Empty,
    pub(crate) stderr: Empty,
    pub(crate) end: End,
}

/// Placeholder; never created.
#[derive(Debug)]
pub(crate) struct End(Keeper);

/// Returns the path that the configuration would have.
pub(crate) fn config_path(file: &Path) -> PathBuf {
    file.to_owned()
}

fn refused() -> Error {
    let message = "local servers are supported only on Linux and macOS; attach to a server that \
                   runs elsewhere";
    Error::new(ErrorKind::Unsupported, message)
}

impl Spawn {
    /// Fails with [`ErrorKind::Unsupported`].
    pub(crate) async fn start(self) -> Result<Running> {
        let _unused = (
            self.python,
            self.command,
            self.environment,
            self.directory,
            self.remove_if_orphaned,
        );
        Err(refused())
    }

    /// Fails with [`ErrorKind::Unsupported`].
    pub(crate) async fn start_holding(self, _locks: &[&File]) -> Result<Running> {
        self.start().await
    }
}

impl Keeper {
    /// Fails with [`ErrorKind::Unsupported`].
    pub(crate) async fn start(_: &Path, _: &[(OsString, OsString)]) -> Result<Self> {
        Err(refused())
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn pid(&self) -> u32 {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn hold(&self, _: &File) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn remove_if_orphaned(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn remove_at_end(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn remove_browser_directories(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn grace(&self, _: Duration) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) async fn at_end(&self, _: &str) -> io::Result<String> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) async fn run(&self, _: Job<'_>) -> Result<Running> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) async fn wipe_config(&self) -> io::Result<()> {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn terminate(&self) {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn kill(&self) {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn close_blocking(&self) {
        match *self {}
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) fn is_alive(&self) -> bool {
        match *self {}
    }
}

impl End {
    pub(crate) fn may_have_escaped(&self) -> bool {
        false
    }

    /// Exists for the compiler only: no keeper can exist on this system.
    pub(crate) async fn wait(&mut self) -> ExitReport {
        match self.0 {}
    }
}
