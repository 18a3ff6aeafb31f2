//! Project tasks, run as `cargo xtask <verb>`. Each verb is one module; none holds product logic.

mod api_coverage;
mod bench;
mod cargo;
mod ci;
mod constraints;
mod demo;
mod example;
mod fixtures;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What every verb returns: nothing, or a message for the person at the terminal.
type Result<T = ()> = std::result::Result<T, String>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the openhands workspace")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the main job on a real agent server: the README's first command.
    Demo,
    /// Run every test, end to end on the real server included: the README's second command.
    Test(test::Options),
    /// Run the tests that take long: random runs, ten thousand cuts, older servers.
    Soak,
    /// Record what a real server says, for the tests and benches of `oh-protocol`.
    Fixtures,
    /// Compare the calls of `oh-protocol` with what a running server offers, router by router.
    ApiCoverage,
    /// Renew or check the versions of the packages that environments are made with.
    Constraints(constraints::Options),
    /// Check the rules that compilers do not: layers, file sizes, module docs.
    Tidy,
    /// Measure ours, the peers and the floor on the same work.
    Bench(bench::Options),
    /// Everything the gate runs: fmt, clippy, rustdoc, tidy, deny, each crate and feature, tests.
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Demo => demo::run(),
        Verb::Test(options) => test::run(&options),
        Verb::Soak => test::soak(),
        Verb::Fixtures => fixtures::run(),
        Verb::ApiCoverage => api_coverage::run(),
        Verb::Constraints(options) => constraints::run(&options),
        Verb::Tidy => tidy::run(),
        Verb::Bench(options) => bench::run(&options),
        Verb::Ci(options) => ci::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            cargo::say(&format!("xtask: {message}"));
            ExitCode::FAILURE
        }
    }
}
