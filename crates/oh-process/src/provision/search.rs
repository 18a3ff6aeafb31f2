//! Finds the Python interpreters of this machine and checks them in parallel.

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    Candidate,
    provision::interpreter::{self, Facts, Failure},
    start::adapted::absolute_only,
};

/// Maximum number of interpreters checked at the same time.
const MAX_PARALLEL: usize = 16;

/// An interpreter and the result of its check.
pub(crate) type Found = (Candidate, Result<Facts, Failure>);

/// Returns all interpreters found, each checked with the timeout `limit`. Suitable ones come first,
/// and the first of them is the preferred one.
pub(crate) async fn find(limit: Duration) -> Vec<Found> {
    let permits = Arc::new(Semaphore::new(MAX_PARALLEL));
    let mut asking = JoinSet::new();
    let mut known = HashSet::new();
    for (place, (path, source)) in places().into_iter().enumerate() {
        // Deduplicate by name: a program with many names may behave differently for each.
        if !known.insert(path.clone()) {
            continue;
        }
        let permits = permits.clone();
        asking.spawn(async move {
            let _permit = permits.acquire().await;
            (place, interpreter::look(path, source, limit).await)
        });
    }
    let mut asked = Vec::new();
    while let Some(answer) = asking.join_next().await {
        asked.extend(answer);
    }
    asked.sort_by_key(|(place, _)| *place);
    let mut known = HashSet::new();
    let mut found: Vec<Found> = asked
        .into_iter()
        .map(|(_, found)| found)
        .filter(|(candidate, facts)| {
            let executable = facts.as_ref().ok().map(|facts| &facts.executable);
            known.insert(real(executable.unwrap_or(&candidate.path)))
        })
        .collect();
    found.sort_by_key(|(candidate, facts)| {
        let minor = facts.as_ref().map_or(u32::MAX, |facts| facts.version.1);
        (candidate.rejected.is_some(), preference(minor))
    });
    found
}

/// Returns the rank of a minor version: the one that the server is tested on comes first, then
/// older ones, then newer ones, which may lack prebuilt packages.
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
        let on_path = on_path(name).into_iter();
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

/// Returns the programs with this name on the search path. Relative directories on it are skipped:
/// the current directory may hold files of another person.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    within(name, &env::var_os("PATH").unwrap_or_default())
}

fn within(name: &str, path: &OsStr) -> Vec<PathBuf> {
    let here = env::current_dir().unwrap_or_default();
    let found = which::which_in_all(name, Some(absolute_only(path)), here);
    found.into_iter().flatten().collect()
}

fn versions(root: Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let entries = root.and_then(|root| fs::read_dir(root).ok());
    let mut paths: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| interpreter::in_environment(&entry.path()))
        .filter(|python| python.exists())
        .collect();
    paths.sort();
    paths.into_iter()
}

pub(crate) fn home() -> Option<PathBuf> {
    var("HOME")
}

/// Returns the directory in an environment variable. An empty value counts as unset.
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

    #[cfg(unix)]
    #[test]
    fn programs_in_relative_directories_are_not_found() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().expect("a directory");
        let program = place.path().join("planted");
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        let absolute = place.path().canonicalize().expect("a path");
        let up = "../".repeat(32);
        let relative = format!("{up}{}", absolute.display());
        assert!(Path::new(&relative).join("planted").exists());
        let found = |path: &str| within("planted", path.as_ref()).len();
        assert_eq!(found(&relative), 0);
        assert_eq!(found(&format!(".::{relative}:{}", absolute.display())), 1);
    }

    #[test]
    fn the_tested_version_comes_first() {
        let mut minors = vec![15, 14, 12, 13];
        minors.sort_by_key(|minor| preference(*minor));
        assert_eq!(minors, [13, 12, 14, 15]);
    }
}
