//! A pool of servers that are started in advance: local ones, or servers in containers.

mod acquire;
mod local;
mod source;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::sleep,
};
use tracing::warn;

pub use acquire::Acquire;
pub use source::{PoolSource, Pooled};

use crate::{LocalServer, Status};
use store::Store;

/// First delay after a server could not be started. Doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Number of failed attempts in a row after which the pool waits for the next acquisition. They
/// take about four minutes.
const ATTEMPTS: u64 = 12;

/// A pool of dormant servers, each with its own keys and directories. [`acquire`](Self::acquire)
/// takes milliseconds, and a cold start 10 s or more.
///
/// On Linux, local spares are forked from a [`TemplateServer`](crate::TemplateServer) that the pool
/// starts first. The template uses about 290 MiB of memory, and each spare 76 MiB more. A spare
/// that was taken is replaced within seconds.
///
/// Some spares cannot be forked, for example because they need another value of a variable that is
/// read at import. These are started cold and use 340 MiB each; [`LocalServer::startup`] returns
/// the reason. A template that is set on the builder is used instead of the pool's own.
/// [`LocalServerBuilder::without_template`](crate::LocalServerBuilder::without_template) starts all
/// spares cold. Spares in containers are always started cold, because containers share nothing.
///
/// A spare uses no CPU time. Spares are started one after the other, because each start keeps a CPU
/// busy. Dropping the pool stops the spares and the pool's template, but not the servers that were
/// acquired.
///
/// A spare that dies is replaced. If a spare cannot be started, [`last_error`](Self::last_error)
/// and the next acquisition return the reason, and the pool tries again: 12 times, with delays of 1
/// to 30 s. Then it waits for an acquisition.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_process::Error> {
/// use oh_process::{LocalServer, WarmPool};
///
/// let pool = WarmPool::start(2, LocalServer::builder());
/// let server = pool.acquire().env("PROJECT", "one").await?;
/// println!("{}", server.url());
/// # Ok(()) }
/// ```
#[must_use = "the spares end when this is dropped"]
pub struct WarmPool<S: Pooled = LocalServer> {
    store: Arc<Store<S>>,
    filler: JoinHandle<()>,
}

impl<S: Pooled> WarmPool<S> {
    /// Starts to fill a pool with `spares` (at least 1) servers of this kind. `source` is the
    /// builder of a server. It should not set what only one server can have, such as a port, a
    /// state directory, a workspace or the name of a container: only the first spare could start.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a tokio runtime.
    pub fn start<B: PoolSource<Server = S>>(spares: usize, source: B) -> Self {
        let store = Arc::new(Store::new(spares));
        Self {
            filler: tokio::spawn(fill(store.clone(), source)),
            store,
        }
    }

    /// Takes a spare and activates it; await the result. If no spare is ready, waits for one. The
    /// pool is refilled in the background. A spare that has died is replaced by the next one.
    ///
    /// Cancel-safe: a spare that was taken but not returned is stopped.
    ///
    /// # Errors
    ///
    /// Returns an error if no spare is ready and the next attempt to start one fails, or if a spare
    /// rejects the activation. An acquisition ends the pool's delay between two attempts.
    pub fn acquire(&self) -> Acquire<S> {
        Acquire::new(self.store.clone())
    }

    /// Returns how many spares are ready now.
    pub fn ready(&self) -> usize {
        self.store.ready()
    }

    /// Returns why the last attempt to start a spare failed. Returns `None` if it succeeded, or if
    /// none was made yet.
    pub fn last_error(&self) -> Option<S::Error> {
        self.store.attempts.borrow().error.clone()
    }

    /// Stops the spares, which have nothing to save, and returns when they are gone.
    pub async fn shutdown(mut self) {
        self.filler.abort();
        // Aborting the task also stops a spare that it was starting.
        let _aborted = (&mut self.filler).await;
        drop_all(self.store.close()).await;
    }
}

/// Drops servers concurrently. Dropping one waits for its end.
async fn drop_all<S: Pooled>(servers: impl IntoIterator<Item = S>) {
    let mut ending = JoinSet::new();
    for server in servers {
        ending.spawn_blocking(move || drop(server));
    }
    let _ended = ending.join_all().await;
}

async fn fill<B: PoolSource>(store: Arc<Store<B::Server>>, mut source: B) {
    let mut kept = B::Kept::default();
    let mut pause = FIRST_PAUSE;
    let mut ends = JoinSet::new();
    loop {
        loop {
            for spare in store.dead() {
                // Not waited for: the next one can be started.
                let _ending = spawn_blocking(move || drop(spare));
            }
            if store.has_room() {
                break;
            }
            tokio::select! {
                () = store.room.notified() => {}
                Some(_) = ends.join_next() => {}
            }
        }
        match source.start_spare(&mut kept).await {
            Ok(server) => {
                let mut status = server.status_now();
                ends.spawn(async move {
                    let ended = |status: &Status| matches!(status, Status::Exited(_));
                    let _ended_or_dropped = status.wait_for(ended).await;
                });
                store.spares().push_back(server);
                store.succeeded();
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                warn!(%error, ?pause, "a spare server could not be started");
                if store.failed(error) >= ATTEMPTS {
                    warn!("the pool starts no spare until a server is acquired");
                    store.wanted.notified().await;
                    continue;
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    () = store.wanted.notified() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl<S: Pooled> Drop for WarmPool<S> {
    fn drop(&mut self) {
        self.filler.abort();
        drop(self.store.close());
    }
}

impl<S: Pooled> fmt::Debug for WarmPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmPool")
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::watch;

    use super::*;
    use crate::{Error, ErrorKind, start::activation::Activation};

    /// A spare without a server.
    struct Fake(watch::Receiver<Status>);

    impl Pooled for Fake {
        type Error = Error;

        fn status_now(&self) -> watch::Receiver<Status> {
            self.0.clone()
        }

        fn prepare(_: &mut Activation) -> Result<(), Error> {
            Ok(())
        }

        async fn activate_as(&mut self, _: &Activation) -> Result<(), Error> {
            Ok(())
        }

        fn is_gone(_: &Error) -> bool {
            false
        }

        fn pool_has_ended() -> Error {
            Error::new(ErrorKind::InvalidInput, "ended")
        }
    }

    /// Fails as often as requested.
    struct Source {
        failures: u64,
        made: Arc<AtomicU64>,
        status: watch::Sender<Status>,
    }

    impl PoolSource for Source {
        type Server = Fake;
        type Kept = ();

        async fn start_spare(&mut self, (): &mut ()) -> Result<Fake, Error> {
            if self.made.fetch_add(1, Ordering::Relaxed) < self.failures {
                return Err(Error::new(ErrorKind::Spawn, "no luck"));
            }
            Ok(Fake(self.status.subscribe()))
        }
    }

    fn pool(failures: u64) -> (WarmPool<Fake>, Arc<AtomicU64>) {
        let made = Arc::new(AtomicU64::new(0));
        let source = Source {
            failures,
            made: made.clone(),
            status: watch::Sender::new(Status::Ready),
        };
        (WarmPool::start(1, source), made)
    }

    /// Waits until nothing but time can change something.
    async fn hours() {
        sleep(Duration::from_secs(24 * 3600)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_reports_failures_and_gives_up_until_a_server_is_acquired() {
        let (pool, made) = pool(ATTEMPTS + 1);
        assert!(pool.last_error().is_none());
        hours().await;
        assert_eq!(made.load(Ordering::Relaxed), ATTEMPTS);
        assert_eq!(pool.last_error().unwrap().kind(), ErrorKind::Spawn);
        // One more attempt for each acquisition. The second one succeeds.
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Spawn);
        hours().await;
        assert_eq!(made.load(Ordering::Relaxed), ATTEMPTS + 1);
        drop(pool.acquire().await.unwrap());
        assert!(pool.last_error().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_recovers_from_failures_without_an_acquisition() {
        let (pool, made) = pool(ATTEMPTS - 1);
        hours().await;
        assert_eq!(made.load(Ordering::Relaxed), ATTEMPTS);
        assert!(pool.last_error().is_none());
        assert_eq!(pool.ready(), 1);
    }
}
