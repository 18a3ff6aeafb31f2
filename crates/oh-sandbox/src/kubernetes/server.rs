//! [`KubernetesServer`], which owns a claim and gives access to the server in its pod.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant as Clock},
};

use oh_process::internal::LogHub;
use tokio::{task::JoinHandle, time::Instant};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, ExitReport, Result, Status,
    docker::supervise::Reporter,
    kubernetes::{
        changes::Changes,
        claim::Claim,
        cluster::Cluster,
        failure::{self, ClaimFailure},
        forward::Forward,
        keys::Keys,
        refused,
        resources::{BoundSandbox, SandboxClaim},
        settings::Settings,
    },
    running::{RunningServer, running_server},
};

/// A running server in a pod of a Kubernetes cluster, owned by this value. The pod was claimed from
/// a warm pool of [agent-sandbox](https://github.com/kubernetes-sigs/agent-sandbox).
///
/// The claim is deleted when [`shutdown`](Self::shutdown) returns, and in the background when this
/// value is dropped. If this process ends in any other way, even by `kill -9`, the cluster deletes
/// the claim at its shutdown time: after at most the
/// [lease](crate::KubernetesServerBuilder::lease), by default 300 s.
///
/// The output of the server stays in the cluster: [`logs`](Self::logs) and
/// [`log_tail`](Self::log_tail) are empty.
///
/// ```no_run
/// # async fn run() -> oh_sandbox::Result<()> {
/// use std::time::Duration;
/// use oh_sandbox::KubernetesServer;
///
/// let init_key = std::env::var("INIT_KEY").unwrap_or_default();
/// let server = KubernetesServer::builder()
///     .warm_pool("agent-server")
///     .init_key(init_key)
///     .env("GITHUB_TOKEN", "…")
///     .start()
///     .await?;
/// println!("{} for claim {}", server.url(), server.id());
/// server.shutdown(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
#[must_use = "the claim is deleted when this is dropped"]
pub struct KubernetesServer {
    /// Not set once the claim was deleted.
    claim: Option<Claim>,
    running: RunningServer,
    sandbox: String,
    open: bool,
    failure: Arc<OnceLock<ClaimFailure>>,
    /// Not set if the pod is reached at its own address.
    _forward: Option<Forward>,
    _renewing: AbortOnDrop,
    watching: AbortOnDrop,
}

running_server!(KubernetesServer, "Returns the name of the claim.", "claim");

impl KubernetesServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        settings.check()?;
        let deadline = Instant::now() + settings.ready_within;
        let cluster = settings.cluster().await?;
        let claim = Claim::create(cluster, &settings, deadline).await?;
        // From here on, dropping the claim deletes it: also if this future is dropped.
        let renewing = AbortOnDrop(tokio::spawn(
            claim.lease.keep(claim.api.clone(), claim.name.clone()),
        ));
        match Self::connect(&claim, &settings, deadline).await {
            Ok(connected) => Ok(Self::supervised(claim, connected, renewing)),
            Err(error) => {
                if let Err(left) = claim.delete().await {
                    warn!(error = %left, "the claim of a failed start ends at its shutdown time");
                }
                Err(error)
            }
        }
    }

    /// Waits for the sandbox of a claim, and connects with the server in it.
    async fn connect(claim: &Claim, settings: &Settings, deadline: Instant) -> Result<Connected> {
        let mut changes = claim.changes();
        let sandbox = claim.ready(&mut changes, deadline).await?;
        debug!(
            claim = claim.name,
            sandbox = sandbox.name,
            "the claim is ready"
        );
        let keys = Keys::new(settings);
        let work = async {
            let (url, forward) = match settings.direct {
                true => (direct(&sandbox, settings.port)?, None),
                false => {
                    let pod = pod_of(&claim.cluster, &sandbox.name).await?;
                    let forward = Forward::start(claim.cluster.pods(), pod, settings.port).await?;
                    (format!("http://{}", forward.address), Some(forward))
                }
            };
            let verified = keys.verify(&url, deadline).await?;
            Ok((forward, verified))
        };
        let (forward, verified) = tokio::select! {
            biased;
            failure = ended(&mut changes) => return Err(failure::error(&claim.name, failure)),
            done = work => done?,
        };
        let running = RunningServer::new(
            claim.name.clone(),
            verified.client,
            keys.session.clone(),
            verified.info,
            LogHub::new(Vec::new()),
            settings.workspace.clone(),
        );
        Ok(Connected {
            changes,
            running,
            sandbox: sandbox.name,
            open: verified.open,
            forward,
        })
    }

    fn supervised(claim: Claim, connected: Connected, renewing: AbortOnDrop) -> Self {
        let failure = Arc::new(OnceLock::new());
        let watching = tokio::spawn(watch(
            connected.changes,
            connected.running.reporter.clone(),
            Arc::clone(&failure),
        ));
        Self {
            claim: Some(claim),
            running: connected.running,
            sandbox: connected.sandbox,
            open: connected.open,
            failure,
            _forward: connected.forward,
            _renewing: renewing,
            watching: AbortOnDrop(watching),
        }
    }

    /// Returns the name of the `Sandbox` that the claim has got.
    pub fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// Returns whether the server accepts requests without a key, because its template sets none.
    /// Everyone who can reach the pod can use it.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Returns why the sandbox has ended, if it has: for example because its pod was evicted.
    pub fn failure(&self) -> Option<&ClaimFailure> {
        self.failure.get()
    }

    /// Shuts the server down: deletes the claim, and with it the sandbox and its pod. The cluster
    /// sends SIGTERM to the server, and kills it after the grace period of the template. `_grace`
    /// is not used.
    ///
    /// Cancel-safe: dropping the future deletes the claim in the background.
    ///
    /// # Errors
    ///
    /// Returns an error if the claim cannot be deleted. It ends at its shutdown time then.
    pub async fn shutdown(mut self, _grace: Duration) -> Result<ExitReport> {
        let begun = Clock::now();
        // The end of the claim is not a failure from here on.
        self.watching.stop().await;
        self.running.reporter.set(Status::Stopping);
        let ended = self.failure.get().is_some();
        if let Some(claim) = self.claim.take() {
            claim.delete().await?;
        }
        let code = (!ended).then_some(128 + 15);
        let mut report = ExitReport::of_container(code, false);
        report.duration = begun.elapsed();
        self.running.reporter.set(Status::Exited(report.clone()));
        Ok(report)
    }
}

impl Drop for KubernetesServer {
    fn drop(&mut self) {
        self.watching.0.abort();
        drop(self.claim.take());
        self.running.removed();
    }
}

/// A claim's server that was verified.
struct Connected {
    changes: Changes<SandboxClaim>,
    running: RunningServer,
    sandbox: String,
    open: bool,
    forward: Option<Forward>,
}

/// A task that ends with this value.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn stop(&mut self) {
        self.0.abort();
        let _aborted = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the name of the pod of a sandbox.
async fn pod_of(cluster: &Cluster, sandbox: &str) -> Result<String> {
    let found = cluster.sandboxes().get(sandbox).await;
    let found = found.map_err(|error| refused::error("cannot read the sandbox", error))?;
    match found.pod() {
        Some(pod) => Ok(pod.to_owned()),
        None => {
            let message = format!("sandbox {sandbox} has no pod");
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

/// Returns the URL of a pod that is reached at its own address.
fn direct(sandbox: &BoundSandbox, port: u16) -> Result<String> {
    let first = sandbox.pod_ips.first().and_then(|ip| ip.parse().ok());
    match first {
        Some(IpAddr::V4(ip)) => Ok(format!("http://{ip}:{port}")),
        Some(IpAddr::V6(ip)) => Ok(format!("http://[{ip}]:{port}")),
        None => {
            let message = "the cluster does not report the address of the pod; do not set `direct`";
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// Waits until the claim has failed or was deleted.
async fn ended(changes: &mut Changes<SandboxClaim>) -> ClaimFailure {
    loop {
        match changes.next().await {
            Ok(Some(claim)) => {
                if let Some(failure) = failure::terminal(&claim) {
                    return failure;
                }
            }
            Ok(None) => return failure::deleted(),
            Err(error) => {
                let error = refused::error("cannot watch the claim", error);
                warn!(%error, "the end of the sandbox will not be noticed");
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn watch(
    mut changes: Changes<SandboxClaim>,
    reporter: Arc<Reporter>,
    failure: Arc<OnceLock<ClaimFailure>>,
) {
    let ended = ended(&mut changes).await;
    warn!(reason = %ended, "the sandbox has ended");
    let _first = failure.set(ended);
    reporter.set(Status::Exited(ExitReport::of_container(None, false)));
}
