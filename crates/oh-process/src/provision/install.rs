//! Runs uv, or venv and pip, and determines why they failed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use oh_protocol::redact;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

use crate::{
    Error, ErrorKind, Result, children,
    provision::{
        cache::{make_directory, write_file},
        interpreter,
    },
    supervise::keeper::Spawn,
};

/// The Python version that uv finds or downloads if no interpreter is known.
const UV_PYTHON: &str = "3.13";

/// File in an environment's directory with the constraints that it was created with.
const CONSTRAINTS: &str = "openhands-rs.constraints.txt";

/// Runs a command and kills it when stdin, a pipe from this process, is closed. Used for steps
/// before there is a Python that could run a keeper.
const WATCH: &str = r#"
umask go-w
exec 3<&0 </dev/null
"$@" 3<&- & job=$!
{ read -r _ <&3; kill -9 "$job"; } >/dev/null 2>&1 & watch=$!
exec 3<&-
wait "$job"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// Imports the server once. Removes the directories that the browser's library creates in /tmp when
/// it is imported.
const VERIFY: &str = "\
import os, sys
made = []
def note(event, arguments):
    if event == 'os.mkdir' and 'browser-use-downloads-' in str(arguments[0]):
        made.append(arguments[0])
sys.addaudithook(note)
try:
    import openhands.agent_server.api
finally:
    for path in made:
        try:
            os.rmdir(path)
        except OSError:
            pass
";

/// The program that creates the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tool {
    Uv {
        uv: PathBuf,
        python: Option<PathBuf>,
    },
    Pip {
        python: PathBuf,
    },
}

/// Installs packages into an environment.
pub(crate) struct Installer<'a> {
    pub(crate) root: &'a Path,
    /// An existing directory to run in.
    pub(crate) scratch: &'a Path,
    /// Held by the keeper of each step until everything that the step started is gone, even if this
    /// process is killed first.
    pub(crate) lock: &'a File,
    pub(crate) packages: &'a [String],
    pub(crate) constraints: Option<&'a str>,
    /// Whether network access is forbidden.
    pub(crate) offline: bool,
    /// Additional variables for uv.
    pub(crate) settings: &'a [(OsString, OsString)],
    pub(crate) report: &'a (dyn Fn(String) + Send + Sync),
}

impl Installer<'_> {
    pub(crate) async fn run(&self, tool: &Tool) -> Result<()> {
        let root = self.root.as_os_str();
        let inside = interpreter::in_environment(self.root);
        match tool {
            Tool::Uv { uv, python } => {
                let python = match python {
                    Some(python) => python.clone(),
                    None => self.uv_python(uv).await?,
                };
                let venv = ["venv", "--no-project", "--python"].map(OsStr::new);
                let rest = [python.as_os_str(), root];
                self.step(&python, uv, &[&venv[..], &rest].concat(), &[])
                    .await?;
                let install = ["pip", "install", "--compile-bytecode", "--python"];
                let mut arguments = install.map(OsString::from).to_vec();
                arguments.push(inside.clone().into());
                if self.offline {
                    arguments.push("--offline".into());
                }
                self.install(&inside, uv, arguments).await
            }
            Tool::Pip { python } => {
                let venv = ["-I", "-m", "venv"].map(OsStr::new);
                self.step(python, python, &[&venv[..], &[root]].concat(), &[])
                    .await?;
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
                let mut arguments = install.map(OsString::from).to_vec();
                if self.offline {
                    arguments.push("--no-index".into());
                }
                self.install(&inside, &inside, arguments).await
            }
        }
    }

    /// Imports the installed server once.
    pub(crate) async fn verify(&self) -> Result<()> {
        let inside = interpreter::in_environment(self.root);
        let home = self.root.join("home");
        make_directory(&home).map_err(|error| {
            Error::directory("cannot create a directory for the import test", error)
        })?;
        let arguments = ["-I", "-c", VERIFY].map(OsStr::new);
        let own = ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"]
            .map(|name| (name.into(), home.clone().into()));
        let verified = self.step(&inside, &inside, &arguments, &own).await;
        // Files that libraries write into the home directory when they are imported.
        let _left_over = std::fs::remove_dir_all(&home);
        verified.map_err(|error| match error.kind() {
            ErrorKind::Provision => {
                let context = "the packages were installed, but the server cannot be imported";
                let mut failed = Error::new(ErrorKind::Provision, context);
                if let Some(exit) = error.exit() {
                    failed = failed.with_exit(exit.clone());
                }
                failed.with_log_tail(error.log_tail().to_vec())
            }
            _ => error,
        })
    }

    async fn install(
        &self,
        python: &Path,
        program: &Path,
        mut arguments: Vec<OsString>,
    ) -> Result<()> {
        if let Some(constraints) = self.constraints {
            let path = self.root.join(CONSTRAINTS);
            write_file(&path, constraints).map_err(|error| {
                Error::directory(format!("cannot write {}", path.display()), error)
            })?;
            arguments.extend(["-c".into(), path.into()]);
        }
        arguments.extend(self.packages.iter().map(OsString::from));
        let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
        // The installers leave files here: uv its locks, and pip all of them when it is killed.
        let temporary = self.root.join("tmp");
        make_directory(&temporary).map_err(|error| {
            Error::directory(
                "cannot create a temporary directory for the installer",
                error,
            )
        })?;
        let variables = [("TMPDIR".into(), temporary.clone().into())];
        let installed = self.step(python, program, &arguments, &variables).await;
        let _left_over = std::fs::remove_dir_all(&temporary);
        installed.map_err(|error| match self.offline {
            true => Error::new(
                ErrorKind::IndexUnreachable,
                "the environment is not in the cache, and OPENHANDS_OFFLINE forbids downloads; \
                 unset it once, or create the environment with `oh provision` beforehand",
            )
            .with_log_tail(error.log_tail().to_vec()),
            false => error,
        })
    }

    /// Runs one step under a keeper, so that the step ends with this process and its files are
    /// removed.
    async fn step(
        &self,
        python: &Path,
        program: &Path,
        arguments: &[&OsStr],
        variables: &[(OsString, OsString)],
    ) -> Result<()> {
        let mut command = vec![program.as_os_str().to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let spawn = Spawn {
            python: python.to_owned(),
            command,
            environment: [&self.environment(), variables].concat(),
            directory: self.scratch.to_owned(),
            remove_if_orphaned: Some(self.root.to_owned()),
        };
        let mut running = spawn.start_holding(&[self.lock]).await?;
        let lines = LastLines::default();
        let (exit, (), ()) = tokio::join!(
            running.end.wait(),
            follow(Some(running.stdout), &lines, self.report),
            follow(Some(running.stderr), &lines, self.report),
        );
        if exit.code == Some(0) {
            return Ok(());
        }
        Err(failure(&lines.lines()).with_exit(exit))
    }

    /// Returns the interpreter that uv finds or downloads.
    async fn uv_python(&self, uv: &Path) -> Result<PathBuf> {
        let find = ["python", "find", "--no-project", UV_PYTHON];
        if let Ok(python) = self.uv(uv, &find).await {
            return Ok(python.into());
        }
        let install = ["python", "install", "--no-bin", UV_PYTHON];
        let offline: &[_] = if self.offline { &["--offline"] } else { &[] };
        let installed = self.uv(uv, &[&install[..], offline].concat()).await;
        installed.map_err(|error| {
            let (major, minor) = interpreter::OLDEST;
            let context = format!(
                "no Python {major}.{minor} or newer was found, and uv could not download one; \
                 install Python, or set UV_PYTHON_INSTALL_MIRROR to a reachable URL"
            );
            Error::new(error.kind(), context).with_log_tail(error.log_tail().to_vec())
        })?;
        self.uv(uv, &find).await.map(PathBuf::from)
    }

    async fn uv(&self, uv: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = vec![OsString::from(uv)];
        command.extend(arguments.iter().map(OsString::from));
        let watched = Watched {
            command: &command,
            environment: self.environment(),
            directory: self.scratch,
            report: self.report,
        };
        watched.run().await
    }

    /// Returns the environment of a step.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = environment();
        environment.extend(self.settings.iter().cloned());
        environment
    }
}

/// A command that runs without a keeper, because there may be no Python yet. The command ends with
/// this process. It writes only to its own directories.
pub(crate) struct Watched<'a> {
    pub(crate) command: &'a [OsString],
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: &'a Path,
    pub(crate) report: &'a (dyn Fn(String) + Send + Sync),
}

impl Watched<'_> {
    /// Runs the command to its end and returns the last line of its output.
    pub(crate) async fn run(self) -> Result<String> {
        let failed = |error| {
            let name = self.command.first().cloned().unwrap_or_default();
            let context = format!("cannot run {}", name.to_string_lossy());
            Error::new(ErrorKind::Provision, context).with_source(error)
        };
        children::make_waitable();
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCH, "sh"])
            .args(self.command)
            .current_dir(self.directory)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (lines, answer) = (LastLines::default(), LastLines::default());
        // Closed when this future is dropped, and when this process ends.
        let ours = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        tokio::join!(
            follow(stdout, &answer, self.report),
            follow(stderr, &lines, self.report)
        );
        let status = child.wait().await.map_err(failed)?;
        drop(ours);
        match status.success() {
            true => Ok(answer.lines().pop().unwrap_or_default()),
            false => Err(failure(&[answer.lines(), lines.lines()].concat())),
        }
    }
}

/// Collects and reports lines until the pipe ends.
async fn follow(
    pipe: Option<impl AsyncRead + Unpin>,
    lines: &LastLines,
    report: &(dyn Fn(String) + Send + Sync),
) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
        // Installers repeat the URLs of their indexes, with credentials.
        let text = redact::text(String::from_utf8_lossy(&line).trim());
        line.clear();
        if !text.is_empty() {
            lines.push(text.clone());
            report(text);
        }
    }
}

/// Returns this process's environment, which contains the installers' own settings, plus pip's
/// settings translated for uv. Removes variables that make Python search other places for modules
/// or stop it from writing the bytecode that every start needs.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            !matches!(
                name.as_ref(),
                "VIRTUAL_ENV" | "PIP_TARGET" | "PIP_PREFIX" | "PIP_USER" | "PIP_REQUIRE_VIRTUALENV"
            ) && (!name.starts_with("PYTHON"))
        })
        .chain([("PYTHONUNBUFFERED".into(), "1".into())])
        .chain(pip_settings(&|name| std::env::var_os(name)))
        .collect()
}

/// Returns pip's settings as variables of uv, where uv's own are not set.
fn pip_settings(read: &dyn Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let set = |names: &[&str]| names.iter().any(|name| read(name).is_some());
    let mut settings: Vec<(OsString, OsString)> = Vec::new();
    for (pip, uv, others) in [
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", &["UV_INDEX_URL"][..]),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX", &["UV_EXTRA_INDEX_URL"]),
        ("PIP_FIND_LINKS", "UV_FIND_LINKS", &[]),
        ("PIP_CERT", "SSL_CERT_FILE", &[]),
    ] {
        let Some(value) = read(pip).filter(|value| !value.is_empty()) else {
            continue;
        };
        if set(&[uv]) || set(others) {
            continue;
        }
        // pip separates locations by blanks, uv by commas.
        let value = match (uv, value.to_str()) {
            ("UV_FIND_LINKS", Some(text)) => {
                text.split_whitespace().collect::<Vec<_>>().join(",").into()
            }
            _ => value,
        };
        settings.push((uv.into(), value));
    }
    settings
}

/// The last lines of an installer's output.
#[derive(Clone, Default)]
struct LastLines(Arc<Mutex<Vec<String>>>);

impl LastLines {
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

/// Determines from an installer's output why it failed.
fn failure(lines: &[String]) -> Error {
    let any = |patterns: &[&str]| {
        lines
            .iter()
            .any(|line| patterns.iter().any(|pattern| line.contains(pattern)))
    };
    let (kind, context) = if any(&["No space left on device", "Errno 28", "os error 28"]) {
        (
            ErrorKind::NoSpace,
            "cannot create the environment: no space left on the device",
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
            "cannot reach the package index; no partial environment was kept; check the network \
             and the index settings of pip or uv",
        )
    } else if any(&[
        "No matching distribution found for openhands",
        "there is no version of openhands",
    ]) {
        (
            ErrorKind::UnknownVersion,
            "the package index does not have this version of the server",
        )
    } else if any(&[
        "ResolutionImpossible",
        "conflicting dependencies",
        "No solution found",
        "No matching distribution found",
    ]) {
        (
            ErrorKind::Provision,
            "the package index has no versions that satisfy all requirements; if a requirement \
             conflicts with the pinned versions, turn pinning off",
        )
    } else if any(&["Permission denied", "Errno 13", "Read-only file system"]) {
        (ErrorKind::Io, "cannot write to the environment's directory")
    } else {
        (ErrorKind::Provision, "cannot create the environment")
    };
    let tail = lines[lines.len().saturating_sub(30)..].to_vec();
    Error::new(kind, context).with_log_tail(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_installers_are_distinguished() {
        let kind = |line: &str| failure(&["noise".to_owned(), line.to_owned()]).kind();
        assert_eq!(
            kind("OSError: [Errno 28] No space left on device"),
            ErrorKind::NoSpace
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
            ErrorKind::Io
        );
        assert_eq!(kind("something new"), ErrorKind::Provision);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn credentials_in_the_output_of_an_installer_are_hidden() {
        let script = "echo Looking in indexes: https://user:canary@index/simple; \
             echo error: https://index/simple?token=canary >&2; umask; exit 1";
        let reported = Mutex::new(String::new());
        let report = |line: String| reported.lock().expect("a lock").push_str(&line);
        let watched = Watched {
            command: &["/bin/sh", "-c", script].map(OsString::from),
            environment: environment(),
            directory: Path::new("/"),
            report: &report,
        };
        let error = watched.run().await.expect_err("a failure");
        let tail = error.log_tail().join("\n");
        assert!(tail.contains("Looking in indexes") && tail.contains("index/simple?"));
        let reported = reported.lock().expect("a lock");
        for text in [&*tail, &*reported, &format!("{error} {error:?}")] {
            assert!(!text.contains("canary"), "{text}");
        }
        let umask = tail
            .lines()
            .find_map(|line| u32::from_str_radix(line, 8).ok());
        assert_eq!(umask.map(|umask| umask & 0o022), Some(0o022), "{tail}");
    }

    #[test]
    fn an_unreachable_index_is_not_an_unknown_version() {
        let lines = [
            "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'",
            "ERROR: No matching distribution found for openhands-agent-server==1.58.2",
        ];
        assert_eq!(
            failure(&lines.map(str::to_owned)).kind(),
            ErrorKind::IndexUnreachable
        );
    }

    #[test]
    fn settings_of_pip_apply_to_uv_unless_it_has_its_own() {
        let settings = |set: &[(&str, &str)]| {
            let read = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name)?;
                Some(OsString::from(found.1))
            };
            let settings = pip_settings(&read).into_iter();
            settings
                .map(|(name, value)| {
                    format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
                })
                .collect::<Vec<_>>()
        };
        let pip = [("PIP_INDEX_URL", "https://i"), ("PIP_FIND_LINKS", "/a /b")];
        assert_eq!(
            settings(&pip),
            ["UV_DEFAULT_INDEX=https://i", "UV_FIND_LINKS=/a,/b"]
        );
        let both = [
            ("PIP_INDEX_URL", "https://i"),
            ("UV_INDEX_URL", "https://j"),
        ];
        assert!(settings(&both).is_empty());
        assert!(settings(&[]).is_empty());
    }
}
