//! `cargo xtask size`: builds a program for a small size, and compares it with its limit.

use std::fs;

use crate::{Result, cargo};

/// A program, and the most bytes that it may have.
const PROGRAMS: [(&str, u64); 1] = [("queue-worker", 2 << 20)];
/// Settings of the release profile, as environment variables.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

pub(crate) fn run() -> Result {
    let directory = cargo::root().join("target/size");
    for (name, limit) in PROGRAMS {
        let mut build = cargo::cargo(&["build", "--release", "--quiet", "--package", name]);
        build.arg("--target-dir").arg(&directory).envs(PROFILE);
        cargo::run(build)?;
        let program = directory.join("release").join(name);
        let size =
            fs::metadata(&program).map_err(|error| format!("{}: {error}", program.display()));
        let size = size?.len();
        cargo::print(&format!("{name}: {size} bytes, at most {limit}\n"));
        if size > limit {
            return Err(format!("{name} is larger than {limit} bytes"));
        }
    }
    Ok(())
}
