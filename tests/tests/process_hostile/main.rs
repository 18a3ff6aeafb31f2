//! The real server in hostile surroundings: an agent that searches for keys, planted modules,
//! unusual environments, full disks.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod canaries;
mod owners;
mod secrets;
mod surroundings;
