//! An acquisition: takes a spare, and activates it with the keys of its new user.

use std::{fmt, future::IntoFuture, path::PathBuf, sync::Arc};

use oh_transport::RequestFuture;
use secrecy::SecretString;
use tokio::task::spawn_blocking;

use super::{source::Pooled, store::Store};
use crate::{LocalServer, start::activation::Activation};

/// Maximum number of dead spares that an acquisition replaces before it fails.
const SPARES_TRIED: usize = 5;

/// A pending acquisition from a [`WarmPool`](crate::WarmPool). Await it to take a server.
#[must_use = "no server is taken until this is awaited"]
pub struct Acquire<S: Pooled = LocalServer> {
    store: Arc<Store<S>>,
    own: Activation,
}

impl<S: Pooled> Acquire<S> {
    pub(super) fn new(store: Arc<Store<S>>) -> Self {
        Self {
            store,
            own: Activation::default(),
        }
    }

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

    /// Sets the directory for the server's conversations, instead of the spare's temporary state.
    /// A missing directory is created, and the directory is not removed afterwards. Only one server
    /// at a time may use it. For a server in a container, this is an absolute path in the
    /// container.
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

    async fn run(mut self) -> Result<S, S::Error> {
        // Invalid input must not cost a spare.
        S::prepare(&mut self.own)?;
        // Refill only after the activation: starting the next spare would take its CPU time.
        let _afterwards = Refill(self.store.clone());
        let mut tried = 0;
        loop {
            let mut server = self.next().await?;
            match server.activate_as(&self.own).await {
                Ok(()) => return Ok(server),
                // The spare died before its supervisor noticed. The next one may work.
                Err(error) if S::is_gone(&error) && tried < SPARES_TRIED => {
                    tried += 1;
                    // Not waited for: the removal of a container takes some time.
                    let _ending = spawn_blocking(move || drop(server));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns a spare that is ready. Without one, waits for the next attempt to start one.
    async fn next(&self) -> Result<S, S::Error> {
        let mut attempts = self.store.attempts.subscribe();
        loop {
            let closed = attempts.borrow_and_update().closed;
            if closed {
                return Err(S::pool_has_ended());
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
struct Refill<S: Pooled>(Arc<Store<S>>);

impl<S: Pooled> Drop for Refill<S> {
    fn drop(&mut self) {
        self.0.room.notify_one();
    }
}

impl<S: Pooled> IntoFuture for Acquire<S> {
    type Output = Result<S, S::Error>;
    type IntoFuture = RequestFuture<S, S::Error>;

    fn into_future(self) -> Self::IntoFuture {
        RequestFuture::new(self.run())
    }
}

impl<S: Pooled> fmt::Debug for Acquire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}
