//! Watches a sandbox that works: an eviction or a crash ends what waits for its server.

use std::{sync::Arc, time::Duration};

use oh_process::internal::LogHub;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    Status,
    docker::supervise::Reporter,
    hosted::{
        plane::retry_after,
        service::{Ended, Service, State},
    },
};

pub(crate) struct Watcher<S> {
    pub(crate) service: S,
    pub(crate) every: Duration,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) logs: LogHub,
    /// Held while the owner pauses or resumes the sandbox, or while its state is requested.
    pub(crate) changing: Arc<Mutex<()>>,
}

impl<S: Service> Watcher<S> {
    /// Watches until the sandbox has ended, or the returned task is aborted.
    pub(crate) fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let (mut wait, mut warned) = (self.every, false);
            loop {
                sleep(wait).await;
                wait = self.every;
                let _changing = self.changing.lock().await;
                if matches!(*self.status.borrow(), Status::Paused | Status::Stopping) {
                    continue;
                }
                let ended = match self.service.state().await {
                    Ok(State::Paused) => {
                        self.set(Status::Paused);
                        continue;
                    }
                    Ok(State::Ready(_)) => {
                        self.set(Status::Ready);
                        continue;
                    }
                    Ok(State::Waiting(state)) => {
                        debug!(%state, "the sandbox is not ready any more");
                        self.set(Status::Starting);
                        continue;
                    }
                    Ok(State::Ended(ended)) => ended,
                    Ok(State::Missing) => Ended::vanished(&self.service),
                    // The server may work although its control plane does not answer, or rejects
                    // the key.
                    Err(error) => {
                        wait = wait.max(retry_after(&error).unwrap_or_default());
                        match error.is_auth() && !warned {
                            true => warn!(%error, "the sandbox cannot be watched any more"),
                            false => debug!(%error, "cannot get the state of the sandbox"),
                        }
                        warned |= error.is_auth();
                        continue;
                    }
                };
                let (reason, id) = (&ended.why, self.service.id());
                warn!(reason, id, "the sandbox has ended");
                self.reporter.ended(ended.report, reason);
                self.logs.close();
                return;
            }
        })
    }

    /// Sets a status that has changed.
    fn set(&self, status: Status) {
        let changed = *self.status.borrow() != status;
        if changed {
            self.reporter.set(status);
        }
    }
}
