//! Attaches to a claim that exists.

use std::{future::IntoFuture, pin::Pin, time::Duration};

use secrecy::SecretString;

use crate::{
    Result,
    kubernetes::{cluster::Cluster, server::KubernetesServer, settings::Settings},
};

impl KubernetesServer {
    /// Attaches to the sandbox of a claim that exists, for example of one that was created with
    /// [`keep`](crate::KubernetesServerBuilder::keep); await the result. `claim` is the name of the
    /// claim, and `key` the session key of its server. A suspended sandbox runs again.
    ///
    /// The shutdown time of the claim is renewed from now on. Dropping the server does not delete
    /// the claim, and [`shutdown`](Self::shutdown) does.
    ///
    /// ```no_run
    /// # async fn run(claim: String, key: String) -> oh_sandbox::Result<()> {
    /// use oh_sandbox::KubernetesServer;
    ///
    /// let server = KubernetesServer::attach(claim, key).namespace("agents").await?;
    /// # Ok(()) }
    /// ```
    pub fn attach(claim: impl Into<String>, key: impl Into<SecretString>) -> AttachClaim {
        AttachClaim {
            claim: claim.into(),
            settings: Settings {
                key: Some(key.into()),
                keep: true,
                ..Settings::default()
            },
        }
    }
}

/// A pending attachment to a claim. Await it to attach.
///
/// # Errors
///
/// - [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the claim does not exist.
/// - [`ErrorKind::Claim`](crate::ErrorKind::Claim) if the claim has failed or expired.
/// - [`ErrorKind::Unauthorized`](crate::ErrorKind::Unauthorized) if the server has another key.
/// - Other errors of [`KubernetesServerBuilder::start`](crate::KubernetesServerBuilder::start). The
///   claim is not deleted.
#[derive(Debug)]
#[must_use = "nothing is attached until this is awaited"]
pub struct AttachClaim {
    claim: String,
    settings: Settings,
}

impl AttachClaim {
    /// Sets the cluster. Default: [`Cluster::connect`].
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.settings.cluster = Some(cluster);
        self
    }

    /// Sets the context of the kubeconfig. Default: the current one.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.settings.context = Some(context.into());
        self
    }

    /// Sets the namespace of the claim. Default: the namespace of the context.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Some(namespace.into());
        self
    }

    /// Sets the init key of the template, which is necessary if the sandbox is or will be
    /// suspended: the server of a resumed sandbox is dormant. An active server ignores it.
    pub fn init_key(mut self, key: impl Into<SecretString>) -> Self {
        self.settings.init_key = Some(key.into());
        self
    }

    /// Sets whether the pod is reached at its own address: see
    /// [`KubernetesServerBuilder::direct`](crate::KubernetesServerBuilder::direct). Default false.
    pub fn direct(mut self, yes: bool) -> Self {
        self.settings.direct = yes;
        self
    }

    /// Sets how long the server may take to become ready. Default 180 s.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.settings.ready_within = deadline;
        self
    }

    async fn run(self) -> Result<KubernetesServer> {
        KubernetesServer::attach_to(self.claim, self.settings).await
    }
}

impl IntoFuture for AttachClaim {
    type Output = Result<KubernetesServer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
