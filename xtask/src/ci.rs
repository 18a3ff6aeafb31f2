//! `cargo xtask ci`: runs every check, fastest failure first.

use std::process::Command;

use cargo_metadata::MetadataCommand;
use clap::Args;

use crate::{Result, cargo, test, tidy};

const DENY: &str = "0.20.2";

#[derive(Args)]
pub(crate) struct Options {
    /// Run the checks only; `cargo xtask test` runs the tests.
    #[arg(long)]
    checks_only: bool,
}

/// Runs all checks and stops at the first that fails.
pub(crate) fn run(options: &Options) -> Result {
    cargo::run(cargo::cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    for features in [&[][..], &["--no-default-features"], &["--all-features"]] {
        let mut arguments = vec!["clippy", "--workspace", "--all-targets", "--quiet"];
        arguments.extend(features);
        arguments.extend(["--", "-D", "warnings"]);
        cargo::run(cargo::cargo(&arguments))?;
    }
    each_crate_alone()?;
    fuzz_targets()?;
    let mut doc = cargo::cargo(&[
        "doc",
        "--workspace",
        "--all-features",
        "--no-deps",
        "--quiet",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    cargo::run(doc)?;
    deny()?;
    if options.checks_only {
        Ok(())
    } else {
        test::run(&test::Options::default())
    }
}

/// Builds each published crate and its tests alone, without features and with each feature by
/// itself. A workspace build would hide missing dependencies, because it merges the features of all
/// crates. The tests themselves are run once, by `cargo xtask test`.
fn each_crate_alone() -> Result {
    let metadata = MetadataCommand::new()
        .current_dir(cargo::root())
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    for package in metadata.workspace_packages() {
        if package.publish.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let check = |extra: &[&str]| -> Result {
            let mut command = cargo::cargo(&["check", "--quiet", "--package", &package.name]);
            command.args(extra);
            cargo::run(command).map(drop)
        };
        check(&["--tests"])?;
        check(&["--no-default-features"])?;
        for feature in package
            .features
            .keys()
            .filter(|feature| *feature != "default")
        {
            check(&["--no-default-features", "--features", feature])?;
        }
    }
    Ok(())
}

/// Builds the fuzz targets, which form their own workspace. Names a library that is never opened,
/// so that libfuzzer itself need not be built.
fn fuzz_targets() -> Result {
    let mut check = cargo::cargo(&["check", "--quiet", "--target-dir", "target/fuzz"]);
    check.args(["--manifest-path", "fuzz/Cargo.toml"]);
    check.env("RUSTFLAGS", "--cfg fuzzing");
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
