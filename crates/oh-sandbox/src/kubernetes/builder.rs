//! The builder for a server in a pod.

use std::time::Duration;

use secrecy::SecretString;

use crate::{
    Result,
    kubernetes::{cluster::Cluster, server::KubernetesServer, settings::Settings},
};

/// Configures and starts a [`KubernetesServer`].
///
/// # Keys
///
/// A template of dormant servers is recommended: with `OH_DEFERRED_INIT=1` and an `OH_SECRET_KEY`
/// from a `Secret`. Pass that key to [`init_key`](Self::init_key): each pod then gets a separate
/// session key and the variables of [`env`](Self::env) when it is claimed. Neither is stored in the
/// cluster, and warm pods stay usable. `docs/kubernetes.md` has a manifest.
///
/// If the template sets a session key, pass it to [`session_api_key`](Self::session_api_key). If
/// neither is set, the server must be open: [`KubernetesServer::is_open`] is true then, and a
/// warning is logged.
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct KubernetesServerBuilder {
    settings: Settings,
}

impl KubernetesServer {
    /// Creates a builder with default settings.
    pub fn builder() -> KubernetesServerBuilder {
        KubernetesServerBuilder::default()
    }
}

impl KubernetesServerBuilder {
    /// Sets the cluster. Default: [`Cluster::connect`], for each start. Share one cluster between
    /// many servers.
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.settings.cluster = Some(cluster);
        self
    }

    /// Sets the context of the kubeconfig. Default: the current one.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.settings.context = Some(context.into());
        self
    }

    /// Sets the namespace of the claim and of its warm pool. Default: the namespace of the context.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Some(namespace.into());
        self
    }

    /// Sets the name of the `SandboxWarmPool`. Required.
    pub fn warm_pool(mut self, name: impl Into<String>) -> Self {
        self.settings.warm_pool = name.into();
        self
    }

    /// Adds a label to the claim.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.labels.insert(name.into(), value.into());
        self
    }

    /// Adds an annotation to the claim.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.annotations.insert(name.into(), value.into());
        self
    }

    /// Adds a label to the pod.
    pub fn pod_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.pod_labels.insert(name.into(), value.into());
        self
    }

    /// Adds an annotation to the pod.
    pub fn pod_annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let annotations = &mut self.settings.pod_annotations;
        annotations.insert(name.into(), value.into());
        self
    }

    /// Sets the port of the server in the pod. Default 8000.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = port;
        self
    }

    /// Sets whether the pod is reached at its own address, for programs that run in the cluster.
    /// Default false: each connection is forwarded by the API of the cluster, through a port of
    /// this machine's loopback interface.
    ///
    /// The connection with the pod is not encrypted. Its key and data are visible in the network of
    /// the cluster.
    pub fn direct(mut self, yes: bool) -> Self {
        self.settings.direct = yes;
        self
    }

    /// Sets the session key. With [`init_key`](Self::init_key), the claimed server gets this key;
    /// the default is a random one. Without it, the key must be that of the template. At least 16
    /// characters.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.key = Some(key.into());
        self
    }

    /// Sets the key that activates the dormant servers of the warm pool: the `OH_SECRET_KEY` of the
    /// template.
    pub fn init_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.init_key = Some(key.into());
        self
    }

    /// Sets an environment variable of the server and of the agent's shell. The value is sent to
    /// the server by its activation, and is not visible in the cluster. Requires
    /// [`init_key`](Self::init_key).
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.settings.variables.push((name.into(), value.into()));
        self
    }

    /// Sets how long the claim lives if this process ends without deleting it, for example by
    /// `kill -9`. At least 1 s; default 300 s. The shutdown time of the claim is renewed three
    /// times as often.
    ///
    /// After a network failure of this length the cluster removes the sandbox, although this
    /// process lives.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets whether the claim stays when the server is dropped, so that another program can
    /// [attach](KubernetesServer::attach) to it with the session key. Default false.
    ///
    /// A kept claim is not renewed until a program attaches. It ends at its shutdown time, which is
    /// then at least two thirds of the [`lease`](Self::lease) away: set a lease as long as the
    /// pause between the programs. [`KubernetesServer::shutdown`] deletes it. A start that fails,
    /// or is dropped, keeps nothing.
    pub fn keep(mut self, yes: bool) -> Self {
        self.settings.keep = yes;
        self
    }

    /// Sets how long the claim and its server may take to become ready, also in
    /// [`KubernetesServer::resume`]. Default 180 s.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.settings.ready_within = deadline;
        self
    }

    /// Sets the directory in the pod of conversations that do not name one. Default `/workspace`.
    pub fn workspace_dir(mut self, path: impl Into<String>) -> Self {
        self.settings.workspace = path.into();
        self
    }

    /// Claims a sandbox, and waits until its server is ready and verified.
    ///
    /// Cancel-safe: if the future is dropped, the claim is deleted in the background. A claim that
    /// the cluster is creating at that moment is deleted as soon as it exists.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoCluster`](crate::ErrorKind::NoCluster),
    ///   [`ErrorKind::ClusterDenied`](crate::ErrorKind::ClusterDenied),
    ///   [`ErrorKind::Quota`](crate::ErrorKind::Quota) and others if the claim cannot be created.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the cluster does not serve
    ///   version `v1beta1` of agent-sandbox.
    /// - [`ErrorKind::Claim`](crate::ErrorKind::Claim) if the claim has failed:
    ///   [`Error::claim_failure`](crate::Error::claim_failure) has the reason.
    /// - [`ErrorKind::NotReady`](crate::ErrorKind::NotReady), or
    ///   [`ErrorKind::PullFailed`](crate::ErrorKind::PullFailed) if the pod waits for its image.
    /// - [`ErrorKind::Unauthorized`](crate::ErrorKind::Unauthorized) and
    ///   [`ErrorKind::NotAnAgentServer`](crate::ErrorKind::NotAnAgentServer) if the server in the
    ///   pod has another key, or is another program.
    ///
    /// The claim is deleted in each case.
    pub async fn start(self) -> Result<KubernetesServer> {
        Box::pin(KubernetesServer::start(self.settings)).await
    }
}
