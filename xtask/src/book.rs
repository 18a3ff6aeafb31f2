//! `cargo xtask book`: builds the guides in `docs/` as a book, and fails if mdBook warns.

use std::process::Command;

use crate::{Result, cargo};

const VERSION: &str = "0.5.4";

/// Builds the book into `target/book`.
pub(crate) fn run() -> Result {
    ensure_installed()?;
    let output = mdbook(&["build"])
        .output()
        .map_err(|error| format!("cannot run mdbook: {error}"))?;
    let log = [output.stderr, output.stdout].concat();
    let log = String::from_utf8_lossy(&log);
    match output.status.success() && !has_warning(&log) {
        true => {
            cargo::say("book: built without warnings in target/book");
            Ok(())
        }
        false => Err(format!("mdbook build:\n{}", log.trim_end())),
    }
}

/// Installs mdBook if it is missing. The debug profile compiles in half of the time, and a small
/// book needs no optimized program.
fn ensure_installed() -> Result {
    if mdbook(&["--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Ok(());
    }
    cargo::say(&format!("book: installing mdbook {VERSION} once"));
    let install = ["install", "--locked", "--debug", "--no-default-features"];
    let package = ["mdbook", "--version", VERSION];
    cargo::run(cargo::cargo(&[&install[..], &package].concat())).map(drop)
}

fn mdbook(arguments: &[&str]) -> Command {
    let mut command = Command::new("mdbook");
    command.args(arguments).current_dir(cargo::root());
    command
}

/// Returns whether a line of mdBook's log is a warning or an error. Its exit status is 0 in both
/// cases.
fn has_warning(log: &str) -> bool {
    let levels = log
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    levels
        .into_iter()
        .any(|level| matches!(level, "WARN" | "ERROR"))
}

#[cfg(test)]
mod tests {
    use super::has_warning;

    #[test]
    fn a_warning_in_the_log_is_found() {
        let log = " INFO Book building has started\n INFO Running the html backend\n";
        assert!(!has_warning(log));
        assert!(has_warning(&format!("{log} WARN unclosed HTML tag\n")));
    }
}
