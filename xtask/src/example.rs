//! Verifies the promise of the testkit: a program's own tests run without Python, in under a
//! second.

use std::time::{Duration, Instant};

use crate::{Result, cargo};

const PACKAGE: &str = "agent-with-tests";
const LIMIT: Duration = Duration::from_secs(1);
/// Number of runs. The fastest one counts, because other programs may load the machine.
const TRIES: usize = 5;

/// Builds the example's tests, then runs them in an empty environment.
pub(crate) fn run() -> Result {
    let program = cargo::test_program("program")?;
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        // Without PATH, HOME and cache, the tests cannot start or find anything.
        let output = std::process::Command::new(&program)
            .env_clear()
            .env("PATH", "/nonexistent")
            .current_dir(cargo::root())
            .output()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        if !output.status.success() {
            return Err(format!(
                "the tests of {PACKAGE} failed without Python: {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            ));
        }
        best = best.min(begun.elapsed());
        if best < LIMIT {
            let time = best.as_millis();
            cargo::say(&format!("{PACKAGE}: tested without Python in {time} ms"));
            return Ok(());
        }
    }
    Err(format!(
        "the tests of {PACKAGE} took {best:?} at best; the limit is {LIMIT:?}"
    ))
}
