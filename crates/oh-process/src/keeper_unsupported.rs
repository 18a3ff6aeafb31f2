//! Stands in for the keeper where processes cannot be kept as this crate promises: refuses to
//! start anything. Windows would do it with a job object, which needs unsafe code.

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::Empty;

use crate::{Error, ErrorKind, Result, status::ExitReport};

/// What to run, elsewhere.
#[derive(Debug)]
pub(crate) struct Spawn {
    pub(crate) python: PathBuf,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    pub(crate) doomed: Option<PathBuf>,
}

/// What to run, elsewhere.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) command: &'a [OsString],
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) directory: &'a Path,
    pub(crate) config: &'a [u8],
    pub(crate) config_file: &'a Path,
}

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {}

/// There is none.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) stdout: Empty,
    pub(crate) stderr: Empty,
    pub(crate) end: End,
}

/// There is none.
#[derive(Debug)]
pub(crate) struct End(Keeper);

/// Where the configuration would be.
pub(crate) fn config_path(file: &Path) -> PathBuf {
    file.to_owned()
}

fn refused() -> Error {
    let message =
        "local servers are run on Linux and macOS only; attach to one that runs elsewhere";
    Error::new(ErrorKind::Unsupported, message)
}

impl Spawn {
    /// Refuses.
    pub(crate) async fn start(self) -> Result<Running> {
        let _unused = (
            self.python,
            self.command,
            self.environment,
            self.directory,
            self.doomed,
        );
        Err(refused())
    }

    /// Refuses.
    pub(crate) async fn start_holding(self, _locks: &[&File]) -> Result<Running> {
        self.start().await
    }
}

impl Keeper {
    /// Refuses.
    pub(crate) async fn start(_: &Path, _: &[(OsString, OsString)]) -> Result<Self> {
        Err(refused())
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn pid(&self) -> u32 {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn hold(&self, _: &File) -> io::Result<()> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn remove_if_orphaned(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn remove_at_end(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn remove_browser_directories(&self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn grace(&self, _: Duration) -> io::Result<()> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) async fn run(&self, _: Job<'_>) -> Result<Running> {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn wipe_config(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn terminate(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn kill(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn close_blocking(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn is_alive(&self) -> bool {
        match *self {}
    }
}

impl End {
    /// Cannot be called: nothing runs.
    pub(crate) async fn wait(&mut self) -> ExitReport {
        match self.0 {}
    }
}
