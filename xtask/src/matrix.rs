//! `cargo xtask matrix`: tries every capability on many versions of the server, and writes
//! `docs/versions.md`.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::Deserialize;

use crate::{Result, cargo};

/// The page with the results.
const PAGE: &str = "docs/versions.md";
/// The program that tries the capabilities on one version.
const PROGRAM: &str = "conformance";
const PACKAGE: &str = "openhands-agent-server";
/// The first minor version that is supported.
const FIRST: Version = (1, 40, 0);

#[derive(Args)]
pub(crate) struct Options {
    /// Versions to try. The page is written only without this. Default: the newest of each minor
    /// version from 1.40 on.
    versions: Vec<String>,
}

type Version = (u32, u32, u32);

/// A line of the program's output.
#[derive(Deserialize)]
struct Row {
    capability: String,
    result: String,
    reason: Option<String>,
}

/// The results of a version.
struct Column {
    version: String,
    /// Not set if the version could not be tried, for this reason.
    rows: std::result::Result<Vec<Row>, String>,
}

pub(crate) fn run(options: &Options) -> Result {
    let cache = match env::var_os("OPENHANDS_CACHE_DIR") {
        Some(cache) => PathBuf::from(cache),
        // Kept for the next run, apart from the environments of programs: each takes 770 MiB.
        None => cargo::root().join("target/matrix"),
    };
    let versions = match options.versions.as_slice() {
        [] => newest_of_each_minor(&listed()?),
        versions => versions.to_vec(),
    };
    let program = cargo::command_program(PROGRAM)?;
    let mut columns = Vec::new();
    for version in versions {
        let rows = tried(&program, &cache, &version);
        cargo::say(&format!("{version}: {}", summary(&rows)));
        columns.push(Column { version, rows });
    }
    if options.versions.is_empty() {
        let page = page(&columns);
        let path = cargo::root().join(PAGE);
        fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        cargo::say(&format!("wrote {PAGE}"));
    }
    let failed = |column: &&Column| match &column.rows {
        Ok(rows) => rows.iter().any(|row| row.result == "fails"),
        Err(_) => true,
    };
    let failed: Vec<_> = columns.iter().filter(failed).collect();
    for column in &failed {
        for row in column.rows.iter().flatten() {
            if row.result == "fails" {
                let reason = row.reason.as_deref().unwrap_or_default();
                let (version, capability) = (&column.version, &row.capability);
                cargo::say(&format!("{version}: {capability}: {reason}"));
            }
        }
    }
    match failed.len() {
        0 => Ok(()),
        count => Err(format!("{count} versions with failures")),
    }
}

/// Returns all versions on the package index.
fn listed() -> Result<Vec<Version>> {
    let mut provision = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--"]);
    let python = output(provision.arg("provision"))?;
    let mut index = Command::new(python.trim());
    index.args(["-I", "-m", "pip", "index", "versions", PACKAGE]);
    index.arg("--disable-pip-version-check");
    let listed = output(&mut index)?;
    let line = listed
        .lines()
        .find_map(|line| line.strip_prefix("Available versions: "));
    let line = line.ok_or_else(|| format!("pip does not list versions of {PACKAGE}"))?;
    Ok(line.split(", ").filter_map(parsed).collect())
}

/// Returns the numbers of a release. Prereleases have other parts.
fn parsed(text: &str) -> Option<Version> {
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

fn newest_of_each_minor(all: &[Version]) -> Vec<String> {
    let mut newest = BTreeMap::new();
    for &(major, minor, patch) in all.iter().filter(|version| **version >= FIRST) {
        let last = newest.entry((major, minor)).or_insert(patch);
        *last = patch.max(*last);
    }
    let newest = newest.into_iter();
    newest
        .map(|((major, minor), patch)| format!("{major}.{minor}.{patch}"))
        .collect()
}

/// Installs a version, and tries the capabilities.
fn tried(program: &Path, cache: &Path, version: &str) -> std::result::Result<Vec<Row>, String> {
    let mut provision = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--"]);
    provision.args(["provision", "--server-version", version]);
    provision.env("OPENHANDS_CACHE_DIR", cache);
    output(&mut provision)?;
    let mut command = Command::new(program);
    command.arg(version).env("OPENHANDS_CACHE_DIR", cache);
    let lines = output(&mut command)?;
    let lines = lines.lines().map(serde_json::from_str);
    lines
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| format!("cannot read the results: {error}"))
}

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

fn summary(rows: &std::result::Result<Vec<Row>, String>) -> String {
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return error.clone(),
    };
    let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
    let (works, without) = (count("works"), count("not offered"));
    let failing = rows.len() - works - without;
    format!("{works} work, {without} not offered, {failing} fail")
}

/// Returns the page: a table of capabilities and versions, and the reasons.
fn page(columns: &[Column]) -> String {
    let mut page = "# Versions of the server\n\nGenerated by `cargo xtask matrix`, which installs \
                    the newest server of each minor version and tries each\ncapability on it, with \
                    a scripted model. A capability that a version does not offer is reported as\nan \
                    error of the kind `Unsupported`.\n\n`+` works, `-` is not offered, `!` fails.\n\
                    \n| Capability |"
        .to_owned();
    for column in columns {
        let _ = write!(page, " {} |", column.version);
    }
    page.push_str("\n|-|");
    page.push_str(&"-|".repeat(columns.len()));
    page.push('\n');
    let names = columns.iter().find_map(|column| column.rows.as_ref().ok());
    let mut reasons = String::new();
    for name in names.into_iter().flatten().map(|row| &row.capability) {
        let _ = write!(page, "| {name} |");
        for column in columns {
            let rows = column.rows.iter().flatten();
            let row = rows.into_iter().find(|row| row.capability == *name);
            let mark = match row.map(|row| &*row.result) {
                Some("works") => "+",
                Some("not offered") => "-",
                _ => "!",
            };
            let _ = write!(page, " {mark} |");
            if let Some(reason) = row.and_then(|row| row.reason.as_ref()) {
                let reason = reason.replace(['\n', '|'], " ");
                let _ = writeln!(reasons, "| {} | {name} | {reason} |", column.version);
            }
        }
        page.push('\n');
    }
    for column in columns {
        if let Err(error) = &column.rows {
            let _ = writeln!(reasons, "| {} | all | {error} |", column.version);
        }
    }
    if !reasons.is_empty() {
        page.push_str("\n## Reasons\n\n| Version | Capability | Reason |\n|-|-|-|\n");
        page.push_str(&reasons);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_each_minor_version_is_tried() {
        let all = [
            "1.58.2",
            "1.58.10",
            "1.57.0",
            "1.40.1",
            "1.39.9",
            "1.59.0rc1",
        ];
        let all: Vec<_> = all.into_iter().filter_map(parsed).collect();
        assert_eq!(newest_of_each_minor(&all), ["1.40.1", "1.57.0", "1.58.10"]);
    }

    #[test]
    fn the_page_names_the_reason_for_each_missing_capability() {
        let row = |result: &str, reason: Option<&str>| Row {
            capability: "fork".to_owned(),
            result: result.to_owned(),
            reason: reason.map(str::to_owned),
        };
        let columns = [
            Column {
                version: "1.40.1".to_owned(),
                rows: Ok(vec![row("not offered", Some("no\nendpoint"))]),
            },
            Column {
                version: "1.41.0".to_owned(),
                rows: Err("cannot be installed".to_owned()),
            },
            Column {
                version: "1.42.0".to_owned(),
                rows: Ok(vec![row("works", None)]),
            },
        ];
        let page = page(&columns);
        assert!(page.contains("| fork | - | ! | + |"), "{page}");
        assert!(page.contains("| 1.40.1 | fork | no endpoint |"), "{page}");
        assert!(
            page.contains("| 1.41.0 | all | cannot be installed |"),
            "{page}"
        );
    }
}
