//! Measures how long an interactive shell takes to start in the server's home directory.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tracing::warn;

use crate::{start::plan::Plan, supervise::keeper::Spawn};

/// The shell of the server's terminals.
const SHELL: &str = "/bin/bash";
/// Approximate time that the server waits for a terminal's prompt before it assumes the prompt is
/// there.
const SLOW: Duration = Duration::from_millis(500);
/// Time after which a shell is considered stuck.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures the shell while `start` is running. If `start` finishes first, returns the time so far
/// as a lower bound. Returns `None` if the server has its own home, which contains no start-up
/// files, or if the shell could not be run.
pub(crate) async fn measured_during<T>(
    plan: &Plan,
    start: impl Future<Output = T>,
) -> (T, Option<Duration>) {
    let home = plan.settings.variables.home();
    let Some(home) = home.filter(|_| Path::new(SHELL).exists()) else {
        return (start.await, None);
    };
    let begun = Instant::now();
    let mut start = std::pin::pin!(start);
    let mut shell = tokio::spawn(run(shell(plan, &home)));
    let (started, took) = tokio::select! {
        // The shell is not killed: its start-up files may hold a lock at this moment.
        started = &mut start => (Some(started), Some(begun.elapsed())),
        took = &mut shell => (None, took.ok().flatten()),
    };
    if let Some(took) = took.filter(|took| *took >= SLOW) {
        warn!(
            ?took, home = %home.display(),
            "interactive shells start slowly in the server's home directory, so the first command \
             of a terminal may be reported as finished while it still runs; make the shell's \
             start-up files faster, or use a home directory without them"
        );
    }
    let started = match started {
        Some(started) => started,
        None => start.await,
    };
    (started, took)
}

/// Returns a shell that exits at once, without a terminal.
fn shell(plan: &Plan, home: &Path) -> Spawn {
    Spawn {
        python: plan.environment.python().to_owned(),
        command: [SHELL, "-ic", "exit"].map(Into::into).into(),
        environment: plan.public_variables(),
        directory: home.to_owned(),
        remove_if_orphaned: None,
    }
}

/// Starts a shell, and waits until it has exited. It is killed if it takes far too long.
async fn run(shell: Spawn) -> Option<Duration> {
    let mut running = shell.start().await.ok()?;
    let begun = Instant::now();
    timeout(LIMIT, running.end.wait()).await.ok()?;
    Some(begun.elapsed())
}
