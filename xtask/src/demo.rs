//! `cargo xtask demo`: the main job, by running the example that shows it.

use crate::{Result, cargo};

/// Builds and runs `examples/local_agent_server.rs` on a real server.
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
