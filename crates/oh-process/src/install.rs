//! Runs uv, or venv and pip, and says what their failure means. Knows no cache.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

use crate::{Error, ErrorKind, Result, interpreter, keeper::Spawn};

/// What makes the environment.
#[derive(Debug)]
pub(crate) enum Tool {
    Uv {
        uv: PathBuf,
        python: Option<PathBuf>,
    },
    Pip {
        python: PathBuf,
    },
}

/// What to make, and where.
pub(crate) struct Installer<'a> {
    pub(crate) root: &'a Path,
    /// A directory that exists, to run in.
    pub(crate) scratch: &'a Path,
    pub(crate) packages: &'a [String],
    pub(crate) report: &'a (dyn Fn(String) + Send + Sync),
}

impl Installer<'_> {
    pub(crate) async fn run(&self, tool: &Tool) -> Result<()> {
        let root = self.root.as_os_str();
        let inside = interpreter::in_environment(self.root);
        match tool {
            Tool::Uv { uv, python } => {
                let version = OsStr::new("3.13");
                let python = python.as_deref().map_or(version, Path::as_os_str);
                let venv: [&OsStr; 5] = [
                    "venv".as_ref(),
                    "--no-project".as_ref(),
                    "--python".as_ref(),
                    python,
                    root,
                ];
                self.uv_venv(uv, &venv).await?;
                let install: [&OsStr; 5] = [
                    "pip".as_ref(),
                    "install".as_ref(),
                    "--compile-bytecode".as_ref(),
                    "--python".as_ref(),
                    inside.as_os_str(),
                ];
                self.step(&inside, uv, &install, true).await
            }
            Tool::Pip { python } => {
                let venv: [&OsStr; 4] = ["-I".as_ref(), "-m".as_ref(), "venv".as_ref(), root];
                self.step(python, python, &venv, false).await?;
                let install = [
                    "-I",
                    "-m",
                    "pip",
                    "install",
                    "--no-input",
                    "--progress-bar",
                    "off",
                    "--disable-pip-version-check",
                    "--retries",
                    "2",
                    "--compile",
                ];
                self.step(&inside, &inside, &install.map(OsStr::new), true)
                    .await
            }
        }
    }

    /// Runs one step under a keeper, so that it dies with us and takes what it made with it.
    async fn step(
        &self,
        python: &Path,
        program: &Path,
        arguments: &[&OsStr],
        packages: bool,
    ) -> Result<()> {
        let mut command = vec![program.as_os_str().to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        if packages {
            command.extend(self.packages.iter().map(OsString::from));
        }
        let spawn = Spawn {
            python: python.to_owned(),
            command,
            environment: environment(),
            directory: self.scratch.to_owned(),
            doomed: Some(self.root.to_owned()),
        };
        let mut running = spawn.start().await?;
        let said = Said::default();
        let (exit, (), ()) = tokio::join!(
            running.end.wait(),
            self.follow(running.stdout, &said),
            self.follow(running.stderr, &said),
        );
        if exit.code == Some(0) {
            return Ok(());
        }
        Err(failure(&said.lines()).with_exit(exit))
    }

    /// uv may have to fetch the very interpreter that a keeper would need.
    async fn uv_venv(&self, uv: &Path, arguments: &[&OsStr]) -> Result<()> {
        let failed = |error| Error::new(ErrorKind::Provision, "cannot run uv").with_source(error);
        let mut child = Command::new(uv)
            .args(arguments)
            .current_dir(self.scratch)
            .env_clear()
            .envs(environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let said = Said::default();
        if let Some(stderr) = child.stderr.take() {
            self.follow(stderr, &said).await;
        }
        if child.wait().await.map_err(failed)?.success() {
            return Ok(());
        }
        Err(failure(&said.lines()))
    }

    async fn follow(&self, pipe: impl AsyncRead + Unpin, said: &Said) {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            line.clear();
            if !text.is_empty() {
                said.push(text.clone());
                (self.report)(text);
            }
        }
    }
}

/// The last lines of an installer.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        if lines.len() > 400 {
            lines.drain(..200);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The caller's environment, where the installer's own settings live, without what would make
/// Python look elsewhere for modules, or keep it from writing the bytecode that every start needs.
fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            !matches!(
                name.as_ref(),
                "VIRTUAL_ENV" | "PIP_TARGET" | "PIP_PREFIX" | "PIP_USER"
            ) && (!name.starts_with("PYTHON"))
        })
        .chain([("PYTHONUNBUFFERED".into(), "1".into())])
        .collect()
}

/// Reads from what an installer said why it failed.
fn failure(said: &[String]) -> Error {
    let any = |patterns: &[&str]| {
        said.iter()
            .any(|line| patterns.iter().any(|pattern| line.contains(pattern)))
    };
    let (kind, context) = if any(&["No space left on device", "Errno 28", "os error 28"]) {
        (
            ErrorKind::DiskFull,
            "no space is left to make the environment",
        )
    } else if any(&[
        "Failed to establish a new connection",
        "NewConnectionError",
        "Connection refused",
        "Name or service not known",
        "name resolution",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ProxyError",
        "SSLError",
        "error sending request",
        "dns error",
        "Could not connect",
    ]) {
        (
            ErrorKind::IndexUnreachable,
            "the package index cannot be reached; nothing half-made was kept. Check the network \
             and the index settings of pip or uv",
        )
    } else if any(&[
        "No matching distribution found for openhands",
        "there is no version of openhands",
    ]) {
        (
            ErrorKind::UnknownVersion,
            "the package index does not hold this version of the server",
        )
    } else if any(&["Permission denied", "Errno 13", "Read-only file system"]) {
        (
            ErrorKind::Directory,
            "the environment's directory cannot be written",
        )
    } else {
        (ErrorKind::Provision, "the environment could not be made")
    };
    let tail = said[said.len().saturating_sub(30)..].to_vec();
    Error::new(kind, context).with_log_tail(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let kind = |line: &str| failure(&["noise".to_owned(), line.to_owned()]).kind();
        assert_eq!(
            kind("OSError: [Errno 28] No space left on device"),
            ErrorKind::DiskFull
        );
        assert_eq!(
            kind("WARNING: Retrying: NewConnectionError('…: Connection refused')"),
            ErrorKind::IndexUnreachable
        );
        assert_eq!(
            kind("ERROR: No matching distribution found for openhands-agent-server==0.0.7"),
            ErrorKind::UnknownVersion
        );
        assert_eq!(
            kind("PermissionError: [Errno 13] Permission denied: '/x'"),
            ErrorKind::Directory
        );
        assert_eq!(kind("something new"), ErrorKind::Provision);
    }

    #[test]
    fn an_unreachable_index_is_not_taken_for_an_unknown_version() {
        let said = [
            "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'",
            "ERROR: No matching distribution found for openhands-agent-server==1.58.0",
        ];
        assert_eq!(
            failure(&said.map(str::to_owned)).kind(),
            ErrorKind::IndexUnreachable
        );
    }
}
