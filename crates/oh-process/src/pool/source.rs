//! The traits of the servers that a pool can hold, and of their builders.

use tokio::sync::watch;

use crate::{Status, internal::Activation};

/// A kind of server that a [`WarmPool`](crate::WarmPool) can hold: [`LocalServer`], and
/// `DockerServer` of the crate `oh-sandbox`. Only crates of this project implement this.
///
/// [`LocalServer`]: crate::LocalServer
pub trait Pooled: Send + Sync + Sized + 'static {
    /// The error of a start, and of an acquisition.
    type Error: std::error::Error + Clone + Send + Sync + 'static;

    /// Returns the server's status.
    #[doc(hidden)]
    fn status_now(&self) -> watch::Receiver<Status>;

    /// Rejects invalid values, and prepares what the others name. Called before a spare is taken.
    #[doc(hidden)]
    fn prepare(own: &mut Activation) -> Result<(), Self::Error>;

    /// Activates the server with the keys, variables and directories in `own`, and verifies it.
    #[doc(hidden)]
    fn activate_as(
        &mut self,
        own: &Activation,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns whether an activation failed because the server has ended.
    #[doc(hidden)]
    fn is_gone(error: &Self::Error) -> bool;

    /// Returns the error of an acquisition from a pool that has ended.
    #[doc(hidden)]
    fn pool_has_ended() -> Self::Error;
}

/// A builder of servers that a [`WarmPool`](crate::WarmPool) can start: [`LocalServerBuilder`], and
/// `DockerServerBuilder` of the crate `oh-sandbox`. Only crates of this project implement this.
///
/// [`LocalServerBuilder`]: crate::LocalServerBuilder
pub trait PoolSource: Send + 'static {
    /// The kind of the servers.
    type Server: Pooled;

    /// State that the pool keeps between the starts of spares.
    #[doc(hidden)]
    type Kept: Default + Send;

    /// Starts a dormant server. Cancel-safe: nothing is left if the future is dropped.
    #[doc(hidden)]
    fn start_spare(
        &mut self,
        kept: &mut Self::Kept,
    ) -> impl Future<Output = Result<Self::Server, <Self::Server as Pooled>::Error>> + Send;
}
