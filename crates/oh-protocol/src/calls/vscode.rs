//! The VSCode in the browser that a server may run.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Scope, query, scope::scoped_call};
use crate::Request;

/// `GET …/vscode/url`: where it is; none when it does not run. 503 where it is switched off.
///
/// The URL holds a token: whoever has it is let in.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct GetUrl {
    scope: Scope,
    base_url: Option<String>,
    workspace_dir: Option<String>,
}

impl GetUrl {
    /// As the server knows itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// The base URL under which the user reaches it.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The folder to open.
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

/// `GET …/vscode/status`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GetStatus {
    scope: Scope,
}

impl GetStatus {
    /// Asks.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Whether the server has a VSCode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VscodeStatus {
    /// It runs.
    #[serde(default)]
    pub running: bool,
    /// The server's configuration allows it.
    #[serde(default)]
    pub enabled: bool,
    /// What the server adds.
    #[serde(default)]
    pub message: Option<String>,
}

scoped_call!(GetStatus => VscodeStatus, GET "/vscode/status", Idempotent;
    |_this, base| Ok(Request::new(http::Method::GET, base + "/vscode/status"));
    |answer| answer.json("VSCode status"));
