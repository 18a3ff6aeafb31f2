//! Tests on the real server that share one process, and therefore one template for each version of
//! the server. Tests of processes, memory and hostile surroundings are in other binaries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod admin;
mod coming_from_python;
mod command_line;
mod conformance;
mod control;
mod conversation_generations;
mod conversation_live;
mod conversation_operations;
mod fleet;
mod hooks_agreement;
mod hooks_real;
mod hooks_server;
mod hosted;
mod in_a_container;
mod in_a_pod;
mod network_real;
mod process;
mod protocol_config;
mod testkit_conformance;
mod transport_real;
mod workspace_commands;
mod workspace_git;
mod workspace_server;
