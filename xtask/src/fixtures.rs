//! `cargo xtask fixtures`: record what a real server says. The recorder lives with the end-to-end
//! tests, which know how to drive a server; this only runs it.

use crate::{Result, cargo};

/// Runs the recorder; it writes to `crates/oh-protocol/fixtures/<server version>/`.
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
