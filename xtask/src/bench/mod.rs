//! `cargo xtask bench`: measures this library, its peers and the floor on the same work in one run.
//!
//! A benchmark is a `harness = false` bench target that measures its subjects in interleaved
//! rounds. It prints one JSON object per line: `{"work", "subject", "value", "unit"}`, or
//! `{"work", "subject", "skipped"}` with the reason. This module runs the targets, [`promises`]
//! contains the limits they must meet, [`peers`] provides the peers, [`report`] creates tables and
//! charts.

mod numbers;
mod peers;
mod promises;
mod report;

use std::{
    fs,
    process::{Command, Stdio},
};

use clap::Args;
use serde_json::Value;

use crate::{
    Result, cargo,
    engine::{Engine, Kind},
    image,
};
use peers::Peers;
use promises::{BENCHMARKS, Benchmark};
use report::{Report, Row};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Benchmarks to run (default: all).
    names: Vec<String>,
    /// Print the rows as JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Run one short, unoptimized round of each: checks that they run, measures nothing.
    #[arg(long)]
    smoke: bool,
    /// Write the results to `docs/benchmarks.md`, its charts and the README.
    #[arg(long, conflicts_with = "smoke")]
    write: bool,
}

/// Runs the named benchmarks, or all.
pub(crate) fn run(options: &Options) -> Result {
    let known: Vec<&str> = BENCHMARKS.iter().map(|bench| bench.name).collect();
    if let Some(name) = options
        .names
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(format!(
            "unknown benchmark `{name}`; available: {}",
            known.join(", ")
        ));
    }
    let wanted = |bench: &&Benchmark| {
        options.names.is_empty() || options.names.iter().any(|name| name == bench.name)
    };
    let peers = Peers::provision(options.smoke)?;
    for bench in BENCHMARKS.iter().filter(wanted) {
        let Measured { rows, engine } = measure(bench, options.smoke, &peers)?;
        let machine = format!("{}; {}{engine}.", cargo::machine(), peers.versions());
        let report = Report::new(bench, rows, machine);
        let shown = if options.json {
            report.json()
        } else {
            report.table()
        };
        cargo::print(&shown);
        // Written at once, so that a later failure does not lose these results.
        if options.write {
            write(&report)?;
        }
    }
    Ok(())
}

fn write(report: &Report<'_>) -> Result {
    let read = |path: &str| fs::read_to_string(cargo::root().join(path)).unwrap_or_default();
    for (path, text) in report::documents(report, BENCHMARKS, read) {
        fs::write(cargo::root().join(&path), text)
            .map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    Ok(())
}

/// Passes a container engine with the image to a bench.
fn containers(command: &mut Command) -> Result<Engine> {
    let engine = Engine::start(Kind::Docker)?;
    image::ensure(&mut || engine.command(), false)?;
    command.env("DOCKER_HOST", engine.address());
    command.env("OPENHANDS_BENCH_IMAGE", image::tag()?);
    Ok(engine)
}

/// Checks that every benchmark still runs. Without a server, runs only those that need none.
pub(crate) fn smoke(server: bool) -> Result {
    let peers = match server {
        true => Peers::provision(true)?,
        false => Peers::default(),
    };
    for bench in BENCHMARKS {
        if bench.server && !server {
            continue;
        }
        let rows = measure(bench, true, &peers)?.rows;
        if !rows.iter().any(Row::is_ours) {
            return Err(format!(
                "bench {} returned no measurement of this library",
                bench.name
            ));
        }
    }
    Ok(())
}

struct Measured {
    rows: Vec<Row>,
    /// Description of the container engine that was used. Begins with a comma, or is empty.
    engine: String,
}

fn measure(bench: &Benchmark, smoke: bool, peers: &Peers) -> Result<Measured> {
    let mut arguments = vec!["bench", "--quiet", "--bench", bench.target];
    if smoke {
        // Reuses the build of the tests: the same profile, packages and features.
        arguments.extend(["--profile", "dev", "--workspace", "--all-features"]);
    } else {
        arguments.extend(["--package", bench.package]);
    }
    arguments.push("--");
    arguments.extend(bench.part);
    arguments.push("--json");
    if smoke {
        arguments.push("--smoke");
    }
    cargo::say(&format!("bench {}: {}", bench.name, bench.about));
    let mut command = cargo::cargo(&arguments);
    if bench.name == "main-job" {
        command.env("OPENHANDS_MAIN_JOB", peers::main_job(smoke)?);
    }
    // Ends after the bench, unless it ran before.
    let engine = match bench.name {
        "docker" => Some(containers(&mut command)?),
        _ => None,
    };
    let output = peers
        .tell(&mut command)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run bench {}: {error}", bench.name))?;
    if !output.status.success() {
        return Err(format!("bench {} failed: {}", bench.name, output.status));
    }
    let rows: Vec<Row> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let row: Value = serde_json::from_str(line)
                .map_err(|error| format!("bench {}: {error} in {line}", bench.name))?;
            Row::read(&row).ok_or_else(|| format!("bench {}: invalid row: {line}", bench.name))
        })
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(format!("bench {} returned no measurements", bench.name));
    }
    let engine = match &engine {
        Some(engine) => format!(", Docker {}", engine.version()?),
        None => String::new(),
    };
    Ok(Measured { rows, engine })
}
