//! A pool of servers that are started in advance. Each of them is a [`LocalServer`].

use std::{
    collections::VecDeque,
    fmt,
    future::IntoFuture,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tracing::warn;

use crate::{
    Error, ErrorKind, LocalServer, LocalServerBuilder, Request, Result, Startup, Status,
    TemplateServer, start::activation::Activation,
};

/// First delay after a server could not be started. Doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Maximum number of dead spares that an acquisition replaces before it fails.
const SPARES_TRIED: usize = 5;

/// A pool of dormant servers, each with its own keys and directories. [`acquire`](Self::acquire)
/// takes milliseconds, and a cold start 10 s or more.
///
/// On Linux the spares are forked from a [`TemplateServer`] that the pool starts first. The
/// template uses about 290 MiB of memory, and each spare 76 MiB more. A spare that was taken is
/// replaced within seconds.
///
/// Some spares cannot be forked, for example because they need another value of a variable that is
/// read at import. These are started cold and use 340 MiB each; [`LocalServer::startup`] returns
/// the reason. A template that is set on the builder is used instead of the pool's own.
/// [`LocalServerBuilder::without_template`] starts all spares cold.
///
/// A spare uses no CPU time. Spares are started one after the other, because each start keeps a CPU
/// busy. Dropping the pool stops the spares and the pool's template, but not the servers that were
/// acquired.
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
pub struct WarmPool {
    store: Arc<Store>,
    filler: JoinHandle<()>,
}

/// State shared by the pool, the task that fills it and pending acquisitions.
struct Store {
    size: usize,
    spares: Mutex<VecDeque<LocalServer>>,
    /// Results of the attempts to start a spare.
    attempts: watch::Sender<Attempts>,
    /// Notified when a spare was taken, or an acquisition waits for one.
    room: Notify,
    /// Notified when an acquisition waits, to end the delay after a failure.
    wanted: Notify,
}

#[derive(Clone, Default)]
struct Attempts {
    made: u64,
    /// The error of the last attempt, if it failed.
    error: Option<Error>,
    closed: bool,
}

impl Store {
    fn spares(&self) -> MutexGuard<'_, VecDeque<LocalServer>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> usize {
        let spares = self.spares();
        spares.iter().filter(|spare| spare.is_ready()).count()
    }

    /// Removes and returns the oldest spare that is ready. The caller must announce the free place
    /// (see [`Refill`]).
    fn take(&self) -> Option<LocalServer> {
        let mut spares = self.spares();
        let at = spares.iter().position(LocalServer::is_ready)?;
        spares.remove(at)
    }

    /// Drops the spares that have exited permanently. Returns whether there is room for another.
    fn tidy(&self) -> bool {
        let (dead, left) = {
            let mut spares = self.spares();
            let ended = |spare: &LocalServer| matches!(spare.status().current(), Status::Exited(_));
            let all = std::mem::take(&mut *spares);
            let (dead, well): (Vec<_>, VecDeque<_>) = {
                let mut dead = Vec::new();
                let mut well = VecDeque::new();
                for spare in all {
                    match ended(&spare) {
                        true => dead.push(spare),
                        false => well.push_back(spare),
                    }
                }
                (dead, well)
            };
            *spares = well;
            (dead, spares.len())
        };
        drop(dead);
        left < self.size
    }

    /// Drops all spares and ends all pending acquisitions.
    fn close(&self) {
        self.attempts.send_modify(|attempts| attempts.closed = true);
        let spares = std::mem::take(&mut *self.spares());
        drop(spares);
    }
}

impl WarmPool {
    /// Starts to fill a pool with `spares` (at least 1) servers of this kind. The builder should
    /// not set a port, state directory or workspace: all spares would share it, so only the first
    /// could start.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a tokio runtime.
    pub fn start(spares: usize, builder: LocalServerBuilder) -> Self {
        let store = Arc::new(Store {
            size: spares.max(1),
            spares: Mutex::default(),
            attempts: watch::Sender::default(),
            room: Notify::new(),
            wanted: Notify::new(),
        });
        Self {
            filler: tokio::spawn(fill(store.clone(), builder.deferred_init(true))),
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
    /// rejects the activation. The pool keeps retrying, with delays of up to 30 s. An acquisition
    /// cuts the delay short.
    pub fn acquire(&self) -> Acquire {
        Acquire {
            store: self.store.clone(),
            own: Activation::default(),
        }
    }

    /// Returns how many spares are ready now.
    pub fn ready(&self) -> usize {
        self.store.ready()
    }

    /// Stops the spares, which have nothing to save, and returns when they are gone.
    pub async fn shutdown(mut self) {
        self.filler.abort();
        // Aborting the task also stops a spare that it was starting.
        let _aborted = (&mut self.filler).await;
        self.store.close();
    }
}

async fn fill(store: Arc<Store>, builder: LocalServerBuilder) {
    let mut template = Box::pin(own_template(&builder)).await;
    let mut builder = match &template {
        Some(template) => builder.template(template),
        None => builder,
    };
    let mut pause = FIRST_PAUSE;
    let mut ends = JoinSet::new();
    loop {
        while !store.tidy() {
            tokio::select! {
                () = store.room.notified() => {}
                Some(_) = ends.join_next() => {}
            }
        }
        match Box::pin(builder.clone().start()).await {
            Ok(server) => {
                if template
                    .as_ref()
                    .is_some_and(|template| is_useless(template, &server))
                {
                    template = None;
                    builder = builder.without_template();
                }
                let mut status = server.status();
                ends.spawn(async move {
                    let ended = |status: &Status| matches!(status, Status::Exited(_));
                    let _ended_or_dropped = status.wait_for(ended).await;
                });
                store.spares().push_back(server);
                store.attempts.send_modify(|attempts| {
                    attempts.made += 1;
                    attempts.error = None;
                });
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                warn!(%error, ?pause, "a spare server could not be started");
                store.attempts.send_modify(|attempts| {
                    attempts.made += 1;
                    attempts.error = Some(error);
                });
                tokio::select! {
                    () = sleep(pause) => {}
                    () = store.wanted.notified() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Starts a template for these servers, unless the builder has one or disables forking.
async fn own_template(builder: &LocalServerBuilder) -> Option<TemplateServer> {
    let template = builder.own_template()?;
    match template.start().await {
        Ok(template) => Some(template),
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => {
            warn!(%error, "there is no template for spare servers; starting them cold");
            None
        }
    }
}

/// Returns whether the template works but cannot fork servers like this one.
fn is_useless(template: &TemplateServer, server: &LocalServer) -> bool {
    let refused = matches!(server.startup(), Startup::Fallback(_));
    refused && template.statistics().forked == 0 && template.pid().is_some()
}

impl Drop for WarmPool {
    fn drop(&mut self) {
        self.filler.abort();
        self.store.close();
    }
}

impl fmt::Debug for WarmPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmPool")
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

/// A pending acquisition from a [`WarmPool`]. Await it to take a server.
#[must_use = "no server is taken until this is awaited"]
pub struct Acquire {
    store: Arc<Store>,
    own: Activation,
}

impl Acquire {
    /// Sets a variable for the commands of this server's agents. `Debug` hides the value; the agent
    /// can read it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.own.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the only session key that this server accepts from now on. Default: the key that was
    /// created for the spare.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.own.key = Some(key.into());
        self
    }

    /// Sets the key that encrypts secrets in the state. Required if
    /// [`conversations_dir`](Self::conversations_dir) contains conversations of another server.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.own.secret_key = Some(key.into());
        self
    }

    /// Sets the directory for the server's conversations, instead of the spare's temporary state. A
    /// missing directory is created, and the directory is not removed afterwards. Only one server
    /// at a time may use it.
    pub fn conversations_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.conversations = Some(path.into());
        self
    }

    /// Sets the directory for the command history, under the same conditions as
    /// [`conversations_dir`](Self::conversations_dir).
    pub fn bash_events_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.bash_events = Some(path.into());
        self
    }

    /// Sets the directory for the worktrees of conversations, under the same conditions as
    /// [`conversations_dir`](Self::conversations_dir).
    pub fn worktree_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.worktrees = Some(path.into());
        self
    }

    async fn run(mut self) -> Result<LocalServer> {
        // Invalid input must not cost a spare.
        self.own.prepare()?;
        // Refill only after the activation: starting the next spare would take its CPU time.
        let _afterwards = Refill(self.store.clone());
        let mut tried = 0;
        loop {
            let mut server = self.next().await?;
            match server.activate_as(&self.own).await {
                Ok(()) => return Ok(server),
                // The spare died before its supervisor noticed. The next one may work.
                Err(error) if unanswered(&error) && tried < SPARES_TRIED => tried += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns a spare that is ready. Without one, waits for the next attempt to start one.
    async fn next(&self) -> Result<LocalServer> {
        let mut attempts = self.store.attempts.subscribe();
        loop {
            let closed = attempts.borrow_and_update().closed;
            if closed {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the pool has been shut down",
                ));
            }
            if let Some(server) = self.store.take() {
                return Ok(server);
            }
            self.store.wanted.notify_one();
            self.store.room.notify_one();
            // Cannot fail: the store keeps the sender.
            let _changed = attempts.changed().await;
            let now = attempts.borrow().clone();
            match now.error {
                Some(error) if !now.closed => return Err(error),
                _ => {}
            }
        }
    }
}

/// Lets the pool refill when an acquisition ends, whether it succeeded or not.
struct Refill(Arc<Store>);

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.room.notify_one();
    }
}

/// Returns whether the server sent no response at all.
fn unanswered(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let transport = source.and_then(|source| source.downcast_ref::<oh_transport::Error>());
    transport.is_some_and(|error| error.status().is_none())
}

impl IntoFuture for Acquire {
    type Output = Result<LocalServer>;
    type IntoFuture = Request<LocalServer>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.run())
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}
