//! The server around the workspace: whether it lives, what it is, its VSCode.

use std::{sync::Arc, time::Duration};

use oh_protocol::calls::{
    server::{Alive, ServerInfo},
    vscode::{GetStatus, GetUrl, VscodeStatus},
};
use oh_transport::WorkspaceHandle;
use secrecy::SecretString;

use crate::{Error, Result, Workspace};

impl Workspace {
    /// Whether the server answers within 5 s. Nothing is an error: no answer is a no.
    pub async fn alive(&self) -> bool {
        let alive = Alive::default();
        let asked = self.client().call(&alive).timeout(Duration::from_secs(5));
        asked.await.is_ok()
    }

    /// Returns the server's version, tools and capabilities, as
    /// [`Client::server_info`](oh_transport::Client::server_info) does.
    ///
    /// # Errors
    ///
    /// When it cannot be asked, or is no agent server.
    pub async fn server_info(&self) -> Result<Arc<ServerInfo>> {
        let info = self.client().server_info().await;
        info.map_err(|error| Error::transport("the server could not be asked what it is", error))
    }

    /// Where the directory is open in the server's VSCode; none where it does not run.
    /// `base_url` is the address under which the user reaches it, where the server's own name for
    /// itself does not do. Whoever has the URL is let in, so it is a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where it is switched off, or when
    /// the server cannot be asked.
    pub async fn vscode_url(&self, base_url: Option<&str>) -> Result<Option<SecretString>> {
        let mut call = GetUrl::new()
            .scope(self.scope())
            .workspace_dir(self.path(".")?);
        if let Some(url) = base_url {
            call = call.base_url(url);
        }
        // A server that has it switched off says 503, which looks like one that recovers.
        let asked = self.client().call(&call).timeout(Duration::from_secs(10));
        let url = asked
            .await
            .map_err(|error| Error::transport("there is no VSCode URL", error))?;
        Ok(url)
    }

    /// Whether the server has a VSCode, and whether it runs.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn vscode_status(&self) -> Result<VscodeStatus> {
        let status = self
            .client()
            .call(&GetStatus::new().scope(self.scope()))
            .await;
        status.map_err(|error| Error::transport("the VSCode could not be asked after", error))
    }
}
