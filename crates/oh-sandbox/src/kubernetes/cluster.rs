//! The connection with a cluster.

use std::{fmt, path::Path};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    Error, ErrorKind, Result,
    kubernetes::{
        refused,
        resources::{EXTENSIONS, Sandbox, SandboxClaim, VERSION},
    },
};

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
