//! Stands in for the keeper where processes cannot be kept as this crate promises: refuses to
//! start anything. Windows would do it with a job object, which needs unsafe code.

use std::{ffi::OsString, path::PathBuf};

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

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {}

/// There is none.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) keeper: Keeper,
    pub(crate) pid: u32,
    pub(crate) stdout: Empty,
    pub(crate) stderr: Empty,
    pub(crate) end: End,
}

/// There is none.
#[derive(Debug)]
pub(crate) struct End(Keeper);

impl Spawn {
    /// Refuses.
    pub(crate) async fn start(self) -> Result<Running> {
        self.start_with(|_| true).await
    }

    /// Refuses.
    pub(crate) async fn start_with(self, _enter: impl FnOnce(&Keeper) -> bool) -> Result<Running> {
        let _unused = (
            self.python,
            self.command,
            self.environment,
            self.directory,
            self.doomed,
        );
        let message =
            "local servers are run on Linux and macOS only; attach to one that runs elsewhere";
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

impl Keeper {
    /// Cannot be called: there is no keeper.
    pub(crate) fn terminate(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn kill(&self) {
        match *self {}
    }

    /// Cannot be called: there is no keeper.
    pub(crate) fn kill_blocking(&self) {
        match *self {}
    }
}

impl End {
    /// Cannot be called: nothing runs.
    pub(crate) async fn wait(&mut self) -> ExitReport {
        match self.0 {}
    }
}
