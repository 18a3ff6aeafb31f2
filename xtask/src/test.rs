//! `cargo xtask test`: runs every test, including those on a real server.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    Result, api_coverage, bench,
    cargo::{self, ALL},
    containers,
    engine::{Engine, Kind},
    example,
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
const AT_ONCE: &str = "6";
/// Time limit of these tests together.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs unit, scenario and integration tests, doctests and the end-to-end tests, then checks that
/// every operation of a real server has a call.
pub(crate) fn run(options: &Options) -> Result {
    let begun = Instant::now();
    cargo::ensure_nextest()?;
    let engine = match options.docker {
        true => Ok(Engine::start(Kind::Docker)?),
        false => containers::usable_engine(),
    };
    let engine = match options.no_e2e {
        true => Err("--no-e2e".to_owned()),
        false => engine,
    };
    let containers = || engine.as_ref().map_or(Ok(()), containers::usual);
    let mut sharing: Vec<Step<'_>> = vec![SHARING];
    if engine.is_ok() {
        sharing.push(("end to end, servers in containers", &containers));
    }
    // Each stage begins when the one before it has passed.
    let stages = match options.no_e2e {
        true => vec![vec![vec![UNIT, DOCTESTS, EXAMPLE, BENCHES]]],
        false => vec![
            vec![vec![UNIT, DOCTESTS, EXAMPLE]],
            // These wait for servers half of the time, so they run at the same time.
            vec![sharing, vec![ALONE, OPERATIONS, BENCHES]],
        ],
    };
    let mut rows = Vec::new();
    let result = stages.iter().try_for_each(|lanes| {
        let (times, result) = at_the_same_time(lanes);
        rows.extend(times);
        result
    });

    cargo::say("\nsummary");
    for (name, time, passed) in rows {
        let outcome = if passed { "passed" } else { "FAILED" };
        cargo::say(&format!(
            "  {outcome}  {name} ({:.0} s)",
            time.as_secs_f64()
        ));
    }
    match &engine {
        Ok(_) => (),
        Err(_) if options.no_e2e => cargo::say("  skipped  end to end (--no-e2e)"),
        Err(reason) => cargo::say(&format!(
            "  SKIPPED  end to end, servers in containers: {reason}; `cargo xtask test --docker` \
             requires them"
        )),
    }
    cargo::say(&format!("  total {:.0} s", begun.elapsed().as_secs_f64()));
    result
}

/// A step and its name in the summary.
type Step<'a> = (&'static str, &'a (dyn Fn() -> Result + Sync));

/// A finished step, its time, and whether it has passed.
type Row = (&'static str, Duration, bool);

/// Runs the steps of each lane one after the other, and all lanes at the same time. A lane ends
/// with its first failure; the others go on.
fn at_the_same_time(lanes: &[Vec<Step<'_>>]) -> (Vec<Row>, Result) {
    let lane = |steps: &[Step<'_>]| {
        let mut rows = Vec::new();
        let result = steps.iter().try_for_each(|(name, step)| {
            let begun = Instant::now();
            let outcome = step();
            rows.push((*name, begun.elapsed(), outcome.is_ok()));
            outcome
        });
        (rows, result)
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = lanes
            .iter()
            .map(|steps| scope.spawn(move || lane(steps)))
            .collect();
        let ended = lanes.into_iter().map(|lane| {
            lane.join()
                .unwrap_or_else(|_| (Vec::new(), Err("a step panicked".to_owned())))
        });
        ended.fold((Vec::new(), Ok(())), |(mut rows, result), (more, next)| {
            rows.extend(more);
            (rows, result.and(next))
        })
    })
}

const UNIT: Step<'_> = ("unit, scenario, integration", &|| {
    let selected = ["-E", "not package(openhands-tests)"];
    // More than CPUs: many of these tests wait most of the time.
    nextest(&[&selected[..], &["--test-threads", "4"]].concat())
});
const DOCTESTS: Step<'_> = ("doctests", &|| {
    let doctests = [&["test", "--doc", "--quiet"], &ALL[..]].concat();
    cargo::run(cargo::cargo(&doctests)).map(drop)
});
const EXAMPLE: Step<'_> = ("tests of an example, without Python", &example::run);
const SHARING: Step<'_> = ("end to end, servers of shared templates", &sharing);
const ALONE: Step<'_> = ("end to end, each test in its process", &|| {
    let selected = format!(
        "package(openhands-tests) and not binary({}) and not binary({})",
        containers::SHARED,
        containers::PROGRAM
    );
    nextest(&["-E", &selected])
});
const OPERATIONS: Step<'_> = (
    "operations of the pinned server, each with a call",
    &api_coverage::run,
);
const BENCHES: Step<'_> = ("benches without a server, a smoke run of each", &|| {
    bench::smoke(false)
});

fn nextest(arguments: &[&str]) -> Result {
    let run = [&["nextest", "run"], &ALL[..], arguments].concat();
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
