//! `cargo xtask ci`: runs every check, fastest failure first.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{Result, api, book, cargo, semver, test, tidy, workspace};

const DENY: &str = "0.20.2";
const HACK: &str = "0.6.46";
const FACADE: &str = "openhands";
/// Gives procedural macros the features that they have in a build of the workspace.
const MACROS: &str = "oh-test-macros";

#[derive(Args)]
pub(crate) struct Options {
    /// Run the checks only; `cargo xtask test` runs the tests.
    #[arg(long)]
    checks_only: bool,
}

/// A check and its name in the summary.
type Check = (&'static str, fn() -> Result);

/// All checks, in their order. The tests check the calls for each operation, because they have
/// compiled what that needs.
const CHECKS: [Check; 12] = [
    ("format", || step(&["fmt", "--all", "--check"])),
    ("rules of the project", tidy::run),
    ("generated calls", api::check),
    ("clippy, all features", clippy),
    ("each crate alone, with its tests", || {
        each_crate_alone("check", &["--tests"])
    }),
    ("clippy, each feature of each crate alone", each_feature),
    ("fuzz targets", fuzz_targets),
    ("documentation", documentation),
    ("book of guides", book::run),
    ("licences, sources, advisories", deny),
    ("packages", package),
    ("compatibility with the last release", semver::check),
];

/// Runs all checks and stops at the first that fails.
pub(crate) fn run(options: &Options) -> Result {
    let mut times = Vec::new();
    let result = CHECKS.iter().try_for_each(|(name, check)| {
        let begun = Instant::now();
        let outcome = check();
        times.push((*name, begun.elapsed(), outcome.is_ok()));
        outcome
    });
    summarize(&times);
    result?;
    match options.checks_only {
        true => Ok(()),
        false => test::run(&test::Options::default()),
    }
}

fn summarize(times: &[(&str, Duration, bool)]) {
    cargo::say("\nchecks");
    for (name, time, passed) in times {
        let outcome = if *passed { "passed" } else { "FAILED" };
        cargo::say(&format!(
            "  {outcome}  {name} ({:.0} s)",
            time.as_secs_f64()
        ));
    }
    let total: Duration = times.iter().map(|(_, time, _)| *time).sum();
    cargo::say(&format!("  total {:.0} s", total.as_secs_f64()));
}

fn step(arguments: &[&str]) -> Result {
    cargo::run(cargo::cargo(arguments)).map(drop)
}

/// Runs clippy on all targets of the workspace.
fn clippy() -> Result {
    let all = ["clippy", "--workspace", "--all-targets", "--quiet"];
    step(&[&all[..], &["--all-features", "--", "-D", "warnings"]].concat())
}

/// Checks each published crate alone, once for each set of features that the arguments name. A
/// workspace build would hide missing dependencies, because it merges the features of all crates.
/// The tests themselves are run once, by `cargo xtask test`.
fn each_crate_alone(check: &str, sets: &[&str]) -> Result {
    cargo::ensure_subcommand("hack", "cargo-hack", HACK)?;
    let all = ["--workspace", "--ignore-private", "--quiet"];
    step(&[&["hack", check], &all[..], sets].concat())
}

/// Runs clippy on each published crate with no feature and with each feature by itself. The
/// dependencies have no other features than those that the crate asks for. The default features are
/// those of the crate alone, with its tests.
fn each_feature() -> Result {
    for package in workspace::published()? {
        let name = package.name.as_str();
        let mut command = vec!["clippy", "--quiet", "--no-deps", "--no-default-features"];
        command.extend(["--package", name, "--package", MACROS]);
        if name == FACADE {
            // It only exports other crates, with many sets of features. Dependencies of its tests
            // give all sets the same third-party crates, so that these are compiled once.
            command.extend(["--lib", "--tests"]);
        }
        let sets = package.features.keys().map(String::as_str);
        let sets = sets.filter(|set| *set != "default");
        for set in std::iter::once("").chain(sets) {
            let set = match set {
                "" => String::new(),
                set => format!("{name}/{set}"),
            };
            let rest = ["--features", &set, "--", "-D", "warnings"];
            step(&[&command[..], &rest].concat())?;
        }
    }
    Ok(())
}

/// Builds the documentation of all crates, without warnings.
fn documentation() -> Result {
    let all = ["--workspace", "--all-features", "--no-deps", "--quiet"];
    let mut doc = cargo::cargo(&[&["doc"], &all[..]].concat());
    doc.env("RUSTDOCFLAGS", "-D warnings");
    cargo::run(doc).map(drop)
}

/// Packages each published crate, which fails if a file or a field of its manifest is missing.
/// Does not build the packages.
fn package() -> Result {
    let mut command = cargo::cargo(&["package", "--no-verify", "--allow-dirty", "--quiet"]);
    command.args(["--target-dir", "target/package"]);
    for package in workspace::published()? {
        command.args(["--package", &package.name]);
    }
    cargo::run(command).map(drop)
}

/// Builds the fuzz targets, which form their own workspace. Names a library that is never opened,
/// so that libfuzzer itself need not be built.
fn fuzz_targets() -> Result {
    let mut check = cargo::cargo(&["check", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    // The same directory as for the workspace, which has compiled most of the dependencies.
    check.args(["--target-dir", &workspace::target_directory()?]);
    check.env("CUSTOM_LIBFUZZER_PATH", "./libfuzzer.a");
    cargo::run(check).map(drop)
}

/// Checks licences, sources and bans, and also advisories if their database is available.
fn deny() -> Result {
    cargo::ensure_subcommand("deny", "cargo-deny", DENY)?;
    let deny = |check: &[&str]| -> Command {
        let mut command =
            cargo::cargo(&["deny", "--all-features", "--log-level", "error", "check"]);
        command.args(check);
        command
    };
    cargo::run(deny(&["licenses", "bans", "sources"]))?;
    if cargo::cargo(&["deny", "fetch", "db"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return cargo::run(deny(&["advisories"])).map(drop);
    }
    cargo::say("deny: cannot reach the advisory database; advisories were NOT checked");
    Ok(())
}
