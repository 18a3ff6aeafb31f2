//! How long an interactive shell takes to start in the home that a server is given.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{keeper::Spawn, plan::Plan};

/// What the server's terminals run.
const SHELL: &str = "/bin/bash";
/// The server waits for a terminal's prompt about this long before it believes the terminal.
const SLOW: Duration = Duration::from_millis(500);

/// Measures while `start` is under way; where that is done first, the shell has taken at least
/// that long. `None` where the server has a home of its own: there is nothing to run in it.
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
    let (started, took) = tokio::select! {
        started = &mut start => (Some(started), Some(begun.elapsed())),
        took = run(plan, &home) => (None, took),
    };
    if let Some(took) = took.filter(|took| *took >= SLOW) {
        warn!(
            ?took, home = %home.display(),
            "an interactive shell starts slowly in the server's home: the first command of a \
             terminal may be reported as finished while it still runs. Make the shell's start-up \
             files faster, or give the server a home without them"
        );
    }
    let started = match started {
        Some(started) => started,
        None => start.await,
    };
    (started, took)
}

/// Starts a shell that exits at once, without a terminal, and waits for it.
async fn run(plan: &Plan, home: &Path) -> Option<Duration> {
    let spawn = Spawn {
        python: plan.environment.python().to_owned(),
        command: [SHELL, "-ic", "exit"].map(Into::into).into(),
        environment: plan.public_variables(),
        directory: home.to_owned(),
        doomed: None,
    };
    let mut running = spawn.start().await.ok()?;
    let begun = Instant::now();
    running.end.wait().await;
    Some(begun.elapsed())
}
