//! `cargo xtask demo`: runs the example of the main job.

use crate::{Result, cargo};

/// Builds `examples/local_agent_server.rs` and runs it on a real server.
pub(crate) fn run() -> Result {
    cargo::run(cargo::cargo(&[
        "run",
        "--quiet",
        "--package",
        "openhands-examples",
        "--example",
        "local_agent_server",
    ]))
    .map(drop)
}
