//! Servers started before they are wanted. Knows how to keep them; how each is run is a
//! [`LocalServer`]'s matter.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
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
    Error, ErrorKind, LocalServer, LocalServerBuilder, Result, Startup, Status, TemplateServer,
    activation::Activation,
};

/// Between attempts when servers cannot be started.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many spares that died just then are replaced by the next before an acquisition fails.
const SPARES_TRIED: usize = 5;

/// Keeps dormant servers ready, each with keys and directories of its own, so that
/// [`acquire`](Self::acquire) takes milliseconds where a start takes 12 to 16 s.
///
/// On Linux the spares are forked from a [`TemplateServer`] that the pool starts first: the
/// template holds some 290 MiB of memory, each spare 76 MiB more, and a spare that was taken is
/// replaced within seconds. Where a spare cannot be forked, because it wants another value of a
/// variable that is read at import for example, spares are started cold and hold 340 MiB each;
/// [`LocalServer::startup`] says why. A template given to the builder is used instead of one of the
/// pool's own; [`LocalServerBuilder::without_template`] starts all spares cold.
///
/// A spare uses no processor time. Spares are started one after the other, for a start keeps a
/// processor busy. Dropping the pool ends the spares and its template, not the servers that were
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

/// What the pool, its filler and whoever acquires share.
struct Store {
    size: usize,
    spares: Mutex<VecDeque<LocalServer>>,
    /// How the attempts to start a spare went.
    attempts: watch::Sender<Attempts>,
    /// A spare was taken, or somebody waits for one.
    room: Notify,
    /// Somebody waits: a pause after a failure ends.
    wanted: Notify,
}

#[derive(Clone, Default)]
struct Attempts {
    made: u64,
    /// Why the last one failed, if it did.
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

    /// The oldest spare that is well. Whoever takes it says when there is [room](Refill).
    fn take(&self) -> Option<LocalServer> {
        let mut spares = self.spares();
        let at = spares.iter().position(LocalServer::is_ready)?;
        spares.remove(at)
    }

    /// Lets go of those that have ended for good; whether there is room for another.
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

    /// Ends all spares, and whoever waits for one.
    fn close(&self) {
        self.attempts.send_modify(|attempts| attempts.closed = true);
        let spares = std::mem::take(&mut *self.spares());
        drop(spares);
    }
}

impl WarmPool {
    /// Begins to fill a pool with `spares` (at least 1) servers of this kind. A port, a state
    /// directory or a workspace of its own in `builder` would be every spare's, so only the
    /// first could start.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
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

    /// Takes a spare and activates it; await it. Where none is ready it waits for one; the pool
    /// is filled up behind. A spare that has died is replaced by the next. Cancel safe: a spare
    /// taken and not handed out ends.
    ///
    /// # Errors
    ///
    /// When no spare is ready and the next attempt to start one fails, or a spare refuses to be
    /// activated. The pool goes on trying, with pauses of up to 30 s that an acquisition ends.
    pub fn acquire(&self) -> Acquire {
        Acquire {
            store: self.store.clone(),
            own: Activation::default(),
        }
    }

    /// How many spares are ready now.
    pub fn ready(&self) -> usize {
        self.store.ready()
    }

    /// Ends the spares, which have nothing to save, and returns when they are gone.
    pub async fn shutdown(mut self) {
        self.filler.abort();
        // What it was starting ends with it.
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

/// Starts a template for these servers, unless they have one or are not to have one.
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

/// Whether a template works, and yet servers like this one are not forked from it.
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

/// Takes a server from a [`WarmPool`]; await it.
#[must_use = "no server is taken until this is awaited"]
pub struct Acquire {
    store: Arc<Store>,
    own: Activation,
}

impl Acquire {
    /// A variable for the commands of this server's agents. Hidden in `Debug`; the agent can read
    /// it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.own.environment.push((name.into(), value.into()));
        self
    }

    /// The session key that this server is to take from now on, and no other. Without it, it
    /// keeps the one made for the spare.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.own.key = Some(key.into());
        self
    }

    /// The key that secrets in the state are encrypted with: needed where
    /// [`conversations_dir`](Self::conversations_dir) has conversations of another server.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.own.secret_key = Some(key.into());
        self
    }

    /// Where its conversations are kept, instead of in the spare's temporary state; made where it
    /// is missing, and not removed. One server at a time.
    pub fn conversations_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.conversations = Some(path.into());
        self
    }

    /// Where the history of its commands is kept, as above.
    pub fn bash_events_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.bash_events = Some(path.into());
        self
    }

    /// Where it puts the worktrees of conversations, as above.
    pub fn worktree_root(mut self, path: impl Into<PathBuf>) -> Self {
        self.own.worktrees = Some(path.into());
        self
    }

    async fn run(mut self) -> Result<LocalServer> {
        // No spare is wasted on what cannot be.
        self.own.prepare()?;
        // The next start would take the processor from the activation.
        let _afterwards = Refill(self.store.clone());
        let mut tried = 0;
        loop {
            let mut server = self.next().await?;
            match server.activate_as(&self.own).await {
                Ok(()) => return Ok(server),
                // It died before its supervisor noticed: the next one may be well.
                Err(error) if unanswered(&error) && tried < SPARES_TRIED => tried += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A spare that is ready; where there is none, what the next attempt comes to.
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
            // The store keeps the sender.
            let _changed = attempts.changed().await;
            let now = attempts.borrow().clone();
            match now.error {
                Some(error) if !now.closed => return Err(error),
                _ => {}
            }
        }
    }
}

/// Has the pool filled up when an acquisition is over, whichever way.
struct Refill(Arc<Store>);

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.room.notify_one();
    }
}

/// Whether a server gave no answer at all.
fn unanswered(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let transport = source.and_then(|source| source.downcast_ref::<oh_transport::Error>());
    transport.is_some_and(|error| error.status().is_none())
}

impl IntoFuture for Acquire {
    type Output = Result<LocalServer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}
