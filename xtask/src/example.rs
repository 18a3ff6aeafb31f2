//! Verifies the promise of the testkit: a program's own tests run without Python, in under a
//! second of processor time.

use std::{fs, time::Duration};

use crate::{Result, cargo};

const PACKAGE: &str = "agent-with-tests";
/// The processor time does not depend on other programs, unlike the time on the clock.
const LIMIT: Duration = Duration::from_secs(1);
/// Linux counts processor time for programs in these units.
const TICK: Duration = Duration::from_millis(10);

/// Builds the example's tests, then runs them in an empty environment.
pub(crate) fn run() -> Result {
    let program = cargo::test_program("program")?;
    let before = of_children();
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
    let (Some(before), Some(after)) = (before, of_children()) else {
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

/// Returns the processor time of all ended children of this process. Only Linux reports it.
fn of_children() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut ticks = after_name.split_whitespace().skip(13);
    let (user, system): (u32, u32) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some(TICK * (user + system))
}
