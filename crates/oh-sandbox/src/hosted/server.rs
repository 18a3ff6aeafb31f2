//! [`HostedServer`], which owns a server in a runtime of the Runtime API.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    ErrorKind, ExitReport, Request, Result,
    hosted::{
        lease::Lease,
        owned::{self, Owned},
        ready::verified,
        runtime_api::RuntimeApi,
        service::{Service, State},
        session::{Session, state},
        settings::{AtEnd, Settings},
    },
    running::{RunningServer, running_server},
};

/// A running server in a runtime of the hosted Runtime API, owned by this value. The runtime is
/// stopped when this value is dropped, and when [`shutdown`](Self::shutdown) returns, unless
/// [`at_end`](crate::HostedServerBuilder::at_end) says otherwise.
///
/// Dropping waits until the runtime is stopped, for at most 10 s. Prefer `shutdown`, which reports
/// a failure. If this process is killed, the runtime stays until the service ends it: find it again
/// with its [`session_id`](crate::HostedServerBuilder::session_id).
///
/// The state of the runtime is requested every 10 s. If the runtime crashes, is evicted or
/// stopped, the status becomes [`Exited`](crate::Status::Exited), and runs that wait for the server
/// end with the reason. The Runtime API has no stream of logs, so [`logs`](Self::logs) yields
/// nothing.
///
/// ```no_run
/// # async fn run(key: oh_sandbox::secrecy::SecretString) -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::HostedServer;
///
/// let server = HostedServer::builder("https://runtime.example.com", key)
///     .resource_factor(2)
///     .start()
///     .await?;
/// println!("{} in session {}", server.url(), server.session_id());
/// server.shutdown(Duration::ZERO).await?;
/// # Ok(()) }
/// ```
#[must_use = "the runtime is stopped when this is dropped"]
pub struct HostedServer {
    owned: Owned<Session>,
    running: RunningServer,
}

running_server!(
    HostedServer,
    "Returns the id of the runtime.",
    "runtime",
    fn pause(&self) -> Request<()> {
        self.pause()
    },
    fn resume(&self) -> Request<()> {
        self.resume()
    }
);

impl HostedServer {
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        settings.check()?;
        let network = owned::network(settings.network.as_ref())?;
        let api = RuntimeApi::new(&settings, &network)?;
        let given = settings.session_id.clone();
        let known = given.is_some();
        let id = given.unwrap_or_else(|| format!("agent-server-{}", Uuid::new_v4()));
        let session = Session::new(api, id);
        let starting = acquire(session, known, settings.clone());
        let mut lease = Lease::acquire(starting).await?;
        let (times, workspace) = (settings.times, settings.workspace.clone());
        match verified(lease.service(), &network, &times, workspace).await {
            Ok((running, reached)) => {
                lease.confirm(settings.at_end);
                let owned = Owned::new(lease, reached, network, times, &running);
                Ok(Self { owned, running })
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// Returns the session id, with which the runtime is found again.
    pub fn session_id(&self) -> &str {
        self.owned.service().id()
    }

    /// Pauses the runtime: its processes end, and its disk is kept. The status is
    /// [`Paused`](crate::Status::Paused) until [`resume`](Self::resume). A run that waits for the
    /// server continues to wait.
    ///
    /// The server first saves and releases its conversations if you call
    /// `Conversations::of(&client).prepare_pause()` before.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API rejects the request.
    pub fn pause(&self) -> Request<()> {
        self.owned.pause()
    }

    /// Resumes a paused runtime, and waits until the server is ready and verified again.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API rejects the request, or if the server is not ready
    /// within the time of [`ready_within`](crate::HostedServerBuilder::ready_within). No new
    /// runtime is started instead.
    pub fn resume(&self) -> Request<()> {
        self.owned.resume()
    }

    /// Stops the runtime, or does what [`at_end`](crate::HostedServerBuilder::at_end) says. The
    /// Runtime API has no grace period, so `_grace` has no effect, and reports no exit status: the
    /// report is that of a server that was stopped by SIGTERM.
    ///
    /// Failures that may pass are tried again for at most 10 s.
    ///
    /// Cancel-safe: dropping the future stops the runtime at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the Runtime API does not stop the runtime.
    pub async fn shutdown(mut self, _grace: Duration) -> Result<ExitReport> {
        self.owned.shutdown().await
    }

    /// Stops the runtime, even if it was to be paused or kept.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub async fn remove(mut self) -> Result<ExitReport> {
        self.owned.set_at_end(AtEnd::Remove);
        self.shutdown(Duration::ZERO).await
    }
}

impl Drop for HostedServer {
    fn drop(&mut self) {
        // The runtime ends first, so that nothing reports this end as that of the server.
        self.owned.end_now();
        self.running.removed();
    }
}

/// Finds the runtime of a session, resumes it if it is paused, or starts one.
async fn acquire(session: Session, known: bool, settings: Settings) -> Result<Lease<Session>> {
    // A random session id is new.
    let found = match known {
        true => session.api.session(&session.id).await?,
        false => None,
    };
    if let Some(runtime) = found {
        let status = runtime.status.clone();
        if status == "running" || status == "paused" {
            session.has_runtime(runtime.id.clone());
            if matches!(state(runtime), State::Paused) {
                session.resume().await?;
            }
            return Ok(Lease::found(session));
        }
    }
    let lease = Lease::new(session.clone(), settings.at_end);
    match session.api.start(settings.start_body(&session.id)).await {
        Ok(runtime) => {
            session.has_runtime(runtime.id);
            Ok(lease)
        }
        Err(error) => {
            let unclear = error.kind() == ErrorKind::Decode
                || error
                    .transport_error()
                    .is_some_and(oh_transport::Error::is_unclear);
            match unclear {
                // The runtime may have been started.
                true => lease.abandon().await,
                false => lease.forget(),
            }
            Err(error)
        }
    }
}
