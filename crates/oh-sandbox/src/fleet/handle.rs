//! [`Fleet`], the handle of a program.

use std::{fmt, sync::Arc, time::Duration};

use oh_transport::{LeaseError, RequestFuture, ServerLease, ServerSource};
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, info_span};

use super::{
    lease::Lease,
    observe::FleetEvent,
    stats::FleetStats,
    store::{Place, Store},
};
use crate::{Error, ErrorKind, Request, Result};

/// A bounded number of servers that conversations share. Cheap to clone; the servers end when the
/// last clone is dropped.
///
/// [`acquire`](Self::acquire) gives a [`Lease`], in the order of the requests. Servers are started
/// when they are needed, and up to [`warm`](crate::FleetBuilder::warm) in advance. A server that
/// has ended is replaced. A start that fails is retried if another attempt may succeed.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use oh_process::LocalServer;
/// use oh_sandbox::Fleet;
///
/// let fleet = Fleet::builder(LocalServer::builder()).size(8).warm(2).start();
/// let lease = fleet.acquire().await?;
/// println!("{} {}", lease.name(), lease.working_dir());
/// // … start a conversation with `&lease` as its workspace …
/// drop(lease);
/// println!("{}", fleet.stats());
/// fleet.shutdown(Duration::from_secs(60)).await;
/// # Ok(()) }
/// ```
///
/// # Cleanup
///
/// Servers of this project end with the process that started them, even after `kill -9`: see
/// `LocalServer`, [`Sandbox`](crate::Sandbox) and their kinds.
#[derive(Clone)]
pub struct Fleet(Arc<Owner>);

/// Ends the fleet when it is dropped. Leases do not keep the fleet alive.
struct Owner(Arc<Store>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Fleet {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self(Arc::new(Owner(store)))
    }

    /// Waits for a place on a server. Requests are served in their order.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Timeout`] after [`wait_at_most`](crate::FleetBuilder::wait_at_most).
    /// - [`ErrorKind::Conflict`] if the fleet was shut down.
    /// - The error of the last start if no server could be started, and there is no other.
    ///   [`ErrorKind::NoServer`] for errors of other crates.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a request that is dropped leaves the queue, and a place that it already got is
    /// returned.
    pub fn acquire(&self) -> Request<Lease> {
        let store = self.store().clone();
        Request::new(async move { acquire(store, None).await.map(Lease::new) })
    }

    /// Waits for a place on the server with this name, if the fleet has it or the provider finds
    /// it: see [`Provider::find`](crate::Provider::find). Returns `None` if not.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`acquire`](Self::acquire), and errors of the provider's search.
    pub fn acquire_from(&self, name: impl Into<String>) -> Request<Option<Lease>> {
        let (store, name) = (self.store().clone(), name.into());
        Request::new(async move {
            match store.find(&name).await? {
                true => acquire(store, Some(name)).await.map(Lease::new).map(Some),
                false => Ok(None),
            }
        })
    }

    /// Returns what the fleet has now, and what it has done.
    pub fn stats(&self) -> FleetStats {
        self.store().stats()
    }

    /// Shuts the fleet down: gives no more leases, fails requests that wait, and waits until the
    /// leases are returned and their servers have ended. After `limit`, ends the servers of the
    /// other leases too. Returns the number of those leases: 0 if all were returned.
    ///
    /// Cancel-safe: dropping the future leaves the fleet closed; call this again, or drop the
    /// fleet.
    pub async fn shutdown(&self, limit: Duration) -> usize {
        let store = self.store();
        store.close();
        store.drain(limit).await
    }

    fn store(&self) -> &Arc<Store> {
        &self.0.0
    }
}

/// A request. Reported as abandoned unless it ends.
struct Asking {
    store: Arc<Store>,
    since: Instant,
    ended: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended {
            let waited = self.since.elapsed();
            self.store.emit(&FleetEvent::Abandoned { waited });
        }
    }
}

async fn acquire(store: Arc<Store>, name: Option<String>) -> Result<Place> {
    let span = info_span!("fleet.acquire", server = tracing::field::Empty);
    let recorded = span.clone();
    let acquiring = async move {
        store.emit(&FleetEvent::Requested);
        let mut asking = Asking {
            store: store.clone(),
            since: Instant::now(),
            ended: false,
        };
        let place = match store.settings.wait {
            Some(limit) => timeout(limit, store.wait(name)).await.unwrap_or_else(|_| {
                let what = format!("the fleet had no free server within {limit:?}");
                Err(Error::new(ErrorKind::Timeout, what))
            }),
            None => store.wait(name).await,
        };
        asking.ended = true;
        let waited = asking.since.elapsed();
        match &place {
            Ok(place) => {
                recorded.record("server", place.name.as_str());
                store.emit(&FleetEvent::Leased {
                    server: &place.name,
                    waited,
                    reused: place.reused,
                });
            }
            Err(error) => {
                let kind = error.kind();
                store.emit(&FleetEvent::Refused { kind, waited });
            }
        }
        place
    };
    acquiring.instrument(span).await
}

impl ServerSource for Fleet {
    fn places(&self) -> usize {
        let settings = &self.store().settings;
        settings.size.saturating_mul(settings.at_once)
    }

    fn lease(&self) -> RequestFuture<Box<dyn ServerLease>, LeaseError> {
        let acquiring = self.acquire();
        RequestFuture::new(async move {
            let lease = acquiring.await?;
            Ok(Box::new(lease) as Box<dyn ServerLease>)
        })
    }

    fn lease_of(&self, name: &str) -> RequestFuture<Option<Box<dyn ServerLease>>, LeaseError> {
        let acquiring = self.acquire_from(name);
        RequestFuture::new(async move {
            let lease = acquiring.await?;
            Ok(lease.map(|lease| Box::new(lease) as Box<dyn ServerLease>))
        })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Fleet")
            .field("servers", &stats.servers)
            .field("leased", &stats.leased)
            .field("waiting", &stats.waiting)
            .finish_non_exhaustive()
    }
}
