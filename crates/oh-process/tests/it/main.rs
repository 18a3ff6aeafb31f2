//! Integration tests of the crate. A stand-in plays the server, and scripted programs play the
//! interpreter and the installer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod bad_input;
#[cfg(target_os = "linux")]
mod bootstrap;
mod common;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod keeper;
mod lifecycle;
mod logs;
mod owned;
mod owner;
mod pool;
#[cfg(target_os = "linux")]
mod provision;
#[cfg(target_os = "linux")]
mod secrets;
#[cfg(target_os = "linux")]
mod template;
#[cfg(target_os = "linux")]
mod template_bad_input;
