//! Integration tests of the crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod admin_calls;
mod bad_input;
mod calls;
mod config;
mod fixtures;
mod masks;
mod properties;
mod side_calls;
mod stored_calls;
mod workspace_calls;
