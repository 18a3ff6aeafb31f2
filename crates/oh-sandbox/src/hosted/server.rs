//! [`HostedServer`], which owns a server in a runtime of the Runtime API.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use oh_process::internal::LogHub;
use oh_transport::Network;
use tokio::{sync::Mutex, task::JoinHandle};
use uuid::Uuid;

use crate::{
    Error, ExitReport, Request, Result, Status,
    hosted::{
        lease::Lease,
        ready::pod_ready,
        runtime_api::{Runtime, RuntimeApi},
        settings::{AtEnd, Settings, Times},
        verify::Candidate,
        watch::Watcher,
    },
    running::{RunningServer, running_server},
};

/// A running server in a runtime of the hosted Runtime API, owned by this value. The runtime is
/// stopped when this value is dropped, and when [`shutdown`](Self::shutdown) returns, unless
/// [`at_end`](crate::HostedServerBuilder::at_end) says otherwise.
///
/// Dropping waits until the runtime is stopped, for at most 10 s. Prefer `shutdown`, which reports
/// a failure. If this process is killed, the runtime stays until the service ends it: find it again
/// with its [`session_id`](crate::HostedServerBuilder::session_id).
///
/// The state of the runtime is requested every 10 s. If the runtime crashes, is evicted or
/// stopped, the status becomes [`Status::Exited`], and runs that wait for the server end with the
/// reason. The Runtime API has no stream of logs, so [`logs`](Self::logs) yields nothing.
///
/// ```no_run
/// # async fn run(key: oh_sandbox::secrecy::SecretString) -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::HostedServer;
///
/// let server = HostedServer::builder("https://runtime.example.com", key)
///     .resource_factor(2)
///     .start()
///     .await?;
/// println!("{} in session {}", server.url(), server.session_id());
/// server.shutdown(Duration::ZERO).await?;
/// # Ok(()) }
/// ```
#[must_use = "the runtime is stopped when this is dropped"]
pub struct HostedServer {
    /// Not set after the shutdown.
    lease: Option<Lease>,
    api: RuntimeApi,
    session_id: String,
    network: Network,
    times: Times,
    running: RunningServer,
    watcher: JoinHandle<()>,
    changing: Arc<Mutex<()>>,
}

running_server!(
    HostedServer,
    "Returns the id of the runtime.",
    "runtime",
    fn pause(&self) -> Request<()> {
        self.pause()
    },
    fn resume(&self) -> Request<()> {
        self.resume()
    }
);

impl HostedServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        settings.check()?;
        let network = match &settings.network {
            Some(network) => network.clone(),
            None => Network::builder().build().map_err(no_network)?,
        };
        let api = RuntimeApi::new(&settings, &network)?;
        let given = settings.session_id.clone();
        let known = given.is_some();
        let session_id = given.unwrap_or_else(|| format!("agent-server-{}", Uuid::new_v4()));
        let body = settings.start_body(&session_id);
        let (owned, id) = (api.clone(), session_id.clone());
        let mut lease = Lease::acquire(owned, id, known, body, settings.at_end).await?;
        match Self::verified(&settings, &network, &api, &session_id).await {
            Ok(running) => {
                lease.confirm(settings.at_end);
                Ok(Self::watched(
                    lease, api, session_id, network, &settings, running,
                ))
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// Waits until the runtime is ready, and verifies its server.
    async fn verified(
        settings: &Settings,
        network: &Network,
        api: &RuntimeApi,
        session_id: &str,
    ) -> Result<RunningServer> {
        let (begun, times) = (Instant::now(), &settings.times);
        let runtime = pod_ready(api, session_id, times.ready, times).await?;
        let Runtime { id, url, key, .. } = runtime;
        let candidate = Candidate {
            url: &url,
            key: &key,
            network,
            request: times.first_message,
        };
        let left = times.ready.saturating_sub(begun.elapsed());
        let (client, info) = candidate.verified(left).await?;
        let logs = LogHub::new(vec![key.clone()]);
        let workspace = settings.workspace.clone();
        Ok(RunningServer::new(id, client, key, info, logs, workspace))
    }

    fn watched(
        lease: Lease,
        api: RuntimeApi,
        session_id: String,
        network: Network,
        settings: &Settings,
        running: RunningServer,
    ) -> Self {
        let changing = Arc::new(Mutex::new(()));
        let watcher = Watcher {
            api: api.clone(),
            session_id: session_id.clone(),
            every: settings.times.watch,
            reporter: running.reporter.clone(),
            status: running.status.clone(),
            logs: running.logs.clone(),
            changing: changing.clone(),
        };
        Self {
            lease: Some(lease),
            api,
            session_id,
            network,
            times: settings.times,
            running,
            watcher: watcher.spawn(),
            changing,
        }
    }

    /// Returns the session id, with which the runtime is found again.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Pauses the runtime: its processes end, and its disk is kept. The status is
    /// [`Status::Paused`] until [`resume`](Self::resume). A run that waits for the server continues
    /// to wait.
    ///
    /// The server first saves and releases its conversations if you call
    /// `Conversations::of(&client).prepare_pause()` before.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API rejects the request.
    pub fn pause(&self) -> Request<()> {
        let (api, id) = (self.api.clone(), self.running.id.clone());
        let (reporter, changing) = (self.running.reporter.clone(), self.changing.clone());
        Request::new(async move {
            let _changing = changing.lock().await;
            api.pause(&id).await?;
            reporter.set(Status::Paused);
            Ok(())
        })
    }

    /// Resumes a paused runtime, and waits until the server is ready and verified again.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API rejects the request, or if the server is not ready
    /// within the time of [`ready_within`](crate::HostedServerBuilder::ready_within). No new
    /// runtime is started instead.
    pub fn resume(&self) -> Request<()> {
        let (api, id) = (self.api.clone(), self.running.id.clone());
        let (session_id, times) = (self.session_id.clone(), self.times);
        let (url, key) = (self.url().clone(), self.running.key.clone());
        let (network, reporter) = (self.network.clone(), self.running.reporter.clone());
        let changing = self.changing.clone();
        Request::new(async move {
            let _changing = changing.lock().await;
            api.resume(&id).await?;
            reporter.set(Status::Starting);
            let begun = Instant::now();
            pod_ready(&api, &session_id, times.ready, &times).await?;
            let candidate = Candidate {
                url: url.as_str(),
                key: &key,
                network: &network,
                request: times.first_message,
            };
            let left = times.ready.saturating_sub(begun.elapsed());
            candidate.verified(left).await?;
            reporter.set(Status::Ready);
            Ok(())
        })
    }

    /// Stops the runtime, or does what [`at_end`](crate::HostedServerBuilder::at_end) says. The
    /// Runtime API has no grace period, so `_grace` has no effect, and reports no exit status: the
    /// report is that of a server that was stopped by SIGTERM.
    ///
    /// Failures that may pass are tried again for at most 10 s.
    ///
    /// Cancel-safe: dropping the future stops the runtime at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API does not stop the runtime.
    pub async fn shutdown(mut self, _grace: Duration) -> Result<ExitReport> {
        let begun = Instant::now();
        let exited = match &*self.running.status.borrow() {
            Status::Exited(report) => Some(report.clone()),
            _ => None,
        };
        self.running.reporter.set(Status::Stopping);
        if let Some(lease) = &mut self.lease {
            lease.end().await?;
        }
        self.lease = None;
        // 143: ended by SIGTERM.
        let stopped = || ExitReport::of_container(Some(143), false);
        let mut report = exited.unwrap_or_else(stopped);
        report.duration = begun.elapsed();
        Ok(report)
    }

    /// Stops the runtime, even if it was to be paused or kept.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub async fn remove(mut self) -> Result<ExitReport> {
        if let Some(lease) = &mut self.lease {
            lease.confirm(AtEnd::Remove);
        }
        self.shutdown(Duration::ZERO).await
    }
}

impl Drop for HostedServer {
    fn drop(&mut self) {
        // The order matters: first the runtime, then the task that would report its end.
        drop(self.lease.take());
        self.watcher.abort();
        self.running.removed();
    }
}

fn no_network(error: oh_transport::Error) -> Error {
    Error::transport("cannot create the network of the client", error)
}
