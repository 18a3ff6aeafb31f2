//! `cargo xtask constraints`: updates or checks the package versions of new environments.
//!
//! Creates an environment with the newest compatible packages and writes their versions to a file.
//! With `--check`, creates one with the versions in the file and fails if it contains any other
//! package. Needs the package index and some minutes for each version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, cargo};

const DIRECTORY: &str = "crates/oh-process/constraints";

/// Prints the packages of an environment, one per line, except the server's own and pip.
const LIST: &str = r#"
import re
from importlib.metadata import distributions
found = {re.sub("[-_.]+", "-", d.metadata["Name"]).lower(): d.version for d in distributions()}
for name, version in sorted(found.items()):
    if name != "pip" and not name.startswith("openhands-"):
        print(f"{name}=={version}")
"#;

/// Options of `constraints`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Server version (default: every version that has a file).
    #[arg(long = "server-version", value_name = "VERSION")]
    versions: Vec<String>,
    /// Compare an environment created from the file with the file, without changes.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    let versions = match options.versions.as_slice() {
        [] => known()?,
        named => named.to_vec(),
    };
    for version in &versions {
        let place = cargo::root().join("target").join("xtask-constraints");
        let listed = list(version, &place, !options.check);
        // About 700 MB. If removal fails now, it is repeated before the next use.
        let _ = fs::remove_dir_all(&place);
        let wanted = format!(
            "# The packages that openhands-agent-server {version} was tested with.\n\
             # Written by `cargo xtask constraints`.\n{}",
            listed?
        );
        let file = cargo::root().join(DIRECTORY).join(format!("{version}.txt"));
        if options.check {
            compare(&file, &wanted)?;
        } else {
            fs::write(&file, wanted).map_err(|error| failed("write", &file, &error))?;
            cargo::say(&format!("wrote {}", file.display()));
        }
    }
    Ok(())
}

/// Returns the versions that have a file.
fn known() -> Result<Vec<String>> {
    let directory = cargo::root().join(DIRECTORY);
    let entries = fs::read_dir(&directory).map_err(|error| failed("read", &directory, &error))?;
    let mut versions: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".txt").map(str::to_owned)
        })
        .collect();
    versions.sort();
    Ok(versions)
}

/// Creates an environment in `place` and returns its packages.
fn list(version: &str, place: &Path, newest: bool) -> Result<String> {
    let _ = fs::remove_dir_all(place);
    let mut command = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--"]);
    command.args(["provision", "--server-version", version]);
    if newest {
        command.arg("--unpinned");
    }
    command.env("OPENHANDS_CACHE_DIR", place);
    let python = cargo::output(&mut command)?;
    cargo::output(Command::new(PathBuf::from(python.trim())).args(["-I", "-c", LIST]))
}

fn compare(file: &Path, wanted: &str) -> Result {
    let written = fs::read_to_string(file).map_err(|error| failed("read", file, &error))?;
    let missing = |from: &str, lines: &str| {
        lines
            .lines()
            .filter(|line| !line.starts_with('#') && !from.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(", ")
    };
    // A package that only another system needs may be in the file without being installed here.
    let unpinned = missing(&written, wanted);
    if unpinned.is_empty() {
        let unused = missing(wanted, &written);
        cargo::say(&format!(
            "{}: complete; pinned but not installed here: [{unused}]",
            file.display()
        ));
        return Ok(());
    }
    Err(format!(
        "{} does not pin these installed packages: {unpinned}; run `cargo xtask constraints`",
        file.display()
    ))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
