//! A PreToolUse hook in Rust: denies the recursive removal of directories.

use std::process::ExitCode;

use openhands::hooks::author::{Verdict, guard};

fn main() -> ExitCode {
    guard(|event| {
        Ok::<_, String>(match event.command() {
            Some(line) if line.contains("rm -rf") => Verdict::deny("do not remove whole trees"),
            _ => Verdict::allow(),
        })
    })
}
