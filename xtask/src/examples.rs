//! `cargo xtask examples`: runs the examples on a real server, and prints a line for each.

use std::{process::Command, time::Duration};

use clap::Args;

use crate::{Result, cargo};

/// The program that runs them, in the package of the examples.
const PROGRAM: &str = "run_examples";
const LIMIT: Duration = Duration::from_secs(10 * 60);

#[derive(Args, Default)]
pub(crate) struct Options {
    /// The examples to run. Default: all that need neither a container engine nor a model's key.
    names: Vec<String>,
}

/// Builds the examples and runs them side by side, with the scripted model.
pub(crate) fn run(options: &Options) -> Result {
    let mut command = Command::new(cargo::command_program(PROGRAM)?);
    command.args(&options.names).current_dir(cargo::root());
    cargo::run_within(LIMIT, command).map(drop)
}
