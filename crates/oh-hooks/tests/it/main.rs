//! Integration tests of the crate.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[cfg(target_os = "linux")]
mod dry_run;
#[cfg(unix)]
mod owned;
#[cfg(unix)]
mod session;
