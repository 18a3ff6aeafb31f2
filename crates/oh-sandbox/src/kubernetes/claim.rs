//! A claim that is deleted with its owner.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, Result,
    docker::leftovers::{SERVER_PORT, WORKSPACE},
    kubernetes::{
        changes::Changes,
        cluster::Cluster,
        failure,
        lease::Lease,
        mode::{self, Mode},
        refused,
        resources::{BoundSandbox, ClaimSpec, Lifecycle, Name, PodMetadata, SandboxClaim},
        settings::{SHORTEST_LEASE, Settings},
        waiting::repeated,
    },
};

/// The annotation with the length of the lease in seconds.
const LEASE: &str = "rs.openhands.lease";
/// Time for attempts to delete a claim. After it, the claim's shutdown time ends it.
const DELETING: Duration = Duration::from_secs(30);

/// A claim in the cluster. Dropping it deletes the claim in the background, unless it is kept.
pub(crate) struct Claim {
    pub(crate) cluster: Cluster,
    pub(crate) api: Api<SandboxClaim>,
    pub(crate) name: String,
    pub(crate) lease: Lease,
    /// The version from which changes are followed.
    version: String,
    runtime: Handle,
    /// The claim as it was when this program has attached to it.
    found: Option<SandboxClaim>,
    /// Whether dropping this keeps the claim.
    pub(crate) keep: bool,
    deleted: bool,
}

impl Claim {
    /// Creates a claim with a new name. Cancel-safe: a claim that the cluster creates after the
    /// future was dropped is deleted.
    pub(crate) async fn create(
        cluster: Cluster,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self> {
        let ahead = cluster.ahead().await;
        let claim = Self {
            api: cluster.claims(),
            cluster,
            name: format!("openhands-{}", uuid::Uuid::new_v4().simple()),
            lease: Lease::new(settings.lease).ahead(ahead),
            version: String::new(),
            runtime: Handle::current(),
            found: None,
            keep: false,
            deleted: false,
        };
        let body = claim.body(settings);
        let (sender, created) = oneshot::channel();
        // A claim that is not received is dropped here, after the cluster has answered.
        tokio::spawn(async move {
            let _unreceived = sender.send(claim.send(body, deadline).await);
        });
        created.await.unwrap_or_else(|_| {
            let message = "the runtime ended while the claim was created";
            Err(Error::new(ErrorKind::Interrupted, message))
        })
    }

    /// Finds a claim that exists, and renews its shutdown time. Takes over what its creator has
    /// noted for this.
    pub(crate) async fn attach(
        cluster: Cluster,
        name: String,
        settings: &mut Settings,
        deadline: Instant,
    ) -> Result<Self> {
        let api = cluster.claims();
        let found = match repeated(deadline, || api.get(&name)).await {
            Ok(found) => found,
            Err(error) if refused::is_missing(&error) => {
                let unsupported = cluster.unsupported().await;
                return Err(unsupported.unwrap_or_else(|| {
                    let namespace = cluster.namespace();
                    let failed = format!("cannot find the claim in namespace {namespace}");
                    refused::error(&failed, error)
                }));
            }
            Err(error) => return Err(refused::error("cannot read the claim", error)),
        };
        let note = |key: &str| found.meta().annotations.as_ref()?.get(key).cloned();
        if let Some(port) = note(SERVER_PORT).and_then(|port| port.parse().ok()) {
            settings.port = port;
        }
        if let Some(workspace) = note(WORKSPACE) {
            settings.workspace = workspace;
        }
        let lease = note(LEASE).and_then(|seconds| seconds.parse().ok());
        let lease = lease.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        settings.lease = lease.unwrap_or(settings.lease).max(SHORTEST_LEASE);
        if let Some(failure) = failure::terminal(&found) {
            return Err(failure::error(&name, failure));
        }
        let lease = Lease::new(settings.lease).ahead(cluster.ahead().await);
        let renewed = repeated(deadline, || lease.renew(&api, &name)).await;
        renewed.map_err(|error| refused::error("cannot renew the shutdown time", error))?;
        Ok(Self {
            api,
            cluster,
            name,
            lease,
            version: found.meta().resource_version.clone().unwrap_or_default(),
            runtime: Handle::current(),
            found: Some(found),
            keep: true,
            deleted: false,
        })
    }

    /// Lets a suspended sandbox of a found claim run again.
    pub(crate) async fn wake(&mut self, deadline: Instant) -> Result<()> {
        let named = self.found.as_ref().map(|claim| &claim.status.sandbox.name);
        let Some(name) = named.filter(|name| !name.is_empty()).cloned() else {
            return Ok(());
        };
        let sandbox = self.cluster.sandboxes().get(&name).await;
        let sandbox = sandbox.map_err(|error| refused::error("cannot read the sandbox", error))?;
        if mode::is_suspended(&sandbox) {
            mode::set(&self.cluster, &name, Mode::Running, deadline).await?;
            // The address of the pod has changed.
            let found = self.api.get(&self.name).await;
            let found = found.map_err(|error| refused::error("cannot read the claim", error))?;
            self.version = found.meta().resource_version.clone().unwrap_or_default();
            self.found = Some(found);
        }
        Ok(())
    }

    fn body(&self, settings: &Settings) -> SandboxClaim {
        let mut annotations = settings.annotations.clone();
        // For programs that attach.
        for (key, value) in [
            (SERVER_PORT, settings.port.to_string()),
            (WORKSPACE, settings.workspace.clone()),
            (LEASE, settings.lease.as_secs_f64().to_string()),
        ] {
            annotations.insert(key.to_owned(), value);
        }
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(settings.labels.clone()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        };
        let spec = ClaimSpec {
            warm_pool_ref: Name {
                name: settings.warm_pool.clone(),
            },
            lifecycle: Some(Lifecycle {
                shutdown_time: Some(self.lease.end()),
                shutdown_policy: Some("Delete".to_owned()),
            }),
            additional_pod_metadata: Some(PodMetadata {
                labels: settings.pod_labels.clone(),
                annotations: settings.pod_annotations.clone(),
            }),
        };
        SandboxClaim::new(metadata, spec)
    }

    async fn send(mut self, body: SandboxClaim, deadline: Instant) -> Result<Self> {
        let params = PostParams::default();
        let begun = Timestamp::now();
        let sent = repeated(deadline, || async {
            match self.api.create(&params, &body).await {
                // The answer to an earlier attempt was lost: names are never used again.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    self.api.get(&self.name).await
                }
                sent => sent,
            }
        });
        let created = match sent.await {
            Ok(created) => created,
            Err(error) if refused::is_missing(&error) => {
                // Nothing to delete. Either the namespace or the resource does not exist.
                self.deleted = true;
                let unsupported = self.cluster.unsupported().await;
                return Err(unsupported.unwrap_or_else(|| {
                    let namespace = self.cluster.namespace();
                    let failed = format!("cannot create a claim in namespace {namespace}");
                    refused::error(&failed, error)
                }));
            }
            Err(error) => {
                // A rejected claim does not exist.
                self.deleted = matches!(&error, kube::Error::Api(status) if status.code < 500);
                return Err(refused::error("cannot create a claim", error));
            }
        };
        let metadata = created.meta();
        self.version = metadata.resource_version.clone().unwrap_or_default();
        let created_at = metadata.creation_timestamp.as_ref();
        if self.lease.correct(begun, created_at) {
            let renew = || self.lease.renew(&self.api, &self.name);
            let renewed = repeated(deadline, renew).await;
            renewed.map_err(|error| refused::error("cannot set the shutdown time", error))?;
        }
        Ok(self)
    }

    /// Returns the changes of the claim since its creation.
    pub(crate) fn changes(&self) -> Changes<SandboxClaim> {
        Changes::since(self.api.clone(), self.name.clone(), self.version.clone())
    }

    /// Waits until the claim has a sandbox that is ready.
    pub(crate) async fn ready(
        &self,
        changes: &mut Changes<SandboxClaim>,
        deadline: Instant,
    ) -> Result<BoundSandbox> {
        let mut newest = None;
        let mut found = self.found.clone();
        let waiting = async {
            loop {
                let next = match found.take() {
                    Some(found) => Ok(Some(found)),
                    None => changes.next().await,
                };
                let next = next.map_err(|error| refused::error("cannot watch the claim", error))?;
                let Some(claim) = next else {
                    return Err(failure::error(&self.name, failure::deleted()));
                };
                if let Some(failure) = failure::terminal(&claim) {
                    return Err(failure::error(&self.name, failure));
                }
                if let Some(sandbox) = claim.ready() {
                    return Ok(sandbox.clone());
                }
                newest = Some(claim);
            }
        };
        match timeout_at(deadline, waiting).await {
            Ok(result) => result,
            Err(_) => Err(self.not_ready(newest).await),
        }
    }

    /// Returns the error of a claim that was not ready by its deadline, with the reason as far as
    /// the cluster shows it.
    async fn not_ready(&self, newest: Option<SandboxClaim>) -> Error {
        let status = newest.map(|claim| claim.status).unwrap_or_default();
        let conditions = status.conditions.iter();
        let mut shown: Vec<_> = conditions
            .filter(|condition| condition.kind == "Ready")
            .map(|condition| format!("{}: {}", condition.reason, condition.message))
            .collect();
        let mut kind = ErrorKind::NotReady;
        if !status.sandbox.name.is_empty()
            && let Some((reason, message)) = self.waiting_container(&status.sandbox.name).await
        {
            if reason.contains("Image") {
                kind = ErrorKind::PullFailed;
            }
            shown.push(format!("{reason}: {message}"));
        }
        let (name, shown) = (&self.name, shown.join("; "));
        let message = format!(
            "the sandbox of claim {name} was not ready in time ({shown}); check the pods of the \
             warm pool, or set a longer `ready_within`"
        );
        Error::new(kind, message)
    }

    /// Returns why the first waiting container of a sandbox does not run.
    async fn waiting_container(&self, sandbox: &str) -> Option<(String, String)> {
        let soon = Instant::now() + Duration::from_secs(5);
        let pod = async {
            let sandbox = self.cluster.sandboxes().get_opt(sandbox).await.ok()??;
            let pods: Api<Pod> = self.cluster.pods();
            pods.get_opt(sandbox.pod()?).await.ok()?
        };
        let status = timeout_at(soon, pod).await.ok()??.status?;
        let waiting = |container: k8s_openapi::api::core::v1::ContainerStatus| {
            let waiting = container.state?.waiting?;
            Some((waiting.reason?, waiting.message.unwrap_or_default()))
        };
        status.container_statuses?.into_iter().find_map(waiting)
    }

    /// Deletes the claim, and with it its sandbox.
    pub(crate) async fn delete(mut self) -> Result<()> {
        let deleted = delete(&self.api, &self.name).await;
        self.deleted = deleted.is_ok();
        deleted.map_err(|error| refused::error("cannot delete the claim", error))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.deleted || self.keep {
            return;
        }
        let (api, name) = (self.api.clone(), self.name.clone());
        // Not executed if the runtime ends: then the shutdown time ends the claim.
        self.runtime.spawn(async move {
            match delete(&api, &name).await {
                Ok(()) => debug!(claim = name, "deleted a claim"),
                Err(error) => {
                    let error = refused::error("cannot delete the claim", error);
                    warn!(%error, claim = name, "the claim ends at its shutdown time");
                }
            }
        });
    }
}

async fn delete(api: &Api<SandboxClaim>, name: &str) -> kube::Result<()> {
    let params = DeleteParams::default();
    let deadline = Instant::now() + DELETING;
    match repeated(deadline, || api.delete(name, &params)).await {
        Err(error) if !refused::is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}
