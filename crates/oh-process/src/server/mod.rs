//! A running local server: a guard that ends it, and an endpoint to reach it.

mod builder;
mod environment;
mod exit;
mod guard;
mod logs;
mod start;
mod sweep;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use oh_protocol::calls::server::ServerInfo;
use oh_transport::Client;
use secrecy::SecretString;
use url::Url;

pub use builder::LocalServerBuilder;
pub use exit::ExitReport;
pub use logs::LogLine;

use crate::Result;
use guard::Guard;

/// A server this process started. Dropping it kills the server and all it started.
///
/// [`shutdown`](Self::shutdown) lets the server pause its conversations first.
pub struct LocalServer {
    guard: Guard,
    client: Client,
    info: Arc<ServerInfo>,
    session_api_key: SecretString,
    port: u16,
    state_dir: PathBuf,
    workspace_dir: PathBuf,
}

impl LocalServer {
    /// Begins a server with defaults for everything: the pinned version, a free port on
    /// 127.0.0.1, a temporary state directory, a fresh session key.
    pub fn builder() -> LocalServerBuilder {
        LocalServerBuilder::new()
    }

    /// Where it is reached.
    pub fn url(&self) -> &Url {
        self.client.base_url()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A client that is authenticated.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it said of itself when it became ready.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The key that opens it.
    pub fn session_api_key(&self) -> &SecretString {
        &self.session_api_key
    }

    /// The server's process id, which is also that of its process group.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Where it keeps conversations, settings and its secret key.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// A directory of its own for work, within the state directory unless one was given.
    pub fn workspace_dir(&self) -> &Path {
        &self.workspace_dir
    }

    /// The last lines it logged, oldest first.
    pub fn log_tail(&self) -> Vec<String> {
        self.guard.logs().tail()
    }

    /// Lines as they are logged from now on. A reader that falls behind misses lines, and is
    /// told so in their place.
    pub fn logs(&self) -> impl futures_core::Stream<Item = LogLine> + Send + use<> {
        self.guard.logs().stream()
    }

    /// Asks the server to stop (SIGTERM to its group), waits up to `grace`, then kills what is
    /// left, and says how it ended.
    ///
    /// The server pauses its conversations first; one with a running tool holds it up until the
    /// tool ends. Dropping the future kills the server at once.
    ///
    /// # Errors
    ///
    /// When the server's end cannot be waited for.
    pub async fn shutdown(self, grace: Duration) -> Result<ExitReport> {
        self.guard.shutdown(grace).await
    }
}

impl AsRef<Client> for LocalServer {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalServer")
            .field("url", &self.url().as_str())
            .field("pid", &self.pid())
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}
