//! The part that all kinds of sandboxes have in common: how their server is reached, and what it
//! reports.

use std::sync::Arc;

use oh_process::internal::LogHub;
use oh_protocol::calls::server::ServerInfo;
use oh_transport::Client;
use secrecy::SecretString;
use tokio::sync::watch;
use tracing::debug;

use crate::{ExitReport, Status, docker::supervise::Reporter};

/// A server that is ready and verified.
pub(crate) struct RunningServer {
    /// Name of the sandbox where it runs.
    pub(crate) id: String,
    pub(crate) client: Client,
    pub(crate) key: SecretString,
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) logs: LogHub,
    /// Directory of conversations that do not name one.
    pub(crate) workspace: String,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) status: watch::Receiver<Status>,
}

impl RunningServer {
    pub(crate) fn new(
        id: String,
        client: Client,
        key: SecretString,
        info: Arc<ServerInfo>,
        logs: LogHub,
        workspace: String,
    ) -> Self {
        let (reporter, status) = Reporter::new(client.clone());
        Self {
            id,
            client,
            key,
            info,
            logs,
            workspace,
            reporter,
            status,
        }
    }

    /// Returns a function to call when the server has ended by itself.
    pub(crate) fn on_end(&self) -> impl FnOnce(&ExitReport) + Send + 'static {
        let (reporter, logs) = (self.reporter.clone(), self.logs.clone());
        move |report| {
            debug!(%report, "the server in the sandbox has ended");
            reporter.set(Status::Exited(report.clone()));
            logs.close();
        }
    }

    /// Notifies the watchers that the owner has removed the server.
    pub(crate) fn removed(&self) {
        self.logs.close();
        self.reporter.removed();
    }
}

/// Implements the accessors of a server and [`Sandbox`](crate::Sandbox) for a type with a
/// `running: RunningServer` and a method `shutdown`. The parameters are the documentation of `id`,
/// how `Debug` calls the id, and methods of the trait that have no default.
macro_rules! running_server {
    ($server:ident, $id:literal, $shown:literal $(, $pausing:item)*) => {
        impl $server {
            /// Returns the base URL, such as `http://127.0.0.1:32768`.
            pub fn url(&self) -> &::url::Url {
                self.running.client.base_url()
            }

            /// Returns a client with this server's key.
            pub fn client(&self) -> &::oh_transport::Client {
                &self.running.client
            }

            /// Returns the key that [`client`](Self::client) uses.
            pub fn session_api_key(&self) -> &::secrecy::SecretString {
                &self.running.key
            }

            /// Returns the information that the server sent when it became ready.
            pub fn info(&self) -> &::oh_protocol::calls::server::ServerInfo {
                &self.running.info
            }

            /// Returns the directory in the container of conversations that do not name one.
            pub fn workspace_dir(&self) -> &str {
                &self.running.workspace
            }

            #[doc = $id]
            pub fn id(&self) -> &str {
                &self.running.id
            }

            /// Returns a watch on the server's status.
            pub fn status(&self) -> $crate::StatusWatch {
                ::oh_process::internal::status_watch(self.running.status.clone())
            }

            /// Returns a stream of the lines that the server writes from now on, without its
            /// secrets. The same lines are sent to `tracing`, with target `openhands::server`.
            /// After a restart of a container engine, lines of one second may be repeated.
            pub fn logs(&self) -> $crate::Logs {
                self.running.logs.subscribe()
            }

            /// Returns the last lines that the server wrote, oldest first; at most 200.
            pub fn log_tail(&self) -> Vec<String> {
                self.running.logs.tail()
            }
        }

        impl ::oh_transport::WorkspaceHandle for $server {
            fn client(&self) -> &::oh_transport::Client {
                self.client()
            }

            fn working_dir(&self) -> &str {
                self.workspace_dir()
            }
        }

        impl AsRef<::oh_transport::Client> for $server {
            fn as_ref(&self) -> &::oh_transport::Client {
                self.client()
            }
        }

        impl $crate::Sandbox for $server {
            fn id(&self) -> &str {
                self.id()
            }

            fn info(&self) -> &::oh_protocol::calls::server::ServerInfo {
                self.info()
            }

            fn status(&self) -> $crate::StatusWatch {
                self.status()
            }

            fn logs(&self) -> $crate::Logs {
                self.logs()
            }

            fn log_tail(&self) -> Vec<String> {
                self.log_tail()
            }

            $($pausing)*

            fn shutdown(
                self: Box<Self>,
                grace: ::std::time::Duration,
            ) -> $crate::Request<$crate::ExitReport> {
                $crate::Request::new((*self).shutdown(grace))
            }
        }

        impl ::std::fmt::Debug for $server {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($server))
                    .field("url", &self.url().as_str())
                    .field($shown, &self.id())
                    .field("status", &*self.running.status.borrow())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use running_server;
