//! Project tasks, run as `cargo xtask <verb>`. Each verb is one module; none contains product code.

mod api;
mod api_coverage;
mod bench;
mod book;
mod cargo;
mod ci;
mod conformance;
mod constraints;
mod containers;
mod demo;
mod docs;
mod drift;
mod engine;
mod english;
mod example;
mod examples;
mod files;
mod fixtures;
mod image;
mod lexer;
mod matrix;
mod mentions;
mod minimal_versions;
mod package_twice;
mod semver;
mod servers;
mod size;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cargo::Result;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the openhands workspace")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the example of the main job on a real agent server (first command of the README).
    Demo(demo::Options),
    /// Run the examples on a real agent server, with a scripted model, and print a line for each.
    Examples(examples::Options),
    /// Run every test, including end to end on a real server (second command of the README).
    Test(test::Options),
    /// Run the long tests: random runs, ten thousand connection cuts, older servers, containers.
    Soak,
    /// Run only the tests of servers in containers, on Docker or Podman.
    Containers(containers::Options),
    /// Record responses of a real server for the tests and benches of `oh-protocol`.
    Fixtures,
    /// Generate calls and handles of some routers from the OpenAPI document of the pinned server.
    Api(api::Options),
    /// Show how a program can request each operation of the pinned server, and find missing calls.
    ApiCoverage,
    /// Update or check the pinned package versions of new environments.
    Constraints(constraints::Options),
    /// Generate the list of errors in `docs/errors.md` from the documentation of each `ErrorKind`.
    Docs,
    /// Build the guides in `docs/` as a book, and fail if mdBook warns.
    Book,
    /// Check the rules that compilers do not: layers, cycles of modules, file sizes, plain English.
    Tidy,
    /// Try every capability on many versions of the server, and write `docs/versions.md`.
    Matrix(matrix::Options),
    /// Compare the fake server with a real one, and write `docs/fake.md`.
    Conformance,
    /// Compare a version of the server with the pinned one. The exit code is 0 without drift, 3
    /// with additions only, 4 with removals or changes, and 1 if the comparison fails.
    Drift(drift::Options),
    /// Build an image with the pinned server for the local container engine, without a registry.
    Image(image::Options),
    /// Benchmark this library, other clients and the floor on the same work.
    Bench(bench::Options),
    /// Compile the published crates with the lowest allowed versions of their dependencies.
    MinimalVersions,
    /// Package the published crates of the last commit in two places, and compare the bytes.
    PackageTwice,
    /// Build small programs for a small size, and compare them with their limits.
    Size,
    /// Run every check: fmt, clippy, rustdoc, tidy, deny, each crate and feature, tests.
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Examples(options) => examples::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Soak => test::soak(),
        Verb::Containers(options) => containers::run(&options),
        Verb::Fixtures => fixtures::run(),
        Verb::Api(options) => api::run(&options),
        Verb::ApiCoverage => api_coverage::run(),
        Verb::Constraints(options) => constraints::run(&options),
        Verb::Docs => docs::run(),
        Verb::Book => book::run(),
        Verb::Tidy => tidy::run(),
        Verb::Matrix(options) => matrix::run(&options),
        Verb::Conformance => conformance::run(),
        Verb::Drift(options) => return exit(drift::run(&options)),
        Verb::Image(options) => image::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::MinimalVersions => minimal_versions::run(),
        Verb::PackageTwice => package_twice::run(),
        Verb::Size => size::run(),
        Verb::Ci(options) => ci::run(&options),
    };
    exit(outcome.map(|()| ExitCode::SUCCESS))
}

/// Returns the exit code of a verb. Prints its error.
fn exit(outcome: Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(message) => {
            cargo::say(&format!("xtask: {message}"));
            ExitCode::FAILURE
        }
    }
}
