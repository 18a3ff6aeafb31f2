//! [`CloudServer`], which owns a server in a sandbox of OpenHands Cloud.

use std::time::Duration;

use oh_process::internal::LogHub;
use oh_protocol::config::{Llm, McpServer, SecretSource};

use crate::{
    Error, ErrorKind, ExitReport, InsideSandbox, Request, Result,
    hosted::{
        cloud::{
            api::Cloud, lookups::Lookups, options::Options, place::Place, sandboxes::ExposedUrl,
        },
        lease::Lease,
        owned::{Owned, stopped},
        ready::verified,
        service::{Service, State},
        settings::AtEnd,
        verify::Candidate,
    },
    running::{RunningServer, running_server},
};

/// A running server in a sandbox of OpenHands Cloud, owned by this value. The sandbox is deleted
/// when this value is dropped, and when [`shutdown`](Self::shutdown) returns, unless
/// [`at_end`](crate::CloudServerBuilder::at_end) says otherwise.
///
/// Dropping waits until the sandbox is deleted, for at most 10 s. Prefer `shutdown`, which reports
/// a failure. If this process is killed, the sandbox stays until the service ends it: find it again
/// with its [`sandbox_id`](crate::CloudServerBuilder::sandbox_id).
///
/// The state of the sandbox is requested every 10 s. If the sandbox fails or vanishes, the status
/// becomes [`Status::Exited`](crate::Status::Exited), and runs that wait for the server end with
/// the reason. The service has no stream of logs, so [`logs`](Self::logs) yields nothing.
///
/// ```no_run
/// # async fn run(key: oh_sandbox::secrecy::SecretString) -> Result<(), oh_sandbox::Error> {
/// use std::time::Duration;
/// use oh_sandbox::CloudServer;
///
/// let server = CloudServer::builder(key).start().await?;
/// println!("{} in sandbox {}", server.url(), server.id());
/// server.shutdown(Duration::ZERO).await?;
/// # Ok(()) }
/// ```
#[must_use = "the sandbox is deleted when this is dropped"]
pub struct CloudServer {
    /// `None` if this process runs in the sandbox.
    owned: Option<Owned<Place>>,
    lookups: Lookups,
    running: RunningServer,
}

running_server!(
    CloudServer,
    "Returns the id of the sandbox, with which it is found again.",
    "sandbox",
    fn pause(&self) -> Request<()> {
        self.pause()
    },
    fn resume(&self) -> Request<()> {
        self.resume()
    }
);

impl CloudServer {
    pub(crate) async fn start(options: Options) -> Result<Self> {
        let cloud = options.cloud.build()?;
        let network = cloud.network().clone();
        let (times, at_end) = (options.times, options.at_end);
        let workspace = options.workspace.clone();
        let mut lease = Lease::acquire(acquire(cloud, options)).await?;
        match verified(lease.service(), &network, &times, workspace).await {
            Ok((running, reached)) => {
                lease.confirm(at_end);
                let lookups = Lookups {
                    cloud: lease.service().cloud.clone(),
                    sandbox_id: Some(reached.id.clone()),
                    key: reached.key.clone(),
                };
                let owned = Owned::new(lease, reached, network, times, &running);
                Ok(Self {
                    owned: Some(owned),
                    lookups,
                    running,
                })
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// Attaches to the server of the sandbox that this process runs in.
    pub(crate) async fn inside(options: Options, inside: InsideSandbox) -> Result<Self> {
        let cloud = options.cloud.build()?;
        let InsideSandbox {
            port,
            key,
            sandbox_id,
        } = inside;
        let candidate = Candidate {
            url: &format!("http://127.0.0.1:{port}"),
            key: &key,
            network: cloud.network(),
            request: options.times.first_message,
        };
        let (client, info) = candidate.verified(options.times.ready).await?;
        let logs = LogHub::new(vec![key.clone()]);
        let id = sandbox_id.clone().unwrap_or_default();
        let workspace = options.workspace;
        let running = RunningServer::new(id, client, key.clone(), info, logs, workspace);
        let lookups = Lookups {
            cloud,
            sandbox_id,
            key,
        };
        Ok(Self {
            owned: None,
            lookups,
            running,
        })
    }

    /// Returns the client of the service's API, with the same key.
    pub fn cloud(&self) -> &Cloud {
        &self.lookups.cloud
    }

    /// Requests the model that the account has chosen, with its key. The key is on its way through
    /// this process, which does not show or store it: the agent server has no lookup for it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the account has no model, and otherwise as for
    /// [`Cloud::call`].
    pub fn llm(&self) -> Request<Llm> {
        let lookups = self.lookups.clone();
        Request::new(async move { lookups.llm(None).await })
    }

    /// Requests a stored profile of a model, with its key, like [`llm`](Self::llm).
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the account does not have the profile, and otherwise as
    /// for [`Cloud::call`].
    pub fn llm_profile(&self, name: impl Into<String>) -> Request<Llm> {
        let (lookups, name) = (self.lookups.clone(), name.into());
        Request::new(async move { lookups.llm(Some(&name)).await })
    }

    /// Requests the names of the account's secrets, and returns a lookup for each. The agent server
    /// requests a value from the service when a command needs it, so no value comes to this
    /// process. Tokens of connected providers, such as `github_token`, are included.
    ///
    /// # Errors
    ///
    /// As for [`Cloud::call`].
    pub fn secrets(&self) -> Request<Vec<(String, SecretSource)>> {
        let lookups = self.lookups.clone();
        Request::new(async move { lookups.secrets().await })
    }

    /// Requests the MCP servers of the account, for
    /// [`Agent::mcp_servers`](oh_protocol::config::Agent::mcp_servers).
    ///
    /// # Errors
    ///
    /// As for [`Cloud::call`].
    pub fn mcp_servers(&self) -> Request<Vec<(String, McpServer)>> {
        let lookups = self.lookups.clone();
        Request::new(async move { lookups.mcp_servers().await })
    }

    /// Requests the URLs of the services in the sandbox.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the service does not have the sandbox any more, and
    /// otherwise as for [`Cloud::call`].
    pub fn exposed_urls(&self) -> Request<Vec<ExposedUrl>> {
        let (cloud, id) = (self.cloud().clone(), self.id().to_owned());
        Request::new(async move {
            match cloud.sandbox(&id).await? {
                Some(sandbox) => Ok(sandbox.exposed_urls),
                None => {
                    let message =
                        format!("OpenHands Cloud does not have the sandbox {id} any more");
                    Err(Error::new(ErrorKind::NotFound, message))
                }
            }
        })
    }

    /// Requests the URL of a service in the sandbox, such as [`ExposedUrl::VSCODE`]. Returns `None`
    /// if the sandbox does not have the service.
    ///
    /// # Errors
    ///
    /// As for [`exposed_urls`](Self::exposed_urls).
    pub fn exposed_url(&self, name: impl Into<String>) -> Request<Option<String>> {
        let (urls, name) = (self.exposed_urls(), name.into());
        Request::new(async move {
            let mut urls = urls.await?.into_iter();
            Ok(urls.find(|url| url.name == name).map(|url| url.url))
        })
    }

    /// Pauses the sandbox: its processes end, and its disk is kept. The status is
    /// [`Status::Paused`](crate::Status::Paused) until [`resume`](Self::resume). A run that waits
    /// for the server continues to wait.
    ///
    /// The server first saves and releases its conversations if you call
    /// `Conversations::of(&client).prepare_pause()` before.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if this process runs in the sandbox,
    /// [`NotFound`](ErrorKind::NotFound) if the service does not have the sandbox any more, and
    /// otherwise as for [`Cloud::call`].
    pub fn pause(&self) -> Request<()> {
        match &self.owned {
            Some(owned) => owned.pause(),
            None => not_owned(),
        }
    }

    /// Resumes a paused sandbox, and waits until the server is ready and verified again.
    ///
    /// # Errors
    ///
    /// As for [`pause`](Self::pause), and [`NotReady`](ErrorKind::NotReady) if the server is not
    /// ready within the time of [`ready_within`](crate::CloudServerBuilder::ready_within). No new
    /// sandbox is started instead.
    pub fn resume(&self) -> Request<()> {
        match &self.owned {
            Some(owned) => owned.resume(),
            None => not_owned(),
        }
    }

    /// Deletes the sandbox, or does what [`at_end`](crate::CloudServerBuilder::at_end) says. The
    /// service has no grace period, so `_grace` has no effect, and reports no exit status: the
    /// report is that of a server that was stopped by SIGTERM.
    ///
    /// Failures that may pass are tried again for at most 10 s.
    ///
    /// If this process runs in the sandbox, nothing happens, and the same report is returned.
    ///
    /// Cancel-safe: dropping the future deletes the sandbox at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the service does not delete the sandbox.
    pub async fn shutdown(mut self, _grace: Duration) -> Result<ExitReport> {
        match &mut self.owned {
            Some(owned) => owned.shutdown().await,
            None => Ok(stopped()),
        }
    }

    /// Deletes the sandbox, even if it was to be paused or kept.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub async fn remove(mut self) -> Result<ExitReport> {
        if let Some(owned) = &mut self.owned {
            owned.set_at_end(AtEnd::Remove);
        }
        self.shutdown(Duration::ZERO).await
    }
}

impl Drop for CloudServer {
    fn drop(&mut self) {
        // The sandbox ends first, so that nothing reports this end as that of the server.
        if let Some(owned) = &mut self.owned {
            owned.end_now();
        }
        self.running.removed();
    }
}

fn not_owned() -> Request<()> {
    let message = "this process runs in the sandbox, so it cannot pause or resume it";
    Request::new(async move { Err(Error::new(ErrorKind::Unsupported, message)) })
}

/// Finds a sandbox and resumes it if it is paused, or starts one.
async fn acquire(cloud: Cloud, options: Options) -> Result<Lease<Place>> {
    let slow = options.times.start;
    let Some(id) = options.sandbox_id else {
        let id = cloud.start_sandbox(options.spec.as_deref(), slow).await?;
        return Ok(Lease::new(Place { cloud, id, slow }, options.at_end));
    };
    let place = Place { cloud, id, slow };
    match place.state().await? {
        State::Ready(_) | State::Waiting(_) => {}
        State::Paused => place.resume().await?,
        State::Ended(ended) => return Err(ended.into_error()),
        State::Missing => {
            let message = format!(
                "OpenHands Cloud does not have the sandbox {}; check the id and the account, or \
                 start another one",
                place.id
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
    }
    Ok(Lease::found(place))
}
