//! The task that watches one server: notices its end, starts it again where that is wanted, and
//! ends it when told to.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::{ExitReport, Result, Status, plan::Live, probe, server::Shared};

/// Watches until the server has exited for good. `stop` carries the grace.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut live: Live,
    status: watch::Sender<Status>,
    mut stop: oneshot::Receiver<Duration>,
) -> ExitReport {
    let policy = &shared.plan.settings.restart;
    let mut attempt = 0;
    let report = loop {
        let ready_at = Instant::now();
        let mut exit = tokio::select! {
            exit = live.finish() => exit,
            Ok(grace) = &mut stop => {
                status.send_replace(Status::Stopping);
                break end(&shared, &mut live, grace).await;
            }
        };
        if ready_at.elapsed() >= policy.well_after {
            attempt = 0;
        }
        let again = loop {
            attempt += 1;
            let Some(delay) = policy.delay(attempt) else {
                break None;
            };
            warn!(%exit, attempt, ?delay, "the server ended by itself; starting it again");
            status.send_replace(Status::Restarting { attempt });
            let launched = tokio::select! {
                launched = Box::pin(relaunch(&shared, delay)) => launched,
                Ok(_) = &mut stop => break None,
            };
            match launched {
                Ok(live) => break Some(live),
                Err(error) => {
                    warn!(%error, "the server could not be started again");
                    if let Some(report) = error.exit() {
                        exit = report.clone();
                    }
                }
            }
        };
        let Some(again) = again else { break exit };
        live = again;
        shared.pid.store(live.pid, Ordering::Release);
        status.send_replace(Status::Ready);
    };
    shared.plan.logs.close();
    status.send_replace(Status::Exited(report.clone()));
    report
}

/// Starts the server where its predecessor listened.
async fn relaunch(shared: &Shared, delay: Duration) -> Result<Live> {
    sleep(delay).await;
    let port = probe::reserve(shared.address)?;
    let live = shared.plan.launch(&port, &shared.slot).await?;
    if let Some((client, activation)) = shared.activation.get() {
        probe::activate(client, &shared.plan.secret_key, activation).await?;
    }
    Ok(live)
}

async fn end(shared: &Shared, live: &mut Live, grace: Duration) -> ExitReport {
    let begun = Instant::now();
    let keeper = shared.slot.keeper();
    if let Some(keeper) = &keeper {
        keeper.terminate();
    }
    let mut report = match timeout(grace, live.finish()).await {
        Ok(report) => report,
        Err(_) => {
            if let Some(keeper) = &keeper {
                keeper.kill();
            }
            let mut report = live.finish().await;
            report.killed = true;
            report
        }
    };
    report.took = begun.elapsed();
    report
}
