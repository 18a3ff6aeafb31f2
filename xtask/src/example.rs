//! Verifies the promise of the testkit: a program's own tests run without Python, in under a
//! second of processor time.

use std::time::Duration;

use crate::{Result, cargo};

const PACKAGE: &str = "agent-with-tests";
/// The processor time does not depend on other programs, unlike the time on the clock.
const LIMIT: Duration = Duration::from_secs(1);

/// Builds the example's tests, then runs them in an empty environment.
pub(crate) fn run() -> Result {
    let program = cargo::test_program("program")?;
    let before = cargo::processor_time_of_children();
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
    let (Some(before), Some(after)) = (before, cargo::processor_time_of_children()) else {
        cargo::say(&format!(
            "{PACKAGE}: tested without Python, time not measured"
        ));
        return Ok(());
    };
    let took = after.saturating_sub(before);
    match took <= LIMIT {
        true => {
            let time = took.as_millis();
            cargo::say(&format!(
                "{PACKAGE}: tested without Python in {time} ms of a processor"
            ));
            Ok(())
        }
        false => Err(format!(
            "the tests of {PACKAGE} took {took:?} of a processor; the limit is {LIMIT:?}"
        )),
    }
}
