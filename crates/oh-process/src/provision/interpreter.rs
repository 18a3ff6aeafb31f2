//! Which Pythons there are, and which of them fit.

use std::{
    collections::BTreeSet,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::on_path;
use crate::{Error, ErrorKind, Result};

/// The oldest Python the server runs on.
const OLDEST: (u32, u32) = (3, 12);
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// An interpreter that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, if it told.
    pub version: Option<(u32, u32)>,
    /// Why it cannot be used; none if it can.
    pub refused: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((major, minor)) = self.version {
            write!(f, " (Python {major}.{minor})")?;
        }
        match &self.refused {
            Some(why) => write!(f, ": {why}"),
            None => f.write_str(": fits"),
        }
    }
}

/// All candidates, best first; only `named` if one is named.
pub(super) async fn candidates(named: Option<&Path>) -> Vec<Candidate> {
    let paths = match named {
        Some(path) => vec![path.to_owned()],
        None => places(),
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for path in paths {
        let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        // A shim answers for the interpreter behind it; asking twice only costs time.
        if seen.insert(real) {
            found.push(probe(path).await);
        }
    }
    found
}

/// The best interpreter that fits, or an error that names all that was looked at.
pub(super) fn choose(candidates: &[Candidate], named: bool) -> Result<PathBuf> {
    if let Some(fit) = candidates
        .iter()
        .find(|candidate| candidate.refused.is_none())
    {
        return Ok(fit.path.clone());
    }
    let (major, minor) = OLDEST;
    let mut message = format!("no Python {major}.{minor} or newer, and no uv. Looked at:");
    if named {
        message = "the Python that was named cannot be used:".to_owned();
    }
    for candidate in candidates {
        message.push_str(&format!("\n  {candidate}"));
    }
    if !named {
        message.push_str(
            "\n  (searched: python3 and python3.12 to 3.15 on PATH, pyenv's versions, uv on PATH)\n\
             Two ways to get one: install uv (`pip install uv`), which brings its own Python; or \
             install Python 3.12, for example with `pyenv install 3.12`",
        );
    }
    Err(Error::new(ErrorKind::NoInterpreter, message))
}

fn places() -> Vec<PathBuf> {
    let names = [
        "python3.13",
        "python3.12",
        "python3.14",
        "python3.15",
        "python3",
        "python",
    ];
    let mut paths: Vec<PathBuf> = names.iter().filter_map(|name| on_path(name)).collect();
    let home = env::var_os("HOME").map(PathBuf::from);
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| home.map(|home| home.join(".pyenv")));
    if let Some(entries) = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok()) {
        let mut versions: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path().join("bin/python3"))
            .collect();
        versions.sort();
        paths.extend(versions.into_iter().rev());
    }
    paths
}

async fn probe(path: PathBuf) -> Candidate {
    let refuse = |path, why: String| Candidate {
        path,
        version: None,
        refused: Some(why),
    };
    let question = "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1])";
    let asked = Command::new(&path)
        .args(["-I", "-c", question])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(PROBE_LIMIT, asked).await {
        Err(_) => return refuse(path, format!("no answer within {PROBE_LIMIT:?}")),
        Ok(Err(error)) => return refuse(path, format!("cannot be run: {error}")),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next_back().unwrap_or_default().to_owned();
        return refuse(path, format!("{}: {last}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return refuse(path, "does not tell its version".to_owned());
    };
    let version = (major, minor);
    let refused = (version < OLDEST).then(|| {
        format!(
            "older than {}.{}, which the server needs",
            OLDEST.0, OLDEST.1
        )
    });
    Candidate {
        path,
        version: Some(version),
        refused,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("python3");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn an_old_interpreter_is_refused_and_the_error_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let old = script(directory.path(), "echo 3 11");
        let found = candidates(Some(&old)).await;
        let error = choose(&found, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoInterpreter);
        assert!(error.to_string().contains("older than 3.12"), "{error}");
        assert!(
            error.to_string().contains(&old.display().to_string()),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_no_python_is_refused_with_its_own_words() {
        let directory = tempfile::tempdir().unwrap();
        let broken = script(directory.path(), "echo 'no such shim' >&2; exit 3");
        let found = candidates(Some(&broken)).await;
        assert!(
            found[0].to_string().contains("no such shim"),
            "{}",
            found[0]
        );
        let missing = candidates(Some(&directory.path().join("absent"))).await;
        assert!(missing[0].refused.is_some());
    }

    #[tokio::test]
    async fn a_fit_one_is_chosen() {
        let directory = tempfile::tempdir().unwrap();
        let fit = script(directory.path(), "echo 3 13");
        assert_eq!(choose(&candidates(Some(&fit)).await, true).unwrap(), fit);
    }

    #[test]
    fn without_any_the_error_names_two_ways_out() {
        let error = choose(&[], false).unwrap_err().to_string();
        assert!(
            error.contains("install uv") && error.contains("pyenv install"),
            "{error}"
        );
    }
}
