//! The browser-based VSCode that a server may provide.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Scope, query, scope::scoped_call};
use crate::Request;

/// `GET …/vscode/url`: returns the URL, or `None` if VSCode is not running. Returns 503 if VSCode
/// is disabled.
///
/// The URL contains an access token and must be kept secret.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct GetUrl {
    scope: Scope,
    base_url: Option<String>,
    workspace_dir: Option<String>,
}

impl GetUrl {
    /// Creates a call for a URL with the server's own address.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the base URL at which the user can reach VSCode.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sets the folder to open.
    pub fn workspace_dir(mut self, path: impl Into<String>) -> Self {
        self.workspace_dir = Some(path.into());
        self
    }
}

scoped_call!(GetUrl => Option<SecretString>, GET "/vscode/url", Idempotent;
|this, base| {
    let mut target = base + "/vscode/url";
    if let Some(url) = &this.base_url {
        query(&mut target, "base_url", url);
    }
    if let Some(path) = &this.workspace_dir {
        query(&mut target, "workspace_dir", path);
    }
    Ok(Request::new(http::Method::GET, target))
};
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        url: Option<SecretString>,
    }
    answer.json::<Wire>("VSCode URL").map(|wire| wire.url)
});

/// `GET …/vscode/status`: returns the status of VSCode.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GetStatus {
    scope: Scope,
}

impl GetStatus {
    /// Creates the call.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The status of VSCode on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VscodeStatus {
    /// Whether VSCode is running.
    #[serde(default)]
    pub running: bool,
    /// Whether VSCode is enabled in the server's configuration.
    #[serde(default)]
    pub enabled: bool,
    /// An additional message from the server.
    #[serde(default)]
    pub message: Option<String>,
}

scoped_call!(GetStatus => VscodeStatus, GET "/vscode/status", Idempotent;
    |_this, base| Ok(Request::new(http::Method::GET, base + "/vscode/status"));
    |answer| answer.json("VSCode status"));
