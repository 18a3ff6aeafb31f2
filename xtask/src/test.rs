//! `cargo xtask test`: runs every test, including those on a real server.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    Result, api_coverage, bench,
    cargo::{self, ALL},
    containers,
    engine::{Engine, Kind},
    example, examples,
};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Skip the end-to-end tests: nothing is provisioned and no server is started.
    #[arg(long)]
    no_e2e: bool,
    /// Fail unless there is a container engine. Without this option, the tests of containers are
    /// left out if no engine runs, or if it does not have the image.
    #[arg(long, conflicts_with = "no_e2e")]
    docker: bool,
}

/// Number of these tests that run at once. Most of the time they wait for the server.
const AT_ONCE: &str = "10";
/// Time limit of these tests together.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs unit, scenario and integration tests, doctests and the end-to-end tests, then checks that
/// every operation of a real server has a call.
pub(crate) fn run(options: &Options) -> Result {
    let begun = Instant::now();
    cargo::ensure_nextest()?;
    let mut rows = Vec::new();
    let engine = match options.docker {
        true => Ok(Engine::start(Kind::Docker)?),
        false => containers::usable_engine(),
    };
    let steps = match options.no_e2e {
        true => vec![BUILD, UNIT, DOCTESTS, EXAMPLE, BENCHES],
        false => vec![
            BUILD, UNIT, DOCTESTS, EXAMPLE, EXAMPLES, SHARING, ALONE, OPERATIONS, BENCHES,
        ],
    };
    let mut steps: Vec<Step<'_>> = steps
        .into_iter()
        .map(|(name, step)| (name, Box::new(step) as Box<dyn Fn() -> Result>))
        .collect();
    if let (Ok(engine), false) = (&engine, options.no_e2e) {
        let usual = || containers::usual(engine);
        steps.push(("end to end, servers in containers", Box::new(usual)));
    }
    let result = steps.iter().try_for_each(|(name, step)| {
        let (begun, before) = (Instant::now(), processor_time());
        let outcome = step();
        let processor = processor_time().saturating_sub(before);
        rows.push((*name, begun.elapsed(), processor, outcome.is_ok()));
        outcome
    });

    cargo::say("\nsummary");
    for (name, time, processor, passed) in rows {
        let outcome = if passed { "passed" } else { "FAILED" };
        cargo::say(&format!(
            "  {outcome}  {name} ({:.0} s, processor {:.0} s)",
            time.as_secs_f64(),
            processor.as_secs_f64()
        ));
    }
    if options.no_e2e {
        cargo::say("  skipped  end to end (--no-e2e)");
    }
    if let (Err(reason), false) = (&engine, options.no_e2e) {
        cargo::say(&format!(
            "  SKIPPED  end to end, servers in containers: {reason}; `cargo xtask test --docker` \
             requires them"
        ));
    }
    cargo::say(&format!("  total {:.0} s", begun.elapsed().as_secs_f64()));
    result
}

/// Returns the processor time of the programs that have ended; zero where the system does not
/// report it.
fn processor_time() -> Duration {
    cargo::processor_time_of_children().unwrap_or_default()
}

/// A step and its name in the summary.
type Step<'a> = (&'static str, Box<dyn Fn() -> Result + 'a>);

/// A step that needs nothing, and its name in the summary.
type Constant = (&'static str, fn() -> Result);

const BUILD: Constant = ("build of the tests", || {
    nextest(&["--no-run"])?;
    // Its tests run it as a program.
    cargo::example_program("local_agent_server").map(drop)
});
const UNIT: Constant = ("unit, scenario, integration", || {
    let selected = ["-E", "not package(openhands-tests)"];
    // More than CPUs: many of these tests wait most of the time.
    nextest(&[&selected[..], &["--test-threads", "4"]].concat())
});
const DOCTESTS: Constant = ("doctests", || {
    let doctests = [&["test", "--doc", "--quiet"], &ALL[..]].concat();
    cargo::run(cargo::cargo(&doctests)).map(drop)
});
const EXAMPLE: Constant = ("tests of an example, without Python", example::run);
const EXAMPLES: Constant = ("examples on a real server", || {
    examples::run(&examples::Options::default())
});
const SHARING: Constant = ("end to end, servers of shared templates", sharing);
const ALONE: Constant = ("end to end, each test in its process", || {
    let selected = format!(
        "package(openhands-tests) and not binary({}) and not binary({})",
        containers::SHARED,
        containers::PROGRAM
    );
    nextest(&["-E", &selected])
});
const OPERATIONS: Constant = (
    "operations of the pinned server, each with a call",
    api_coverage::run,
);
const BENCHES: Constant = ("benches without a server, a smoke run of each", || {
    bench::smoke(false)
});

fn nextest(arguments: &[&str]) -> Result {
    // Without `--tests`, each example would be built as a program that no test runs.
    let run = [&["nextest", "run", "--tests"], &ALL[..], arguments].concat();
    cargo::run(cargo::cargo(&run)).map(drop)
}

/// Runs the end-to-end tests that share a process. `cargo nextest` would start a process for each,
/// and each would need its own template.
fn sharing() -> Result {
    let program = cargo::test_program(containers::SHARED)?;
    let mut command = Command::new(program);
    command.args(["--test-threads", AT_ONCE, "--skip", "soak_"]);
    command.args(["--skip", containers::SCENES]);
    command.current_dir(cargo::root().join("tests"));
    cargo::run_within(LIMIT, command).map(drop)
}

/// Runs the tests that are too long for every test run, one after the other, and a smoke run of
/// each benchmark. Needs a container engine.
pub(crate) fn soak() -> Result {
    cargo::ensure_nextest()?;
    let without = format!(
        "test(soak_) and not binary({}) and not test({})",
        containers::PROGRAM,
        containers::SCENES
    );
    nextest(&["--profile", "soak", "-E", &without])?;
    containers::long()?;
    bench::smoke(true)
}
