//! The real server where somebody or something is against it: an agent that looks for keys, files
//! planted for it to import, odd environments, full disks.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod canaries;
mod secrets;
mod surroundings;
