//! The life of a hosted sandbox after its start: pause, resume and end.

use std::{sync::Arc, time::Instant};

use oh_transport::Network;
use secrecy::ExposeSecret;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

use crate::{
    Error, ErrorKind, ExitReport, Request, Result, Status,
    docker::supervise::Reporter,
    hosted::{
        lease::Lease,
        ready::sandbox_ready,
        service::{Reached, Service},
        settings::{AtEnd, Times},
        verify::Candidate,
        watch::Watcher,
    },
    running::RunningServer,
};

/// A sandbox that works, is watched, and ends with this value.
pub(crate) struct Owned<S: Service> {
    /// Not set after the shutdown.
    lease: Option<Lease<S>>,
    service: S,
    reached: Reached,
    network: Network,
    times: Times,
    reporter: Arc<Reporter>,
    status: watch::Receiver<Status>,
    watcher: JoinHandle<()>,
    changing: Arc<Mutex<()>>,
}

impl<S: Service> Owned<S> {
    /// Watches a sandbox whose server was verified.
    pub(crate) fn new(
        lease: Lease<S>,
        reached: Reached,
        network: Network,
        times: Times,
        running: &RunningServer,
    ) -> Self {
        let changing = Arc::new(Mutex::new(()));
        let service = lease.service().clone();
        let watcher = Watcher {
            service: service.clone(),
            every: times.watch,
            reporter: running.reporter.clone(),
            status: running.status.clone(),
            logs: running.logs.clone(),
            changing: changing.clone(),
        };
        Self {
            lease: Some(lease),
            service,
            reached,
            network,
            times,
            reporter: running.reporter.clone(),
            status: running.status.clone(),
            watcher: watcher.spawn(),
            changing,
        }
    }

    pub(crate) fn service(&self) -> &S {
        &self.service
    }

    pub(crate) fn pause(&self) -> Request<()> {
        let (service, reporter) = (self.service.clone(), self.reporter.clone());
        let changing = self.changing.clone();
        Request::new(async move {
            let _changing = changing.lock().await;
            service.pause().await?;
            reporter.set(Status::Paused);
            Ok(())
        })
    }

    pub(crate) fn resume(&self) -> Request<()> {
        let (service, reporter) = (self.service.clone(), self.reporter.clone());
        let (network, times) = (self.network.clone(), self.times);
        let (changing, before) = (self.changing.clone(), self.reached.clone());
        Request::new(async move {
            let _changing = changing.lock().await;
            service.resume().await?;
            reporter.set(Status::Starting);
            let begun = Instant::now();
            let now = sandbox_ready(&service, &times).await?;
            let same = now.key.expose_secret() == before.key.expose_secret();
            if !same || now.url != before.url {
                return Err(moved::<S>());
            }
            let candidate = Candidate {
                url: &now.url,
                key: &now.key,
                network: &network,
                request: times.first_message,
            };
            let left = times.ready.saturating_sub(begun.elapsed());
            candidate.verified(left).await?;
            reporter.set(Status::Ready);
            Ok(())
        })
    }

    /// Ends the sandbox as it was chosen.
    pub(crate) async fn shutdown(&mut self) -> Result<ExitReport> {
        let begun = Instant::now();
        let exited = match &*self.status.borrow() {
            Status::Exited(report) => Some(report.clone()),
            _ => None,
        };
        self.reporter.set(Status::Stopping);
        if let Some(lease) = &mut self.lease {
            lease.end().await?;
        }
        self.lease = None;
        let mut report = exited.unwrap_or_else(stopped);
        report.duration = begun.elapsed();
        Ok(report)
    }

    /// Ends the sandbox as it was chosen, and waits until it has ended.
    pub(crate) fn end_now(&mut self) {
        // The order matters: first the sandbox, then the task that would report its end.
        drop(self.lease.take());
        self.watcher.abort();
    }

    /// Changes what happens at the end.
    pub(crate) fn set_at_end(&mut self, at_end: AtEnd) {
        if let Some(lease) = &mut self.lease {
            lease.confirm(at_end);
        }
    }
}

impl<S: Service> Drop for Owned<S> {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// Returns the report of a server that was stopped: 143 is the status after SIGTERM.
pub(crate) fn stopped() -> ExitReport {
    ExitReport::of_container(Some(143), false)
}

fn moved<S: Service>() -> Error {
    let noun = S::NOUN;
    let message = format!(
        "the {noun} has another URL or session key after it was resumed, so this value cannot be \
         used any more; find the {noun} again by its id"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Returns the network for requests to a service and its servers.
pub(crate) fn network(given: Option<&Network>) -> Result<Network> {
    let failed = |error| Error::transport("cannot create the network of the client", error);
    match given {
        Some(network) => Ok(network.clone()),
        None => Network::builder().build().map_err(failed),
    }
}
