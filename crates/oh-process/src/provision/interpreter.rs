//! Checks one Python interpreter: what it reports about itself, and why it cannot be used.
//!
//! An interpreter that cannot be used differs from one that could not be checked this time: only
//! the first result may have consequences.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    time::{sleep, timeout},
};

/// The oldest supported Python version.
pub(crate) const OLDEST: (u32, u32) = (3, 12);

/// Default timeout for checking an interpreter. The usual time is 30 ms.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Prints facts about the interpreter as JSON. Locating a module does not run it, so this is cheap.
/// `unreadable` is set if packages seem to be missing but their files could not be read.
const ASK: &str = r#"
import json, os, sys, sysconfig
from importlib.util import find_spec
from importlib.metadata import PackageNotFoundError, version
def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
def found(name):
    try:
        return find_spec(name) is not None
    except ImportError:
        return False
def unreadable():
    try:
        for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for name in os.listdir(site) if os.path.lexists(site) else ():
                path = os.path.join(site, name)
                if name == "openhands":
                    for part in os.listdir(path):
                        os.listdir(os.path.join(path, part)) if "." not in part else None
                elif name.startswith("openhands_") and name.endswith(".dist-info"):
                    path = os.path.join(path, "METADATA")
                    if os.path.lexists(path):
                        open(path, "rb").close()
    except OSError as error:
        return str(error)
parts = ("agent-server", "sdk", "tools")
def lacks(p):
    return not installed("openhands-" + p) or not found("openhands." + p.replace("-", "_"))
missing = [p for p in parts if lacks(p)]
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "executable": sys.executable,
    "venv": found("venv") and found("ensurepip"),
    "pip": found("pip"),
    "server": installed("openhands-agent-server"),
    "missing": missing,
    "unreadable": unreadable() if missing else None,
}))
"#;

/// Facts that an interpreter reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Facts {
    pub(crate) version: (u32, u32, u32),
    pub(crate) executable: PathBuf,
    pub(crate) venv: bool,
    #[serde(default)]
    pub(crate) pip: bool,
    pub(crate) server: Option<String>,
    pub(crate) missing: Vec<String>,
    #[serde(default)]
    pub(crate) unreadable: Option<String>,
}

impl Facts {
    pub(crate) fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    pub(crate) fn is_old(&self) -> bool {
        (self.version.0, self.version.1) < OLDEST
    }
}

/// Why an interpreter, or an environment around it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A required part is proven to be missing.
    Absent(String),
    /// The interpreter ran and ended with an error.
    Failed(String),
    /// The interpreter could not be run to its end this time, for a reason that may be temporary.
    Unknown(String),
}

impl Failure {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Absent(why) | Self::Failed(why) | Self::Unknown(why) => why,
        }
    }
}

/// An interpreter that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Path of the interpreter.
    pub path: PathBuf,
    /// How the interpreter was found, such as `PATH` or `pyenv`.
    pub source: &'static str,
    /// Version, if the interpreter reported one.
    pub version: Option<String>,
    /// Why the interpreter is not used; `None` if it is suitable.
    pub rejected: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.path.display(), self.source)?;
        if let Some(version) = &self.version {
            write!(f, ", {version}")?;
        }
        f.write_str("): ")?;
        f.write_str(self.rejected.as_deref().unwrap_or("suitable"))
    }
}

/// Checks one interpreter.
pub(crate) async fn look(
    path: PathBuf,
    source: &'static str,
    limit: Duration,
) -> (Candidate, Result<Facts, Failure>) {
    let asked = ask(&path, limit).await;
    let (version, rejected) = match &asked {
        Err(failure) => (None, Some(failure.reason().to_owned())),
        Ok(facts) => (Some(facts.version_text()), unfit(facts)),
    };
    let candidate = Candidate {
        path,
        source,
        version,
        rejected,
    };
    (candidate, asked)
}

fn unfit(facts: &Facts) -> Option<String> {
    if facts.is_old() {
        return Some(format!("older than {}.{}", OLDEST.0, OLDEST.1));
    }
    (!facts.venv).then(|| "has no venv module (python3-venv is not installed)".to_owned())
}

/// Runs an interpreter to get its facts. Cancel-safe: the interpreter is killed.
pub(crate) async fn ask(python: &Path, limit: Duration) -> Result<Facts, Failure> {
    let mut command = Command::new(python);
    command.args(["-I", "-c", ASK]);
    let output = run(command, limit).await.map_err(|failure| match failure {
        // The file at the path decides, not the error of the failed start.
        Failure::Unknown(why) => missing(python).unwrap_or(Failure::Unknown(why)),
        failure => failure,
    })?;
    if let Ok(facts) = serde_json::from_slice(&output.stdout) {
        return Ok(facts);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(read_failure(python, output.status, &stderr))
}

/// Runs a command to its end with an empty stdin. Kills its process group at the limit, and when
/// the future is dropped.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<Output, Failure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    crate::children::make_waitable();
    let mut tries = 0;
    let child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // Another thread forked while the file was written, and holds it open until its exec.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 40 => {
                tries += 1;
                sleep(Duration::from_millis(25)).await;
            }
            Err(error) => return Err(Failure::Unknown(format!("cannot be run: {error}"))),
        }
    };
    let _group = Group(child.id());
    match timeout(limit, child.wait_with_output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(Failure::Unknown(format!("cannot be read: {error}"))),
        Err(_) => Err(Failure::Unknown(format!(
            "did not answer within {} s",
            limit.as_secs_f32()
        ))),
    }
}

/// A process group that is killed when this value is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.0
            && let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            let _all_gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Returns a failure if it is proven that no interpreter is at this path.
fn missing(python: &Path) -> Option<Failure> {
    let absent = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    match python.symlink_metadata() {
        Err(error) if absent(&error) => return Some(Failure::Absent("is missing".to_owned())),
        Err(_) => return None,
        Ok(_) => {}
    }
    match python.metadata() {
        Err(error) if absent(&error) => {
            let target = python.read_link().unwrap_or_default();
            let why = format!("is a link to {}, which is missing", target.display());
            Some(Failure::Absent(why))
        }
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
            Some(Failure::Absent("is an empty file".to_owned()))
        }
        _ => None,
    }
}

/// Returns why an interpreter ended without facts.
fn read_failure(python: &Path, status: ExitStatus, stderr: &str) -> Failure {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let hint = match signal {
            9 => " (out of memory?)",
            _ => "",
        };
        return Failure::Unknown(format!("was killed by signal {signal}{hint}"));
    }
    let mut lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    // A traceback ends with its reason; all other messages begin with it.
    let reason = match stderr.contains("Traceback (most recent call last)") {
        true => lines.next_back(),
        false => lines.next(),
    };
    let Some(reason) = reason else {
        return Failure::Failed(format!("fails with {status}"));
    };
    // Python 2 and 3.7 are too old for the script and fail like this.
    if reason.contains("No module named importlib")
        || reason.contains("No module named 'importlib.")
        || stderr.contains("SyntaxError")
    {
        return Failure::Failed(format!("older than {}.{}", OLDEST.0, OLDEST.1));
    }
    let exhausted = [
        "MemoryError",
        "Cannot allocate memory",
        "Resource temporarily unavailable",
        "Too many open files",
        "Input/output error",
        "Stale file handle",
        "Permission denied",
        "fork: retry",
    ];
    if exhausted.iter().any(|text| stderr.contains(text)) {
        return Failure::Unknown(format!("fails: {reason}"));
    }
    if reason.starts_with("pyenv:") {
        let name = python.file_name().unwrap_or_default().to_string_lossy();
        return Failure::Failed(format!(
            "a pyenv shim for which no version is selected; select one that has {name} with \
             `pyenv global VERSION` ({reason})"
        ));
    }
    Failure::Failed(format!("fails: {reason}"))
}

/// Returns the interpreter's path in an environment or installation.
pub(crate) fn in_environment(root: &Path) -> PathBuf {
    if cfg!(windows) {
        root.join("Scripts").join("python.exe")
    } else {
        root.join("bin").join("python3")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(minor: u32, venv: bool) -> Facts {
        Facts {
            version: (3, minor, 1),
            executable: "/python".into(),
            venv,
            pip: venv,
            server: None,
            missing: Vec::new(),
            unreadable: None,
        }
    }

    #[test]
    fn an_unsuitable_interpreter_is_rejected_with_the_reason() {
        assert_eq!(unfit(&facts(12, true)), None);
        assert_eq!(unfit(&facts(11, true)).as_deref(), Some("older than 3.12"));
        assert!(unfit(&facts(13, false)).is_some_and(|why| why.contains("venv")));
    }

    #[tokio::test]
    async fn a_program_that_is_not_python_is_rejected_with_the_reason() {
        let (candidate, facts) = look("/bin/false".into(), "named", ANSWER_LIMIT).await;
        assert!(matches!(facts, Err(Failure::Failed(_))));
        let rejected = candidate.rejected.expect("rejected");
        assert!(rejected.contains("exit status: 1"), "{rejected}");
        let (candidate, facts) = look("/no/such/python".into(), "named", ANSWER_LIMIT).await;
        assert!(matches!(facts, Err(Failure::Absent(_))));
        assert_eq!(candidate.to_string(), "/no/such/python (named): is missing");
    }

    #[cfg(unix)]
    #[test]
    fn a_failure_is_distinguished_from_an_impossible_check() {
        use std::os::unix::process::ExitStatusExt as _;

        let python = Path::new("/home/user/.pyenv/shims/python3.12");
        let exit = ExitStatus::from_raw(1 << 8);
        let pyenv = "pyenv: python3.12: command not found\n\nThe `python3.12' command exists in \
                     these Python versions:\n  3.12.1\n\nNote: See 'pyenv help global' for tips \
                     on allowing both\n      python2 and python3 to be found at the same time.\n";
        let failure = read_failure(python, exit, pyenv);
        assert!(matches!(failure, Failure::Failed(_)));
        let reason = failure.reason();
        assert!(reason.starts_with("a pyenv shim for which no version is selected"));
        assert!(reason.contains("pyenv global"), "{reason}");

        let asdf = "No version is set for command python3\nConsider adding one of the following";
        let reason = "fails: No version is set for command python3".to_owned();
        assert_eq!(read_failure(python, exit, asdf), Failure::Failed(reason));

        let traceback = "Traceback (most recent call last):\n  File \"x\"\nKeyError: 'y'\n";
        let reason = "fails: KeyError: 'y'".to_owned();
        assert_eq!(
            read_failure(python, exit, traceback),
            Failure::Failed(reason)
        );

        let old = "Traceback (most recent call last):\nImportError: No module named importlib.util";
        let reason = "older than 3.12".to_owned();
        assert_eq!(read_failure(python, exit, old), Failure::Failed(reason));

        for (status, stderr) in [
            (ExitStatus::from_raw(9), ""),
            (ExitStatus::from_raw(6), "Aborted"),
            (exit, "MemoryError"),
            (exit, "sh: 1: Cannot fork: Resource temporarily unavailable"),
            (exit, "bash: python3: Permission denied"),
        ] {
            let failure = read_failure(python, status, stderr);
            assert!(matches!(failure, Failure::Unknown(_)), "{stderr}");
        }
    }
}
