//! [`KubernetesServer`], which owns a claim and gives access to the server in its pod.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant as Clock},
};

use oh_process::internal::LogHub;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, ExitReport, Request, Result, Status,
    docker::supervise::Reporter,
    kubernetes::{
        changes::Changes,
        claim::Claim,
        cluster::Cluster,
        failure::{self, ClaimFailure},
        forward::Forward,
        keys::Keys,
        mode::{self, Mode},
        output, refused,
        resources::{BoundSandbox, SandboxClaim},
        settings::Settings,
    },
    running::{RunningServer, running_server},
};

/// A running server in a pod of a Kubernetes cluster, owned by this value. The pod was claimed from
/// a warm pool of [agent-sandbox](https://github.com/kubernetes-sigs/agent-sandbox).
///
/// The claim is deleted when [`shutdown`](Self::shutdown) returns, and in the background when this
/// value is dropped, unless it is [kept](crate::KubernetesServerBuilder::keep). If this process
/// ends in any other way, even by `kill -9`, the cluster deletes the claim at its shutdown time:
/// after at most the [lease](crate::KubernetesServerBuilder::lease), by default 300 s.
///
/// [`logs`](Self::logs) and [`log_tail`](Self::log_tail) are read from the cluster, if its role
/// permits that (`get` of `pods/log`). The server is expected in the first container of the pod.
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
    forward: Option<Forward>,
    /// The pod of new connections.
    pod: watch::Sender<String>,
    cluster: Cluster,
    keys: Keys,
    ready_within: Duration,
    _renewing: AbortOnDrop,
    watching: AbortOnDrop,
    _output: AbortOnDrop,
}

running_server!(
    KubernetesServer,
    "Returns the name of the claim.",
    "claim",
    fn pause(&self) -> Request<()> {
        self.pause()
    },
    fn resume(&self) -> Request<()> {
        self.resume()
    }
);

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
        let keys = Keys::new(&settings);
        match Self::connect(&claim, &settings, keys, deadline).await {
            Ok(connected) => Ok(Self::supervised(claim, connected, renewing, &settings)),
            Err(error) => {
                if let Err(left) = claim.delete().await {
                    warn!(error = %left, "the claim of a failed start ends at its shutdown time");
                }
                Err(error)
            }
        }
    }

    /// Connects with the server of a claim that exists.
    pub(crate) async fn attach_to(name: String, mut settings: Settings) -> Result<Self> {
        settings.check_connection()?;
        let deadline = Instant::now() + settings.ready_within;
        let cluster = settings.cluster().await?;
        let mut claim = Claim::attach(cluster, name, &mut settings, deadline).await?;
        let renewing = AbortOnDrop(tokio::spawn(
            claim.lease.keep(claim.api.clone(), claim.name.clone()),
        ));
        claim.wake(deadline).await?;
        let keys = Keys::new(&settings).attaching();
        let connected = Self::connect(&claim, &settings, keys, deadline).await?;
        Ok(Self::supervised(claim, connected, renewing, &settings))
    }

    /// Waits for the sandbox of a claim, and connects with the server in it.
    async fn connect(
        claim: &Claim,
        settings: &Settings,
        keys: Keys,
        deadline: Instant,
    ) -> Result<Connected> {
        let mut changes = claim.changes();
        let sandbox = claim.ready(&mut changes, deadline).await?;
        debug!(
            claim = claim.name,
            sandbox = sandbox.name,
            "the claim is ready"
        );
        let logs = LogHub::new(keys.secrets());
        let work = async {
            let named = pod_of(&claim.cluster, &sandbox.name).await;
            let pods = claim.cluster.pods();
            let (url, forward, pod) = match settings.direct {
                // The name is only necessary for the output.
                true => {
                    let pod = watch::Sender::new(named.unwrap_or_default());
                    (direct(&sandbox, settings.port)?, None, pod)
                }
                false => {
                    let pod = watch::Sender::new(named?);
                    let forward =
                        Forward::start(pods.clone(), pod.subscribe(), settings.port).await?;
                    (format!("http://{}", forward.address), Some(forward), pod)
                }
            };
            let ahead = claim.cluster.ahead().await;
            let output = output::follow(pods, pod.subscribe(), logs.clone(), ahead);
            let output = AbortOnDrop(tokio::spawn(output));
            let verified = keys.verify(&url, deadline).await;
            let verified = verified.map_err(|error| error.with_log_tail(logs.tail()))?;
            Ok::<_, Error>((forward, pod, output, verified))
        };
        let (forward, pod, output, verified) = tokio::select! {
            biased;
            failure = ended(&mut changes) => return Err(failure::error(&claim.name, failure)),
            done = work => done?,
        };
        let running = RunningServer::new(
            claim.name.clone(),
            verified.client,
            keys.session.clone(),
            verified.info,
            logs,
            settings.workspace.clone(),
        );
        Ok(Connected {
            changes,
            running,
            sandbox: sandbox.name,
            open: verified.open,
            keys,
            forward,
            pod,
            output,
        })
    }

    fn supervised(
        mut claim: Claim,
        connected: Connected,
        renewing: AbortOnDrop,
        settings: &Settings,
    ) -> Self {
        claim.keep = settings.keep;
        let failure = Arc::new(OnceLock::new());
        let watching = tokio::spawn(watch(
            connected.changes,
            connected.running.reporter.clone(),
            Arc::clone(&failure),
            connected.running.logs.clone(),
            connected.output.0.abort_handle(),
        ));
        Self {
            running: connected.running,
            sandbox: connected.sandbox,
            open: connected.open,
            failure,
            forward: connected.forward,
            pod: connected.pod,
            cluster: claim.cluster.clone(),
            keys: connected.keys,
            ready_within: settings.ready_within,
            claim: Some(claim),
            _renewing: renewing,
            watching: AbortOnDrop(watching),
            _output: connected.output,
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

    /// Suspends the sandbox: the cluster ends its pod, and keeps its volumes. Everything that is
    /// not on a volume is lost, also running commands and the memory of the server. The status is
    /// [`Status::Paused`] until [`resume`](Self::resume), and requests wait. The claim stays.
    ///
    /// Call `Conversations::prepare_pause` before, so that running agents are paused and saved.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the pod is reached [directly](
    /// crate::KubernetesServerBuilder::direct), because a resumed pod has another address. Other
    /// kinds if the cluster does not suspend the sandbox within the time of
    /// [`ready_within`](crate::KubernetesServerBuilder::ready_within).
    pub fn pause(&self) -> Request<()> {
        let (cluster, sandbox) = (self.cluster.clone(), self.sandbox.clone());
        let reporter = Arc::clone(&self.running.reporter);
        let (ready_within, direct) = (self.ready_within, self.forward.is_none());
        Request::new(async move {
            if direct {
                let message = "a server that is reached directly cannot be paused, because a \
                               resumed pod has another address; do not set `direct`";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let deadline = Instant::now() + ready_within;
            reporter.set(Status::Paused);
            let paused = mode::set(&cluster, &sandbox, Mode::Suspended, deadline).await;
            if paused.is_err() {
                reporter.set(Status::Ready);
            }
            paused.map(drop)
        })
    }

    /// Lets a suspended sandbox run again, finds its new pod, and waits until the server is ready
    /// and verified. A dormant server is activated again, with the same key and variables. The URL
    /// and the client stay valid.
    ///
    /// # Errors
    ///
    /// Returns an error if the server is not ready within the time of
    /// [`ready_within`](crate::KubernetesServerBuilder::ready_within), or cannot be verified. The
    /// call can be repeated.
    pub fn resume(&self) -> Request<()> {
        let (cluster, sandbox) = (self.cluster.clone(), self.sandbox.clone());
        let reporter = Arc::clone(&self.running.reporter);
        let (ready_within, keys) = (self.ready_within, self.keys.clone());
        let url = self.url().to_string();
        let named = self.pod.clone();
        Request::new(async move {
            let deadline = Instant::now() + ready_within;
            let running = mode::set(&cluster, &sandbox, Mode::Running, deadline).await?;
            if let Some(pod) = running.pod() {
                named.send_replace(pod.to_owned());
            }
            reporter.set(Status::Starting);
            keys.verify(&url, deadline).await?;
            reporter.set(Status::Ready);
            Ok(())
        })
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
            // Also a claim that is kept otherwise.
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
    keys: Keys,
    forward: Option<Forward>,
    pod: watch::Sender<String>,
    output: AbortOnDrop,
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
    logs: LogHub,
    output: AbortHandle,
) {
    let ended = ended(&mut changes).await;
    warn!(reason = %ended, "the sandbox has ended");
    let reason = ended.to_string();
    let _first = failure.set(ended);
    reporter.ended(ExitReport::of_container(None, false), &reason);
    output.abort();
    logs.close();
}
