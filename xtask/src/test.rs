//! `cargo xtask test`: runs every test, including those on a real server.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    Result, api_coverage, bench,
    cargo::{self, ALL},
    engine::Engine,
    example, image,
};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Skip the end-to-end tests: nothing is provisioned and no server is started.
    #[arg(long)]
    no_e2e: bool,
    /// Also run the tests of containers. Needs an engine in `DOCKER_HOST`, or root and `dockerd`.
    #[arg(long, conflicts_with = "no_e2e")]
    docker: bool,
}

/// The tests of containers.
const CONTAINERS: &str = "docker";

/// The end-to-end tests that share a process, and thus a template for each version of the server.
const SHARED: &str = "real";
/// Number of these tests that run at once. Most of the time they wait for the server.
const AT_ONCE: &str = "6";
/// Time limit of these tests together.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs unit, scenario and integration tests, doctests and the end-to-end tests, then checks that
/// every operation of a real server has a call.
pub(crate) fn run(options: &Options) -> Result {
    let begun = Instant::now();
    cargo::ensure_nextest()?;
    let mut rows = Vec::new();
    let mut steps: Vec<Step> = match options.no_e2e {
        true => vec![UNIT, DOCTESTS, EXAMPLE, BENCHES],
        false => vec![UNIT, DOCTESTS, EXAMPLE, SHARING, ALONE, OPERATIONS, BENCHES],
    };
    if options.docker {
        steps.push(("end to end, servers in containers", containers));
    }
    let result = steps.iter().try_for_each(|(name, step)| {
        let begun = Instant::now();
        let outcome = step();
        rows.push((*name, begun.elapsed(), outcome.is_ok()));
        outcome
    });

    cargo::say("\nsummary");
    for (name, time, passed) in rows {
        let outcome = if passed { "passed" } else { "FAILED" };
        cargo::say(&format!(
            "  {outcome}  {name} ({:.0} s)",
            time.as_secs_f64()
        ));
    }
    if options.no_e2e {
        cargo::say("  skipped  end to end (--no-e2e)");
    }
    if !options.docker {
        cargo::say("  skipped  servers in containers: run `cargo xtask test --docker`");
    }
    cargo::say(&format!("  total {:.0} s", begun.elapsed().as_secs_f64()));
    result
}

/// A step and its name in the summary.
type Step = (&'static str, fn() -> Result);

const UNIT: Step = ("unit, scenario, integration", || {
    nextest(&["-E", "not package(openhands-tests)"])
});
const DOCTESTS: Step = ("doctests", || {
    let doctests = [&["test", "--doc", "--quiet"], &ALL[..]].concat();
    cargo::run(cargo::cargo(&doctests)).map(drop)
});
const EXAMPLE: Step = ("tests of an example, without Python", example::run);
const SHARING: Step = ("end to end, servers of shared templates", sharing);
const ALONE: Step = ("end to end, each test in its process", || {
    let selected =
        format!("package(openhands-tests) and not binary({SHARED}) and not binary({CONTAINERS})");
    nextest(&["-E", &selected])
});
const OPERATIONS: Step = (
    "operations of the pinned server, each with a call",
    api_coverage::run,
);
const BENCHES: Step = ("benches without a server, a smoke run of each", || {
    bench::smoke(false)
});

fn nextest(arguments: &[&str]) -> Result {
    let run = [&["nextest", "run"], &ALL[..], arguments].concat();
    cargo::run(cargo::cargo(&run)).map(drop)
}

/// Runs the end-to-end tests that share a process. `cargo nextest` would start a process for each,
/// and each would need its own template.
fn sharing() -> Result {
    let program = cargo::test_program(SHARED)?;
    let mut command = Command::new(program);
    command.args(["--test-threads", AT_ONCE, "--skip", "soak_"]);
    command.current_dir(cargo::root().join("tests"));
    cargo::run_within(LIMIT, command).map(drop)
}

/// Runs the tests of containers on an engine that has the image of the pinned server.
fn containers() -> Result {
    let engine = Engine::start()?;
    image::ensure(&mut || engine.command(), false)?;
    let program = cargo::test_program(CONTAINERS)?;
    let mut command = Command::new(program);
    command.env("DOCKER_HOST", engine.address());
    command.env("OPENHANDS_TEST_IMAGE", image::tag()?);
    command.args(["--test-threads", "2"]);
    command.current_dir(cargo::root().join("tests"));
    cargo::run_within(LIMIT, command).map(drop)
}

/// Runs the tests that are too long for every test run, one after the other, and a smoke run of
/// each benchmark.
pub(crate) fn soak() -> Result {
    cargo::ensure_nextest()?;
    nextest(&["--profile", "soak"])?;
    bench::smoke(true)
}
