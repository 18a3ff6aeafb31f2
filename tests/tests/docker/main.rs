//! Servers in containers, on a real engine: the one in `DOCKER_HOST`, with the image in
//! `OPENHANDS_TEST_IMAGE`. `cargo xtask containers` provides both, and `cargo xtask test` runs it.
//!
//! Tests of owners and errors use a stand-in for the server, which starts in a fraction of a second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test fails by panicking, and owners print what their test reads"
)]

mod cleanup;
mod command;
mod creation;
mod engines;
mod errors;
mod example;
mod images;
mod lifecycle;
mod owners;
mod platforms;
mod pool;
mod registry;
mod restarts;
mod runtime;
mod soak;
mod sockets;
mod ssh;
mod template;
mod tls;
mod tools;
mod work;
