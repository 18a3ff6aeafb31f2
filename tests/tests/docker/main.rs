//! Servers in containers, on a real engine: the one in `DOCKER_HOST`, with the image in
//! `OPENHANDS_TEST_IMAGE`. `cargo xtask test --docker` provides both.
//!
//! The contents of an engine are observed with its own command, not with the library under test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test fails by panicking, and owners print what their test reads"
)]

mod cleanup;
mod common;
mod errors;
mod lifecycle;
mod work;
