//! `cargo xtask drift`: compares a version of the server with the pinned one.
//!
//! The interface of each version is read from its installed package, by its own Python: operations,
//! schemas, kinds of events, environment variables, and routes that the OpenAPI document omits. The
//! fixtures are recorded again and compared with the stored ones, and each capability is tried on
//! both versions.

mod compare;
mod report;
mod shapes;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use serde::Deserialize;

use crate::{
    Result, cargo,
    servers::{self, Row},
};

use compare::{Change, Difference, Fields, Part, Verdict};

/// The page with the report.
const PAGE: &str = "docs/drift.md";
/// Removes what the server's packages leave in /tmp when they are imported.
const TIDY: &str = include_str!("../../tests/src/tidy.py");
/// Prints the interface of an installed server.
const FACTS: &str = include_str!("drift/facts.py");
/// The parts of the interface, in the order of the report.
const PARTS: [&str; 7] = [
    "operations",
    "hidden routes",
    "schemas",
    "event kinds",
    "action kinds",
    "observation kinds",
    "environment variables",
];
/// Directory of the stored fixtures.
const FIXTURES: &str = "crates/oh-protocol/fixtures";

#[derive(Args)]
pub(crate) struct Options {
    /// Version to compare. Default: the newest on the package index.
    version: Option<String>,
    /// Compare only the installed packages: record no fixtures, and start no server.
    #[arg(long)]
    packages_only: bool,
    /// Also write the report to `docs/drift.md`.
    #[arg(long)]
    write: bool,
}

/// The interface of a version.
#[derive(Deserialize)]
struct Facts {
    version: String,
    facts: BTreeMap<String, Part>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let pinned = facts(&servers::pinned()?)?;
    let version = match &options.version {
        Some(version) => version.clone(),
        None => servers::newest()?,
    };
    // The pinned version is already installed in the directory of programs.
    let cache = (version != pinned.version).then(servers::cache);
    let other = facts(&servers::provision(cache.as_deref(), &version)?)?;
    let mut differences = Vec::new();
    for part in PARTS {
        let of = |facts: &Facts| {
            let found = facts.facts.get(part).cloned();
            found.ok_or_else(|| format!("{} has no {part}", facts.version))
        };
        differences.push(compare::part(part, &of(&pinned)?, &of(&other)?));
    }
    if !options.packages_only {
        differences.push(fixtures(cache.as_deref(), &pinned.version, &version)?);
        differences.push(capabilities(cache.as_deref(), &pinned.version, &version)?);
    }
    let page = report::page(&pinned.version, &version, &differences);
    cargo::print(&page);
    if options.write {
        let path = cargo::root().join(PAGE);
        fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        cargo::say(&format!("wrote {PAGE}"));
    }
    Ok(ExitCode::from(match compare::verdict(&differences) {
        Verdict::Same => 0,
        Verdict::Additions => 3,
        Verdict::Breaking => 4,
    }))
}

/// Returns the directory for files of a comparison, which is empty.
fn place() -> Result<PathBuf> {
    let place = cargo::root().join("target/drift");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    Ok(place)
}

/// Returns the interface of the server that is installed for this Python.
fn facts(python: &Path) -> Result<Facts> {
    let mut command = Command::new(python);
    command.args(["-I", "-c", &format!("{TIDY}\n{FACTS}")]);
    // The server's packages write to the home directory when they are imported.
    command.env("HOME", place()?);
    command.env("OPENHANDS_SUPPRESS_BANNER", "1");
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let output = command
        .output()
        .map_err(|error| format!("cannot run {}: {error}", python.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cannot read {}: {reason}", python.display()));
    }
    // The packages may print messages first.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("{}: {error}", python.display()))
}

/// Records the fixtures with a version, and compares their shapes with the stored ones.
fn fixtures(cache: Option<&Path>, pinned: &str, version: &str) -> Result<Difference> {
    let stored = cargo::root().join(FIXTURES).join(pinned);
    let stored = shapes::of_directory(&stored)?;
    let into = place()?;
    let mut command = Command::new(cargo::command_program("record")?);
    command.arg(version).arg(&into);
    command.envs(cache.map(|cache| ("OPENHANDS_CACHE_DIR", cache)));
    // Older versions lack requests that the recorder needs, which is a difference, too.
    if let Err(error) = cargo::output(&mut command) {
        let name = "cannot be recorded".to_owned();
        return Ok(Difference {
            part: "fixtures".to_owned(),
            pinned: stored.len(),
            other: 0,
            changes: vec![Change::Field {
                name,
                field: String::new(),
                pinned: None,
                other: Some(format!("{error}, required")),
            }],
        });
    }
    let recorded = shapes::of_directory(&into.join(version))?;
    Ok(compare::part("fixtures", &stored, &recorded))
}

/// Tries all capabilities on both versions.
fn capabilities(cache: Option<&Path>, pinned: &str, version: &str) -> Result<Difference> {
    let program = servers::conformance()?;
    let pinned = servers::tried(&program, None, pinned)?;
    let other = servers::tried(&program, cache, version)?;
    Ok(compare::part(
        "capabilities",
        &results(&pinned, &other),
        &results(&other, &pinned),
    ))
}

/// Returns the results of the capabilities. The reason of a result is added only if the other
/// version has another result, because a reason contains times.
fn results(rows: &[Row], others: &[Row]) -> Part {
    let result = rows.iter().map(|row| {
        let same = |other: &&Row| other.capability == row.capability && other.result == row.result;
        let reason = match others.iter().any(|other| same(&other)) {
            true => None,
            false => row.reason.as_ref(),
        };
        let reason = reason.map(|reason| format!(": {reason}"));
        let result = row.result.clone() + &reason.unwrap_or_default();
        (
            row.capability.clone(),
            Fields::from([(String::new(), result)]),
        )
    });
    result.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_only_if_the_results_differ() {
        let row = |capability: &str, result: &str, reason: &str| Row {
            capability: capability.to_owned(),
            result: result.to_owned(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
        };
        let pinned = [row("fork", "works", ""), row("title", "fails", "after 1 s")];
        let other = [
            row("fork", "fails", "no such route"),
            row("title", "fails", "after 2 s"),
        ];
        let (pinned, other) = (results(&pinned, &other), results(&other, &pinned));
        let changes = compare::part("capabilities", &pinned, &other).changes;
        let change = Change::Field {
            name: "fork".to_owned(),
            field: String::new(),
            pinned: Some("works".to_owned()),
            other: Some("fails: no such route".to_owned()),
        };
        assert_eq!(changes, [change]);
    }
}
