//! `cargo xtask bench`: ours, the peers and the floor on the same work in one run.
//!
//! A benchmark is a `harness = false` bench target that measures its subjects in interleaved
//! rounds and prints one JSON object a line: `{"work", "subject", "value", "unit"}`. This module
//! runs the targets, and knows what was promised; [`report`] turns rows into tables and charts.

mod report;

use std::{fs, process::Stdio};

use clap::Args;
use serde_json::Value;

use crate::{Result, cargo};
use report::{Report, Row};

#[derive(Args)]
pub(crate) struct Options {
    /// Benchmarks to run; all when none is named.
    names: Vec<String>,
    /// Print the rows as JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// One short round of each: shows that they run, measures nothing.
    #[arg(long)]
    smoke: bool,
    /// Write `docs/benchmarks.md` and its charts.
    #[arg(long)]
    write: bool,
}

/// A bench target and the promises it is held to.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) target: &'static str,
    pub(crate) about: &'static str,
    pub(crate) promises: &'static [Promise],
}

/// "On this work, ours is at least (or at most) so many times that subject."
pub(crate) struct Promise {
    pub(crate) work: &'static str,
    pub(crate) against: &'static str,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Every benchmark there is.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "decode",
        package: "oh-protocol",
        target: "decode",
        about: "reading a recorded conversation: whole, and its headers only",
        promises: &[
            Promise {
                work: "typed",
                against: "Python SDK",
                bound: Bound::AtLeast(25.0),
            },
            Promise {
                work: "typed",
                against: "Node JSON.parse",
                bound: Bound::AtLeast(3.0),
            },
            Promise {
                work: "header",
                against: "Python SDK",
                bound: Bound::AtLeast(40.0),
            },
            Promise {
                work: "held event",
                against: "1.3 times its bytes + 200",
                bound: Bound::AtMost(1.0),
            },
        ],
    },
    Benchmark {
        name: "load",
        package: "oh-testkit",
        target: "load",
        about: "what the fake server gives, so that clients can be measured against it",
        // Below this it would be the server that is measured.
        promises: &[
            Promise {
                work: "replay",
                against: "oh-transport",
                bound: Bound::AtLeast(4.0),
            },
            Promise {
                work: "replay, processor time",
                against: "oh-transport",
                bound: Bound::AtMost(0.5),
            },
            Promise {
                work: "replay",
                against: "bare TCP",
                bound: Bound::AtLeast(0.5),
            },
            Promise {
                work: "hold memory",
                against: "their JSON",
                bound: Bound::AtMost(2.0),
            },
        ],
    },
    Benchmark {
        name: "transport",
        package: "oh-transport",
        target: "transport",
        about: "what pool, retries, limits and typed answers cost above bare hyper, and whole \
                messages behind a channel above bare fastwebsockets",
        promises: &[
            Promise {
                work: "requests",
                against: "bare hyper",
                bound: Bound::AtLeast(0.4),
            },
            Promise {
                work: "frames",
                against: "bare fastwebsockets",
                bound: Bound::AtLeast(0.4),
            },
        ],
    },
    Benchmark {
        name: "process",
        package: "oh-process",
        target: "process",
        about: "what supervision adds to a server's start and end, and what a warm spare saves",
        promises: &[Promise {
            work: "server at hand",
            against: "cold start",
            bound: Bound::AtMost(1.0 / 80.0),
        }],
    },
    Benchmark {
        name: "workspace",
        package: "oh-workspace",
        target: "workspace",
        about: "commands against the server's own blocking endpoint, files against curl",
        promises: &[
            Promise {
                work: "pwd, median",
                against: "execute_bash_command",
                bound: Bound::AtMost(1.15),
            },
            Promise {
                work: "pwd, 90th percentile",
                against: "execute_bash_command",
                bound: Bound::AtMost(1.15),
            },
            Promise {
                work: "end of a 250 ms command told, 90th percentile",
                against: "promised",
                bound: Bound::AtMost(1.0),
            },
            Promise {
                work: "upload",
                against: "curl",
                bound: Bound::AtLeast(0.9),
            },
            Promise {
                work: "download",
                against: "curl",
                bound: Bound::AtLeast(0.9),
            },
            Promise {
                work: "upload memory growth",
                against: "promised",
                bound: Bound::AtMost(1.0),
            },
            Promise {
                work: "download memory growth",
                against: "promised",
                bound: Bound::AtMost(1.0),
            },
        ],
    },
];

/// Runs the named benchmarks, or all.
pub(crate) fn run(options: &Options) -> Result {
    let known: Vec<&str> = BENCHMARKS.iter().map(|bench| bench.name).collect();
    if let Some(name) = options
        .names
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(format!(
            "no benchmark `{name}`; there are: {}",
            known.join(", ")
        ));
    }
    let mut reports = Vec::new();
    let python = python()?;
    for bench in BENCHMARKS {
        if options.names.is_empty() || options.names.iter().any(|name| name == bench.name) {
            reports.push(Report::new(bench, measure(bench, options, &python)?));
        }
    }
    for report in &reports {
        let shown = if options.json {
            report.json()
        } else {
            report.table()
        };
        cargo::print(&shown);
    }
    if options.write {
        let directory = cargo::root().join("docs");
        for (name, text) in report::documents(&reports) {
            fs::write(directory.join(&name), text)
                .map_err(|error| format!("cannot write docs/{name}: {error}"))?;
        }
    }
    Ok(())
}

/// The Python that has the peers' SDK: the one of the provisioned environment.
fn python() -> Result<String> {
    let output = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--", "provision"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run `oh provision`: {error}"))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !path.is_empty() {
        Ok(path)
    } else {
        Err(format!("no environment for the peers: {}", output.status))
    }
}

fn measure(bench: &Benchmark, options: &Options, python: &str) -> Result<Vec<Row>> {
    let mut arguments = vec![
        "bench",
        "--quiet",
        "--package",
        bench.package,
        "--bench",
        bench.target,
        "--",
    ];
    arguments.push("--json");
    if options.smoke {
        arguments.push("--smoke");
    }
    cargo::say(&format!("bench {}: {}", bench.name, bench.about));
    let output = cargo::cargo(&arguments)
        .env("OPENHANDS_PYTHON", python)
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
            Row::read(&row).ok_or_else(|| format!("bench {}: not a row: {line}", bench.name))
        })
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(format!("bench {} measured nothing", bench.name));
    }
    Ok(rows)
}
