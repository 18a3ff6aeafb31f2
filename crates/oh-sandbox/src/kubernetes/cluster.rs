//! The connection with a cluster.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{sync::OnceCell, time::timeout};
use tracing::debug;

use crate::{
    Error, ErrorKind, Result,
    kubernetes::{
        lease, refused,
        resources::{EXTENSIONS, Sandbox, SandboxClaim, VERSION},
    },
};

/// How long the cluster may take to answer the question for its time.
const SOON: Duration = Duration::from_secs(5);

/// A connection with a Kubernetes cluster. Clones share their connections.
///
/// ```no_run
/// # async fn run() -> oh_sandbox::Result<()> {
/// use oh_sandbox::{Cluster, KubernetesServer};
///
/// let cluster = Cluster::connect().await?;
/// let builder = KubernetesServer::builder().cluster(cluster).warm_pool("agents");
/// let (one, two) = (builder.clone().start().await?, builder.start().await?);
/// # drop((one, two));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    namespace: String,
    address: String,
    /// The cluster's time minus this machine's, once it was read.
    ahead: Arc<OnceCell<SignedDuration>>,
}

impl Cluster {
    /// Connects with the current context of the kubeconfig (`KUBECONFIG`, or `~/.kube/config`), or
    /// with the cluster of the pod in which this process runs. Sends no request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoCluster`] if neither exists, or the kubeconfig is invalid.
    pub async fn connect() -> Result<Self> {
        let config = Config::infer().await;
        Self::new(config.map_err(|error| no_config("cannot find a cluster", error))?)
    }

    /// Connects with a context of the kubeconfig. Sends no request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoCluster`] if the kubeconfig is missing or invalid, or has no such context.
    pub async fn with_context(context: impl Into<String>) -> Result<Self> {
        let context = context.into();
        let failed = format!("cannot use context {context:?} of the kubeconfig");
        let options = KubeConfigOptions {
            context: Some(context),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_kubeconfig(&options).await;
        Self::new(config.map_err(|error| no_config(&failed, error))?)
    }

    /// Connects with the current context of the kubeconfig in this file. Sends no request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoCluster`] if the file is missing or invalid.
    pub async fn from_kubeconfig(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = format!("cannot use kubeconfig {}", path.display());
        let file = Kubeconfig::read_from(path).map_err(|error| no_config(&failed, error))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        Self::new(config.map_err(|error| no_config(&failed, error))?)
    }

    fn new(config: Config) -> Result<Self> {
        let namespace = config.default_namespace.clone();
        let address = config.cluster_url.to_string();
        let client = Client::try_from(config)
            .map_err(|error| no_config("cannot create a client for the cluster", error))?;
        Ok(Self {
            client,
            namespace,
            address,
            ahead: Arc::default(),
        })
    }

    /// Returns the namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Uses another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    pub(crate) fn claims(&self) -> Api<SandboxClaim> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the cluster's time minus this machine's: zero if the cluster does not report it.
    /// Read once, because clones of this value start many servers.
    pub(crate) async fn ahead(&self) -> SignedDuration {
        let reading = || async { self.difference().await.ok_or(()) };
        let ahead = self.ahead.get_or_try_init(reading).await;
        ahead.copied().unwrap_or_default()
    }

    async fn difference(&self) -> Option<SignedDuration> {
        let request = http::Request::get("/version").body(Body::empty()).ok()?;
        let sent = Timestamp::now();
        let response = timeout(SOON, self.client.send(request)).await.ok()?.ok()?;
        let received = Timestamp::now();
        let date = response.headers().get(http::header::DATE)?;
        let date = rfc2822::DateTimeParser::new().parse_timestamp(date.as_bytes());
        // The end of the second that the cluster names: a lease must not be too short.
        let date = date.ok()?.saturating_add(SignedDuration::from_secs(1));
        let ahead = lease::difference(sent, date.ok()?, received);
        debug!(%ahead, "the time of the cluster");
        Some(ahead)
    }

    /// Returns the error of a resource that the cluster does not serve, or `None` if the cluster
    /// serves the version that this crate needs.
    pub(crate) async fn unsupported(&self) -> Option<Error> {
        let groups = match self.client.list_api_groups().await {
            Ok(groups) => groups.groups,
            Err(error) => return Some(refused::error("cannot read the groups", error)),
        };
        let found = groups.into_iter().find(|group| group.name == EXTENSIONS);
        let versions: Vec<_> = match found {
            None => {
                let message = format!(
                    "the cluster does not serve {EXTENSIONS}; ask its owner to install \
                     agent-sandbox with its extensions"
                );
                return Some(Error::new(ErrorKind::Unsupported, message));
            }
            Some(group) => group.versions.into_iter().map(|it| it.version).collect(),
        };
        if versions.iter().any(|version| version == VERSION) {
            return None;
        }
        let served = versions.join(", ");
        let message = format!(
            "the cluster serves {EXTENSIONS} in version {served}, and this library needs \
             {VERSION}; ask its owner to upgrade agent-sandbox"
        );
        Some(Error::new(ErrorKind::Unsupported, message))
    }
}

fn no_config(failed: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("{failed}; check the kubeconfig and `KUBECONFIG`");
    Error::new(ErrorKind::NoCluster, message).with_source(error)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
