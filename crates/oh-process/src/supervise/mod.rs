//! Supervises one server in a task: detects its end, restarts it according to the policy, and stops
//! it on request.

#[cfg(unix)]
pub(crate) mod keeper;
#[cfg(not(unix))]
#[path = "keeper_unsupported.rs"]
pub(crate) mod keeper;
pub(crate) mod logs;
#[cfg(unix)]
pub(crate) mod process;
#[cfg(unix)]
pub(crate) mod reports;
pub(crate) mod shared;
pub(crate) mod status;
#[cfg(unix)]
pub(crate) mod sweep;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use oh_transport::Liveness;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::{
    ExitReport, Result, Status,
    start::{plan::Live, probe},
    supervise::shared::Shared,
};

/// Supervises the server until it has exited permanently. `stop` carries the grace period.
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
        if ready_at.elapsed() >= policy.stable_after {
            attempt = 0;
        }
        let again = loop {
            attempt += 1;
            let Some(delay) = policy.delay(attempt, &exit) else {
                break None;
            };
            warn!(%exit, attempt, ?delay, "the server ended unexpectedly; restarting it");
            status.send_replace(Status::Restarting { attempt });
            shared.notify(Liveness::Restarting);
            let launched = tokio::select! {
                launched = Box::pin(relaunch(&shared, delay)) => launched,
                Ok(_) = &mut stop => {
                    if let Some(keeper) = shared.keeper() {
                        keeper.kill();
                    }
                    break None;
                }
            };
            match launched {
                Ok(live) => break Some(live),
                Err(error) => {
                    warn!(%error, "cannot restart the server");
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
        shared.notify(Liveness::Ready);
    };
    shared.plan.logs.close();
    status.send_replace(Status::Exited(report.clone()));
    shared.notify(Liveness::Gone(report.to_string().into()));
    report
}

/// Starts the server on the address of its predecessor.
async fn relaunch(shared: &Shared, delay: Duration) -> Result<Live> {
    sleep(delay).await;
    let keeper = shared.living_keeper().await?;
    let port = probe::reserve(shared.address)?;
    let plan = &shared.plan;
    let known = Some(&shared.client);
    let launch = plan.launch(&keeper, &port, known, shared.activation.get());
    let (live, ..) = launch.await?;
    Ok(live)
}

async fn end(shared: &Shared, live: &mut Live, grace: Duration) -> ExitReport {
    let begun = Instant::now();
    let keeper = shared.keeper();
    if let Some(keeper) = &keeper {
        keeper.terminate();
    }
    let mut report = match timeout(grace, live.finish()).await {
        Ok(report) => {
            shared.settled().await;
            report
        }
        Err(_) => {
            if let Some(keeper) = &keeper {
                keeper.kill();
            }
            let mut report = live.finish().await;
            report.killed = true;
            report
        }
    };
    report.duration = begun.elapsed();
    report
}
