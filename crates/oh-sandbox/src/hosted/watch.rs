//! Watches a runtime that works: an eviction or a crash ends what waits for its server.

use std::{sync::Arc, time::Duration};

use oh_process::internal::LogHub;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    ExitReport, Status,
    docker::supervise::Reporter,
    hosted::{
        plane::retry_after,
        ready::{Pod, pod},
        runtime_api::RuntimeApi,
    },
};

pub(crate) struct Watcher {
    pub(crate) api: RuntimeApi,
    pub(crate) session_id: String,
    pub(crate) every: Duration,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) logs: LogHub,
    /// Held while the owner pauses or resumes the runtime, or while its state is requested.
    pub(crate) changing: Arc<Mutex<()>>,
}

impl Watcher {
    /// Watches until the runtime has ended, or the returned task is aborted.
    pub(crate) fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut wait = self.every;
            loop {
                sleep(wait).await;
                wait = self.every;
                let _changing = self.changing.lock().await;
                if matches!(*self.status.borrow(), Status::Paused | Status::Stopping) {
                    continue;
                }
                let (report, reason) = match self.api.session(&self.session_id).await {
                    Ok(Some(runtime)) if runtime.status == "paused" => {
                        self.set(Status::Paused);
                        continue;
                    }
                    Ok(Some(runtime)) => match pod(&runtime) {
                        Pod::Ready => {
                            self.set(Status::Ready);
                            continue;
                        }
                        Pod::Waiting(state) => {
                            debug!(%state, "the runtime is not ready any more");
                            self.set(Status::Starting);
                            continue;
                        }
                        Pod::Ended(report, why) => (report, why),
                    },
                    Ok(None) => {
                        let why = "the runtime has vanished: the Runtime API does not have its \
                                   session any more";
                        (ExitReport::of_container(None, false), why.to_owned())
                    }
                    // The server may work although its control plane does not answer.
                    Err(error) => {
                        wait = wait.max(retry_after(&error).unwrap_or_default());
                        debug!(%error, "cannot get the state of the runtime");
                        continue;
                    }
                };
                warn!(
                    reason,
                    session_id = self.session_id,
                    "the runtime has ended"
                );
                self.reporter.ended(report, &reason);
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
