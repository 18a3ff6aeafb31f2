//! The interface between a fleet and the kinds of servers that it can start.

use std::{fmt, pin::Pin, time::Duration};

use oh_process::{AttachedServer, LocalServer};
use oh_transport::WorkspaceHandle;

use super::failure::StartError;
use crate::{Request, Sandbox};

/// A start in progress. Dropping it ends a server that is being started.
pub type Starting = Pin<Box<dyn Future<Output = Result<Box<dyn FleetServer>, StartError>> + Send>>;

/// A search for a server in progress.
pub type Finding =
    Pin<Box<dyn Future<Output = Result<Option<Box<dyn FleetServer>>, StartError>> + Send>>;

/// Starts the servers of a [`Fleet`](crate::Fleet).
///
/// The builders of all servers implement this, and so do a `WarmPool`, and
/// [`AttachedServers`](crate::AttachedServers) for servers that other programs run. For anything
/// else, pass a closure to [`provider_fn`].
pub trait Provider: Send + Sync + 'static {
    /// Starts a server. The future owns what it needs.
    fn start(&self) -> Starting;

    /// Finds the server with a name that [`FleetServer::name`] returned, perhaps in another
    /// process. Default: there is none, because servers end with their owner. Servers of a list and
    /// sandboxes of OpenHands Cloud are found.
    fn find(&self, name: &str) -> Finding {
        let _not_found = name;
        Box::pin(async { Ok(None) })
    }

    /// Returns the number of servers there can be at once, if this kind has a limit.
    fn limit(&self) -> Option<usize> {
        None
    }
}

/// A server in a [`Fleet`](crate::Fleet). Every [`Sandbox`] is one. Dropping the server ends it.
pub trait FleetServer: WorkspaceHandle + fmt::Debug + Send + Sync {
    /// Returns a name for logs and journals, such as the id of a container. Contains no secret.
    fn name(&self) -> String;

    /// Ends the server: asks it to end, and kills it after `grace`.
    fn stop(self: Box<Self>, grace: Duration) -> Request<()>;
}

impl<S: Sandbox + 'static> FleetServer for S {
    fn name(&self) -> String {
        self.id().to_owned()
    }

    fn stop(self: Box<Self>, grace: Duration) -> Request<()> {
        let ended = Sandbox::shutdown(self, grace);
        Request::new(async move { ended.await.map(drop) })
    }
}

impl FleetServer for LocalServer {
    fn name(&self) -> String {
        self.url().as_str().trim_end_matches('/').to_owned()
    }

    fn stop(self: Box<Self>, grace: Duration) -> Request<()> {
        Request::new(async move {
            let ended = (*self).shutdown(grace).await;
            ended
                .map(drop)
                .map_err(|error| StartError::from(error).error().clone())
        })
    }
}

/// Creates a [`Provider`] from a function that starts a server.
///
/// ```no_run
/// use oh_process::LocalServer;
/// use oh_sandbox::{Fleet, StartError, provider_fn};
///
/// # async fn run() {
/// let provider = provider_fn(|| async {
///     let server = LocalServer::builder().start().await?;
///     Ok::<_, StartError>(server)
/// });
/// let fleet = Fleet::builder(provider).size(4).start();
/// # drop(fleet); }
/// ```
pub fn provider_fn<F, Fut, S>(start: F) -> impl Provider
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, StartError>> + Send + 'static,
    S: FleetServer + 'static,
{
    Function(start)
}

struct Function<F>(F);

impl<F, Fut, S> Provider for Function<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, StartError>> + Send + 'static,
    S: FleetServer + 'static,
{
    fn start(&self) -> Starting {
        let starting = (self.0)();
        Box::pin(async move { Ok(boxed(starting.await?)) })
    }
}

pub(super) fn boxed(server: impl FleetServer + 'static) -> Box<dyn FleetServer> {
    Box::new(server)
}

/// Checks that a server that another program runs is ready.
pub(super) async fn attach(client: oh_transport::Client) -> Result<(), StartError> {
    AttachedServer::attach(client).await?;
    Ok(())
}
