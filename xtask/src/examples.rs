//! `cargo xtask examples`: runs the examples on a real server, and prints a line for each.

use std::{fs::File, process::Command, time::Duration};

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
    let program = cargo::command_program(PROGRAM)?;
    // The output of examples that run in the program itself. Its own lines go to stderr.
    let log = program.with_file_name("examples.log");
    let output = File::create(&log);
    let output = output.map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(&options.names)
        .env("EXAMPLES_LOG", log)
        .env_remove("LLM_API_KEY")
        .stdout(output)
        .current_dir(cargo::root());
    cargo::run_within(LIMIT, command).map(drop)
}
