//! Information about the server: whether it is alive, its version, and its VSCode.

use std::{future::Future, sync::Arc, time::Duration};

use oh_protocol::calls::{
    server::{Alive, ServerInfo},
    vscode::{GetStatus, GetUrl, VscodeStatus},
};
use oh_transport::WorkspaceHandle;
use secrecy::SecretString;

use crate::{Error, Request, Workspace};

impl Workspace {
    /// Returns whether the server responds within 5 s. Any failure means `false`.
    pub fn alive(&self) -> impl Future<Output = bool> + Send + use<> {
        let asked = self.client().call(Alive::default());
        let asked = asked.timeout(Duration::from_secs(5));
        async move { asked.await.is_ok() }
    }

    /// Returns the server's version, tools and capabilities, as
    /// [`Client::server_info`](oh_transport::Client::server_info) does.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be reached, or is not an agent server.
    pub fn server_info(&self) -> Request<Arc<ServerInfo>> {
        let this = self.clone();
        Request::new(async move {
            let info = this.client().server_info().await;
            info.map_err(|error| Error::endpoint("cannot read the server information", error))
        })
    }

    /// Returns the URL that opens the directory in the server's VSCode, or `None` when VSCode is
    /// not running. `base_url` is the address under which the user reaches VSCode, for when the
    /// server's own address is not reachable. The URL grants access to anyone who has it, so it is
    /// a secret.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if VSCode is disabled on
    /// the server, and another error if the request fails.
    pub fn vscode_url(&self, base_url: Option<&str>) -> Request<Option<SecretString>> {
        let base_url = base_url.map(str::to_owned);
        let this = self.clone();
        Request::new(async move {
            let mut call = GetUrl::new()
                .scope(this.scope())
                .workspace_dir(this.path(".")?);
            if let Some(url) = base_url {
                call = call.base_url(url);
            }
            // With VSCode disabled the server returns 503, which would otherwise be retried.
            let asked = this.client().call(&call).timeout(Duration::from_secs(10));
            let url = asked
                .await
                .map_err(|error| Error::endpoint("cannot read the VSCode URL", error))?;
            Ok(url)
        })
    }

    /// Returns whether the server has a VSCode, and whether it is running.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn vscode_status(&self) -> Request<VscodeStatus> {
        let this = self.clone();
        Request::new(async move {
            let status = this
                .client()
                .call(&GetStatus::new().scope(this.scope()))
                .await;
            status.map_err(|error| Error::endpoint("cannot read the VSCode status", error))
        })
    }
}
