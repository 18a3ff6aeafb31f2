//! Servers started before they are wanted. Knows how to keep them; how each is run is a
//! [`LocalServer`]'s matter.

use std::{
    fmt,
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::sleep,
};
use tracing::warn;

use crate::{
    Error, ErrorKind, LocalServer, LocalServerBuilder, Result, Status, activation::Activation,
};

/// Between attempts when servers cannot be started.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps dormant servers ready, each with keys and directories of its own, so that
/// [`acquire`](Self::acquire) takes milliseconds where a start takes 12 to 16 s.
///
/// A spare holds some 350 MB of memory and no processor time. Spares are started one after the
/// other, for a start keeps a processor busy. Dropping the pool ends the spares, not the servers
/// that were acquired.
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
    spares: Arc<Mutex<mpsc::Receiver<Result<LocalServer>>>>,
    filler: JoinHandle<()>,
}

impl WarmPool {
    /// Begins to fill a pool with `spares` (at least 1) servers of this kind. A port, a state
    /// directory or a workspace of its own in `builder` would be every spare's, so only the
    /// first could start.
    pub fn start(spares: usize, builder: LocalServerBuilder) -> Self {
        let (sender, receiver) = mpsc::channel(spares.max(1));
        Self {
            spares: Arc::new(Mutex::new(receiver)),
            filler: tokio::spawn(fill(sender, builder.deferred_init(true))),
        }
    }

    /// Takes a spare and activates it; await it. Where none is ready it waits for one; the pool
    /// is filled up behind. Cancel safe: a spare taken and not handed out ends.
    ///
    /// # Errors
    ///
    /// When the next spare could not be started (the pool goes on trying, with pauses up to
    /// 30 s), or cannot be activated.
    pub fn acquire(&self) -> Acquire {
        Acquire {
            spares: self.spares.clone(),
            own: Activation::default(),
        }
    }

    /// How many spares are ready. Approximate while others acquire.
    pub fn ready(&self) -> usize {
        self.spares.try_lock().map_or(0, |spares| spares.len())
    }

    /// Ends the spares, which have nothing to save, and returns when they are gone.
    pub async fn shutdown(mut self) {
        self.filler.abort();
        // What it was starting ends with it.
        let _aborted = (&mut self.filler).await;
        let mut spares = self.spares.lock().await;
        spares.close();
        while spares.recv().await.is_some() {}
    }
}

async fn fill(spares: mpsc::Sender<Result<LocalServer>>, builder: LocalServerBuilder) {
    let mut pause = FIRST_PAUSE;
    // A permit is a place that is free.
    while let Ok(place) = spares.reserve().await {
        let started = Box::pin(builder.clone().start()).await;
        let failed = started.is_err();
        place.send(started);
        if failed {
            warn!(?pause, "a spare server could not be started");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
        }
    }
}

impl Drop for WarmPool {
    fn drop(&mut self) {
        self.filler.abort();
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
    spares: Arc<Mutex<mpsc::Receiver<Result<LocalServer>>>>,
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
        loop {
            let next = self.spares.lock().await.recv().await;
            let closed = || Error::new(ErrorKind::InvalidInput, "the pool has been shut down");
            let mut server = next.ok_or_else(closed)??;
            // One that died while it waited is no spare.
            if server.status().current() == Status::Ready {
                server.activate_as(&self.own).await?;
                return Ok(server);
            }
        }
    }
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
