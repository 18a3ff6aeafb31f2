//! Servers of other versions: their environments, the versions on the package index, and the
//! program that tries the capabilities of a server.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{Result, cargo};

const PACKAGE: &str = "openhands-agent-server";
/// The program that tries the capabilities on one version.
const PROGRAM: &str = "conformance";

/// The numbers of a release.
pub(crate) type Version = (u32, u32, u32);

/// A line of the program's output.
#[derive(Deserialize)]
pub(crate) struct Row {
    pub(crate) capability: String,
    pub(crate) result: String,
    pub(crate) reason: Option<String>,
}

/// Returns the directory of the environments. They are kept for the next run, apart from those of
/// programs, because each takes 770 MiB.
pub(crate) fn cache() -> PathBuf {
    match env::var_os("OPENHANDS_CACHE_DIR") {
        Some(cache) => PathBuf::from(cache),
        None => cargo::root().join("target/matrix"),
    }
}

/// Creates the environment of a version unless it exists, and returns its Python. The default
/// directory is that of programs.
pub(crate) fn provision(cache: Option<&Path>, version: &str) -> Result<PathBuf> {
    installed(cache, &["--server-version", version])
}

/// Creates the environment of the pinned version unless it exists, and returns its Python.
pub(crate) fn pinned() -> Result<PathBuf> {
    installed(None, &[])
}

fn installed(cache: Option<&Path>, arguments: &[&str]) -> Result<PathBuf> {
    let mut provision = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--"]);
    provision.arg("provision").args(arguments);
    provision.envs(cache.map(|cache| ("OPENHANDS_CACHE_DIR", cache)));
    let python = cargo::output(&mut provision)?;
    Ok(PathBuf::from(python.trim()))
}

/// Returns all versions on the package index.
pub(crate) fn listed() -> Result<Vec<Version>> {
    let mut index = Command::new(pinned()?);
    index.args(["-I", "-m", "pip", "index", "versions", PACKAGE]);
    index.arg("--disable-pip-version-check");
    let listed = cargo::output(&mut index)?;
    let line = listed
        .lines()
        .find_map(|line| line.strip_prefix("Available versions: "));
    let line = line.ok_or_else(|| format!("pip does not list versions of {PACKAGE}"))?;
    Ok(line.split(", ").filter_map(parsed).collect())
}

/// Returns the newest release on the package index.
pub(crate) fn newest() -> Result<String> {
    let newest = listed()?.into_iter().max();
    let (major, minor, patch) =
        newest.ok_or_else(|| format!("there is no release of {PACKAGE}"))?;
    Ok(format!("{major}.{minor}.{patch}"))
}

/// Returns the numbers of a release. Prereleases have other parts.
pub(crate) fn parsed(text: &str) -> Option<Version> {
    let numbers: Option<Vec<u32>> = text
        .trim()
        .split('.')
        .map(|part| part.parse().ok())
        .collect();
    match numbers?[..] {
        [major, minor, patch] => Some((major, minor, patch)),
        _ => None,
    }
}

/// Builds the program that tries the capabilities, and returns it.
pub(crate) fn conformance() -> Result<PathBuf> {
    cargo::command_program(PROGRAM)
}

/// Tries the capabilities of an installed version.
pub(crate) fn tried(program: &Path, cache: Option<&Path>, version: &str) -> Result<Vec<Row>> {
    let mut command = Command::new(program);
    command.arg(version);
    command.envs(cache.map(|cache| ("OPENHANDS_CACHE_DIR", cache)));
    let lines = cargo::output(&mut command)?;
    let lines = lines.lines().map(serde_json::from_str);
    lines
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| format!("cannot read the results: {error}"))
}
