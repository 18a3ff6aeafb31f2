//! `cargo xtask size`: builds programs for release, and compares their sizes with their limits.

use std::fs;

use crate::{Result, cargo};

struct Program {
    package: &'static str,
    name: &'static str,
    /// Variables that change the release profile of the workspace.
    profile: &'static [(&'static str, &'static str)],
    /// The most bytes that the program may have.
    limit: u64,
}

const PROGRAMS: [Program; 2] = [
    Program {
        package: "oh-cli",
        name: "oh",
        profile: &[],
        limit: 12 << 20,
    },
    Program {
        package: "queue-worker",
        name: "queue-worker",
        profile: &[
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z"),
            ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
        ],
        limit: 2 << 20,
    },
];

pub(crate) fn run() -> Result {
    let directory = cargo::root().join("target/size");
    for program in PROGRAMS {
        let mut build = cargo::cargo(&["build", "--release", "--quiet", "--package"]);
        build.arg(program.package).arg("--target-dir");
        build.arg(&directory).envs(program.profile.iter().copied());
        cargo::run(build)?;
        let path = directory.join("release").join(program.name);
        let size = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()));
        let (size, Program { name, limit, .. }) = (size?.len(), program);
        cargo::print(&format!("{name}: {size} bytes, at most {limit}\n"));
        if size > limit {
            return Err(format!("{name} is larger than {limit} bytes"));
        }
    }
    Ok(())
}
