//! Which Python interpreters this machine has, and which of them could run a server. Makes
//! nothing; asks each interpreter about itself.

use std::{
    collections::HashSet,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// The oldest minor version of Python 3 the server runs on.
pub(crate) const OLDEST: (u32, u32) = (3, 12);

/// Tells of itself in JSON. Finding a module's place does not run it, so this is cheap.
const ASK: &str = r#"
import json, sys
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
parts = ("agent-server", "sdk", "tools")
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "executable": sys.executable,
    "venv": found("venv") and found("ensurepip"),
    "server": installed("openhands-agent-server"),
    "missing": [p for p in parts if not installed("openhands-" + p) or not found("openhands." + p.replace("-", "_"))],
}))
"#;

/// What an interpreter says of itself.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Facts {
    pub(crate) version: (u32, u32, u32),
    pub(crate) executable: PathBuf,
    pub(crate) venv: bool,
    pub(crate) server: Option<String>,
    pub(crate) missing: Vec<String>,
}

impl Facts {
    pub(crate) fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }
}

/// An interpreter that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Where it was found.
    pub path: PathBuf,
    /// Who put it there, such as `PATH` or `pyenv`.
    pub source: &'static str,
    /// Its version, where it told.
    pub version: Option<String>,
    /// Why it is not fit; `None` when it is.
    pub refused: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.path.display(), self.source)?;
        if let Some(version) = &self.version {
            write!(f, ", {version}")?;
        }
        f.write_str("): ")?;
        f.write_str(self.refused.as_deref().unwrap_or("fit"))
    }
}

/// All interpreters found, each asked; the first of the fit ones is the one to take.
pub(crate) async fn find() -> Vec<(Candidate, Option<Facts>)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (path, source) in places() {
        let (candidate, facts) = look(path, source).await;
        let same = facts.as_ref().map(|facts| real(&facts.executable));
        if !seen.insert(same.unwrap_or_else(|| real(&candidate.path))) {
            continue;
        }
        found.push((candidate, facts));
    }
    found.sort_by_key(|(candidate, facts)| {
        let minor = facts.as_ref().map_or(u32::MAX, |facts| facts.version.1);
        (candidate.refused.is_some(), preference(minor))
    });
    found
}

/// Looks at one interpreter.
pub(crate) async fn look(path: PathBuf, source: &'static str) -> (Candidate, Option<Facts>) {
    let asked = ask(&path).await;
    let (version, refused) = match &asked {
        Err(why) => (None, Some(why.clone())),
        Ok(facts) => (Some(facts.version_text()), unfit(facts)),
    };
    let candidate = Candidate {
        path,
        source,
        version,
        refused,
    };
    (candidate, asked.ok())
}

fn unfit(facts: &Facts) -> Option<String> {
    let (major, minor, _) = facts.version;
    if (major, minor) < OLDEST {
        return Some(format!("older than {}.{}", OLDEST.0, OLDEST.1));
    }
    (!facts.venv).then(|| "has no venv module (python3-venv is not installed)".to_owned())
}

/// Asks an interpreter about itself; otherwise why that failed.
pub(crate) async fn ask(python: &Path) -> Result<Facts, String> {
    let mut command = Command::new(python);
    command
        .args(["-I", "-c", ASK])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout(Duration::from_secs(30), command.output()).await {
        Err(_) => return Err("does not answer".to_owned()),
        Ok(Err(error)) => return Err(format!("cannot be run: {error}")),
        Ok(Ok(output)) => output,
    };
    if let Ok(facts) = serde_json::from_slice(&output.stdout) {
        return Ok(facts);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rfind(|line| !line.trim().is_empty());
    Err(match said {
        // What is too old to understand the question is most likely Python 2 or 3.7.
        Some(line) if line.contains("No module named") || line.contains("SyntaxError") => {
            format!("older than {}.{}", OLDEST.0, OLDEST.1)
        }
        Some(line) => format!("fails: {}", line.trim()),
        None => format!("fails with {}", output.status),
    })
}

/// The version the server is tested on first, then the older, then the newer ones, which may
/// lack ready-made packages.
fn preference(minor: u32) -> u32 {
    match minor {
        13 => 0,
        12 => 1,
        newer => newer,
    }
}

fn places() -> Vec<(PathBuf, &'static str)> {
    let mut places = Vec::new();
    for name in [
        "python3.13",
        "python3.12",
        "python3.14",
        "python3",
        "python",
    ] {
        let on_path = which::which_all(name).into_iter().flatten();
        places.extend(on_path.map(|path| (path, "PATH")));
    }
    let home = home();
    let pyenv = var("PYENV_ROOT").or_else(|| Some(home.as_ref()?.join(".pyenv")));
    let pyenv = pyenv.map(|root| root.join("versions"));
    places.extend(versions(pyenv).map(|path| (path, "pyenv")));
    let data = var("XDG_DATA_HOME").or_else(|| Some(home.as_ref()?.join(".local/share")));
    let uv = var("UV_PYTHON_INSTALL_DIR").or_else(|| Some(data?.join("uv/python")));
    places.extend(versions(uv).map(|path| (path, "uv")));
    places
}

fn versions(root: Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let entries = root.and_then(|root| fs::read_dir(root).ok());
    let mut paths: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| in_environment(&entry.path()))
        .filter(|python| python.exists())
        .collect();
    paths.sort();
    paths.into_iter()
}

/// The interpreter in an environment or installation.
pub(crate) fn in_environment(root: &Path) -> PathBuf {
    if cfg!(windows) {
        root.join("Scripts").join("python.exe")
    } else {
        root.join("bin").join("python3")
    }
}

pub(crate) fn home() -> Option<PathBuf> {
    var("HOME")
}

/// A directory named by the environment; an empty one counts as unset.
pub(crate) fn var(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(minor: u32, venv: bool) -> Facts {
        Facts {
            version: (3, minor, 1),
            executable: "/python".into(),
            venv,
            server: None,
            missing: Vec::new(),
        }
    }

    #[test]
    fn the_unfit_are_told_why() {
        assert_eq!(unfit(&facts(12, true)), None);
        assert_eq!(unfit(&facts(11, true)).as_deref(), Some("older than 3.12"));
        assert!(unfit(&facts(13, false)).is_some_and(|why| why.contains("venv")));
    }

    #[test]
    fn the_tested_version_comes_first() {
        let mut minors = vec![15, 14, 12, 13];
        minors.sort_by_key(|minor| preference(*minor));
        assert_eq!(minors, [13, 12, 14, 15]);
    }

    #[tokio::test]
    async fn what_is_no_python_is_refused_with_its_reason() {
        let (candidate, facts) = look("/bin/false".into(), "named").await;
        assert!(facts.is_none());
        assert!(
            candidate
                .refused
                .is_some_and(|why| why.contains("exit status: 1"))
        );
        let (candidate, _) = look("/no/such/python".into(), "named").await;
        assert!(
            candidate
                .to_string()
                .starts_with("/no/such/python (named): cannot be run")
        );
    }
}
