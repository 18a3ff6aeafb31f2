//! `cargo xtask constraints`: renews or checks the versions that environments are made with.
//!
//! Makes an environment with the newest packages that fit and writes down what is in it. With
//! `--check` it makes one with the written versions and fails when that has anything else in it.
//! Needs the package index and some minutes for each version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, cargo};

const DIRECTORY: &str = "crates/oh-process/constraints";

/// Prints the packages of an environment, one a line, except the server's own and pip.
const LIST: &str = r#"
import re
from importlib.metadata import distributions
found = {re.sub("[-_.]+", "-", d.metadata["Name"]).lower(): d.version for d in distributions()}
for name, version in sorted(found.items()):
    if name != "pip" and not name.startswith("openhands-"):
        print(f"{name}=={version}")
"#;

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A version of the server (default: each that has a file).
    #[arg(long = "server-version", value_name = "VERSION")]
    versions: Vec<String>,
    /// Compare an environment made from the file with the file, and change nothing.
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
        // Some 700 MB; what cannot be removed now is removed before the next use.
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

/// The versions that have a file.
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

/// Makes an environment in `place` and returns its packages.
fn list(version: &str, place: &Path, newest: bool) -> Result<String> {
    let _ = fs::remove_dir_all(place);
    let mut command = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--"]);
    command.args(["provision", "--server-version", version]);
    if newest {
        command.arg("--unpinned");
    }
    command.env("OPENHANDS_CACHE_DIR", place);
    let python = output(&mut command)?;
    output(Command::new(PathBuf::from(python.trim())).args(["-I", "-c", LIST]))
}

/// Runs a command and returns what it prints.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name} failed: {}", output.status)),
    }
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
    // A package that only another system needs may stand in the file and not be installed here.
    let unpinned = missing(&written, wanted);
    if unpinned.is_empty() {
        let unused = missing(wanted, &written);
        cargo::say(&format!(
            "{}: complete; not used here: [{unused}]",
            file.display()
        ));
        return Ok(());
    }
    Err(format!(
        "{} does not pin what was installed: {unpinned}; run `cargo xtask constraints`",
        file.display()
    ))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
