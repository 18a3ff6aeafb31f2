//! `cargo xtask fixtures`: records responses of a real server. The recorder is part of the
//! end-to-end tests, which can drive a server; this module only runs it.

use crate::{Result, cargo};

/// Runs the recorder, which writes to `crates/oh-protocol/fixtures/<server version>/`.
pub(crate) fn run() -> Result {
    cargo::run(cargo::cargo(&[
        "run",
        "--quiet",
        "--package",
        "openhands-tests",
        "--bin",
        "record",
    ]))
    .map(drop)
}
