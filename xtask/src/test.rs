//! `cargo xtask test`: runs every test, including those on a real server.

use std::time::Instant;

use clap::Args;

use crate::{Result, api_coverage, bench, cargo, example};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Skip the end-to-end tests: nothing is provisioned and no server is started.
    #[arg(long)]
    no_e2e: bool,
}

/// Runs unit, scenario and integration tests, doctests and the end-to-end tests, then checks that
/// every operation of a real server has a call.
pub(crate) fn run(options: &Options) -> Result {
    let begun = Instant::now();
    cargo::ensure_nextest()?;
    let mut rows = Vec::new();

    let mut step = |name: &'static str, arguments: &[&str]| -> Result {
        let outcome = cargo::run(cargo::cargo(arguments));
        rows.push((name, outcome.clone()));
        outcome.map(drop)
    };
    // One selection of packages and features for all steps, so that nothing is compiled twice.
    let nextest = ["nextest", "run", "--workspace", "--all-features"];
    let result = step(
        "unit, scenario, integration",
        &[&nextest[..], &["-E", "not package(openhands-tests)"]].concat(),
    )
    .and_then(|()| {
        step(
            "doctests",
            &["test", "--doc", "--workspace", "--all-features", "--quiet"],
        )
    })
    .and_then(|()| example::run())
    .and_then(|()| {
        if options.no_e2e {
            return Ok(());
        }
        let selected = ["-E", "package(openhands-tests)"];
        step(
            "end to end, real server",
            &[&nextest[..], &selected].concat(),
        )
    })
    .and_then(|()| {
        if options.no_e2e {
            return Ok(());
        }
        let begun = Instant::now();
        let outcome = api_coverage::run();
        let timed = outcome.clone().map(|()| begun.elapsed());
        rows.push(("operations of the real server, each with a call", timed));
        outcome
    })
    .and_then(|()| {
        let begun = Instant::now();
        let outcome = bench::smoke(false);
        let timed = outcome.clone().map(|()| begun.elapsed());
        rows.push(("benches without a server, a smoke run of each", timed));
        outcome
    });

    cargo::say("\nsummary");
    for (name, outcome) in &rows {
        match outcome {
            Ok(time) => cargo::say(&format!("  passed  {name} ({:.0} s)", time.as_secs_f64())),
            Err(_) => cargo::say(&format!("  FAILED  {name}")),
        }
    }
    if options.no_e2e {
        cargo::say("  skipped  end to end (--no-e2e)");
    }
    cargo::say(&format!("  total {:.0} s", begun.elapsed().as_secs_f64()));
    result
}

/// Runs the tests that are too long for every test run, one after the other, and a smoke run of each
/// benchmark.
pub(crate) fn soak() -> Result {
    cargo::ensure_nextest()?;
    let tests = [
        "nextest",
        "run",
        "--workspace",
        "--all-features",
        "--profile",
        "soak",
    ];
    cargo::run(cargo::cargo(&tests))?;
    bench::smoke(true)
}
